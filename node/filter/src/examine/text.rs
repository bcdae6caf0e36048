//! What an answer is made of: its length, its words, how it begins.

use std::borrow::Cow;

use talkoot_dataset::{Sample, chat::Role};
use unicode_segmentation::UnicodeSegmentation;

use crate::{
    config::AnswerRules,
    rule::{Broken, Rule},
};

/// Most characters of a text that evidence shows.
const SHOWN: usize = 60;

/// The answers of a sample.
pub(super) fn answers(sample: &Sample) -> impl Iterator<Item = &str> {
    said_by(sample, Role::Assistant)
}

/// What is asked in a sample.
pub(super) fn questions(sample: &Sample) -> impl Iterator<Item = &str> {
    said_by(sample, Role::User)
}

fn said_by(sample: &Sample, role: Role) -> impl Iterator<Item = &str> {
    sample.messages.iter().filter(move |message| message.role == role).map(|message| message.text.as_str())
}

/// Characters of all answers together.
pub(super) fn characters(sample: &Sample) -> u64 {
    answers(sample).map(|answer| answer.trim().chars().count() as u64).sum()
}

/// The words of a text, as Unicode divides it, without punctuation.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.unicode_words()
}

/// A text in lower case, apostrophes straight, without what stands before its first letter or digit.
pub(super) fn plain(text: &str) -> String {
    let straight: Cow<'_, str> =
        if text.contains('\u{2019}') { text.replace('\u{2019}', "'").into() } else { text.into() };
    straight.trim_start_matches(|c: char| !c.is_alphanumeric()).trim_end().to_lowercase()
}

fn shown(text: &str) -> String {
    let text = text.trim();
    let short: String = text.chars().take(SHOWN).collect();
    if short.len() < text.len() { format!("{short:?}…") } else { format!("{short:?}") }
}

pub(super) fn judge_length(answer: &str, rules: &AnswerRules, broken: &mut Vec<Broken>) {
    let characters = answer.trim().chars().count();
    let measured = || format!("answer {} has {characters} characters", shown(answer));
    if characters < rules.min_characters as usize {
        broken.push(Broken::new(Rule::Short, measured(), format!("at least {}", rules.min_characters)));
    }
    if characters > rules.max_characters as usize {
        broken.push(Broken::new(Rule::Long, measured(), format!("at most {}", rules.max_characters)));
    }
}

pub(super) fn judge_repeats(answer: &str, rules: &AnswerRules, broken: &mut Vec<Broken>) {
    if rules.repeated_words == 0 {
        return;
    }
    let (word, times) = longest_repeat(answer);
    if times >= rules.repeated_words {
        let measured = format!("{} stands {times} times in a row", shown(&word));
        broken.push(Broken::new(Rule::Repeated, measured, format!("fewer than {}", rules.repeated_words)));
    }
}

/// The word that is said most often in a row, and how often; case doesn't matter.
fn longest_repeat(text: &str) -> (String, u32) {
    let mut longest = (String::new(), 0);
    let (mut last, mut times) = (String::new(), 0);
    for word in words(text) {
        let lower = word.to_lowercase();
        times = if lower == last { times + 1 } else { 1 };
        last = lower;
        if times > longest.1 {
            longest = (last.clone(), times);
        }
    }
    longest
}

/// `openings` are [`plain`] already.
pub(super) fn judge_refusal(answer: &str, openings: &[String], anywhere: bool, broken: &mut Vec<Broken>) {
    if openings.is_empty() {
        return;
    }
    let answer = plain(answer);
    let found = openings.iter().find(|opening| {
        let mut places = answer.match_indices(opening.as_str()).map(|(at, _)| at);
        places.any(|at| (anywhere || at == 0) && stands_alone(&answer, at, opening.len()))
    });
    if let Some(opening) = found {
        let (how, limit) = match anywhere {
            true => ("says", "no answer may say this"),
            false => ("begins with", "no answer may begin like this"),
        };
        broken.push(Broken::new(
            Rule::Refusal,
            format!("answer {} {how} {opening:?}", shown(&answer)),
            limit,
        ));
    }
}

/// Whether the words at `at` are whole words.
fn stands_alone(text: &str, at: usize, length: usize) -> bool {
    let letter = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    !letter(text[..at].chars().next_back()) && !letter(text[at + length..].chars().next())
}

pub(super) fn judge_marks(sample: &Sample, marks: &[String], broken: &mut Vec<Broken>) {
    for (turn, message) in sample.messages.iter().enumerate() {
        if let Some(mark) = marks.iter().find(|mark| message.text.contains(mark.as_str())) {
            let measured = format!("turn {turn} holds {mark:?}");
            broken.push(Broken::new(Rule::Mark, measured, "marks of other layouts must be converted"));
            return;
        }
    }
}

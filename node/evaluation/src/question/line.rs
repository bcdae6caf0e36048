//! One line of a question file.

use serde::Deserialize;
use talkoot_dataset::{
    Roots,
    chat::{self, IMAGE_PLACEHOLDER, Message, Role},
    tokenizer::SPECIAL_TOKENS,
};

use super::Question;
use crate::metric::{Metric, choice, relaxed};

/// Most right answers to a question.
const MAX_ANSWERS: usize = 100;

/// Longest right answer that is compared letter by letter, in characters: the work grows with its square.
const MAX_COMPARED: usize = 4096;

/// The fields on disk.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OnDisk {
    id: Option<Text>,
    #[serde(alias = "images")]
    image: Option<OneOrMany<String>>,
    question: Option<String>,
    messages: Option<Vec<Turn>>,
    #[serde(alias = "answers")]
    answer: Option<OneOrMany<Text>>,
    choices: Option<Vec<Text>>,
    answer_index: Option<usize>,
    #[serde(default)]
    listed: bool,
    metric: Option<Metric>,
    kind: Option<String>,
    extra: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Turn {
    role: Role,
    content: String,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

/// A text, which may be written as a number.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Text {
    Text(String),
    Number(serde_json::Number),
}

impl<T> OneOrMany<T> {
    fn list(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

impl Text {
    fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
        }
    }
}

/// Name of the folder of pictures among the roots.
pub(super) const PICTURES: &str = "pictures";

/// Reads the question on line `line`; pictures are under the root [`PICTURES`]; `metric` overrides the question's own.
pub(super) fn parse(
    text: &[u8],
    line: usize,
    roots: &Roots,
    metric: Option<Metric>,
) -> Result<Question, String> {
    let disk: OnDisk = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let names = disk.image.map_or_else(Vec::new, OneOrMany::list);
    let messages = turns(disk.question, disk.messages, names.len())?;
    let choices: Vec<String> = disk.choices.unwrap_or_default().into_iter().map(Text::text).collect();
    let answers = disk.answer.map_or_else(Vec::new, OneOrMany::list);
    let answers: Vec<String> = answers.into_iter().map(Text::text).collect();
    check_texts(&answers, &choices)?;
    let (answers, right) = right_answers(answers, &choices, disk.answer_index)?;
    let metric = metric.or(disk.metric).unwrap_or_else(|| usual(&answers, &choices));
    if metric == Metric::Choice && right.is_none() {
        return Err("the metric choice needs choices: give a list of them".to_owned());
    }
    if metric == Metric::Anls && answers.iter().any(|answer| answer.chars().count() > MAX_COMPARED) {
        return Err(format!("an answer has more than {MAX_COMPARED} characters, too many for anls"));
    }
    let file = |name: &String| roots.file(PICTURES, name).map_err(|(_, reason)| reason);
    let pictures = names.iter().map(file).collect::<Result<_, _>>()?;
    Ok(Question {
        line,
        id: disk.id.map_or_else(|| line.to_string(), Text::text),
        kind: disk.kind,
        messages,
        pictures,
        answers,
        choices,
        right,
        listed: disk.listed,
        metric,
        extra: disk.extra,
    })
}

/// The turns; pictures without a place come first.
fn turns(
    question: Option<String>,
    messages: Option<Vec<Turn>>,
    pictures: usize,
) -> Result<Vec<Message>, String> {
    let mut turns = match (question, messages) {
        (Some(question), None) => vec![Message::user(question)],
        (None, Some(turns)) => {
            turns.into_iter().map(|turn| Message { role: turn.role, text: turn.content }).collect()
        }
        (None, None) => return Err("there is neither question nor messages: give one".to_owned()),
        (Some(_), Some(_)) => return Err("there are both question and messages: give one".to_owned()),
    };
    let placed = turns.iter().any(|turn| turn.text.contains(IMAGE_PLACEHOLDER));
    if !placed && let Some(first) = turns.iter_mut().find(|turn| turn.role == Role::User) {
        first.text.insert_str(0, &format!("{IMAGE_PLACEHOLDER}\n").repeat(pictures));
    }
    chat::prompt_for_generation(&turns, &vec![1; pictures]).map_err(|error| error.to_string())?;
    Ok(turns)
}

fn check_texts(answers: &[String], choices: &[String]) -> Result<(), String> {
    for text in answers.iter().chain(choices) {
        if text.trim().is_empty() {
            return Err("an answer or a choice is empty".to_owned());
        }
        if let Some(token) = SPECIAL_TOKENS.into_iter().find(|token| text.contains(token)) {
            return Err(format!("an answer or a choice spells out the special token {token}"));
        }
    }
    if answers.len() > MAX_ANSWERS {
        return Err(format!("there are {} answers, more than {MAX_ANSWERS}", answers.len()));
    }
    match choices.len() {
        0 | 2..=choice::MAX_CHOICES => Ok(()),
        count => Err(format!("there are {count} choices, it must be 2 to {}", choice::MAX_CHOICES)),
    }
}

/// The right answers, and the right one of the choices where there are any: then the answer is its text.
fn right_answers(
    answers: Vec<String>,
    choices: &[String],
    index: Option<usize>,
) -> Result<(Vec<String>, Option<usize>), String> {
    let right = match (choices, answers.as_slice(), index) {
        ([], [], _) => return Err("there is no answer: give answer, or a list of answers".to_owned()),
        ([], _, Some(_)) => return Err("there is an answer_index, but no choices".to_owned()),
        ([], _, None) => return Ok((answers, None)),
        (_, [], Some(index)) => index,
        (_, [answer], None) => chosen(answer, choices)?,
        _ => return Err("a question with choices has one answer or an answer_index".to_owned()),
    };
    let text = choices.get(right).ok_or_else(|| {
        format!("answer_index is {right}, there are {} choices, counted from 0", choices.len())
    })?;
    Ok((vec![text.clone()], Some(right)))
}

/// The choice that an answer names, by its letter or by its text.
fn chosen(answer: &str, choices: &[String]) -> Result<usize, String> {
    let mut characters = answer.trim().chars();
    let letter = characters.next().filter(|_| characters.next().is_none());
    let by_letter = letter.and_then(|letter| choice::of_letter(letter, choices.len()));
    let by_text = choices.iter().position(|choice| choice.trim() == answer.trim());
    match (by_letter, by_text) {
        (Some(letter), Some(text)) if letter != text => Err(format!(
            "the answer {answer:?} is the letter of one choice and the text of another: give answer_index"
        )),
        (Some(right), _) | (None, Some(right)) => Ok(right),
        (None, None) => {
            Err(format!("the answer {answer:?} is neither the letter nor the text of one of the choices"))
        }
    }
}

/// The metric of a question that names none.
fn usual(answers: &[String], choices: &[String]) -> Metric {
    if !choices.is_empty() {
        Metric::Choice
    } else if answers.iter().all(|answer| relaxed::number(answer).is_some()) {
        Metric::Relaxed
    } else {
        Metric::Exact
    }
}

#[cfg(test)]
mod tests;

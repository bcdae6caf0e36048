//! Multiple choice: which choice an answer in free words means.
//!
//! The first of these that finds exactly one choice decides:
//!
//! 1. The answer is a letter and nothing else but signs: `B`, `(b)`, `B.`
//! 2. It begins with a letter and a sign that ends a label: `B. a cat`, `(B) a cat`, `B: a cat`.
//! 3. It says so: `answer is B`, `answer: (B)`, `option B`, `choice B`, the last time if several.
//! 4. It is the text of a choice, after [`exact`](super::exact)'s normalisation.
//! 5. It contains the text of a choice as whole words; a choice that is part of another one's text counts only where it
//!    stands by itself.
//!
//! An answer that finds none is wrong, and reports count it as unreadable.

use super::exact::normalise;

/// Most choices that a question may have: one a letter.
pub const MAX_CHOICES: usize = 26;

/// The letter of a choice.
pub fn letter(choice: usize) -> char {
    (b'A' + u8::try_from(choice.min(MAX_CHOICES - 1)).unwrap_or(0)) as char
}

/// The choice that a letter means among `count`, in either case.
pub fn of_letter(letter: char, count: usize) -> Option<usize> {
    let choice = (letter.to_ascii_uppercase() as usize).checked_sub('A' as usize)?;
    (choice < count).then_some(choice)
}

/// The choice that an answer means.
pub fn meant(said: &str, choices: &[String]) -> Option<usize> {
    let said = said.trim();
    lone_letter(said, choices.len())
        .or_else(|| label(said, choices.len()))
        .or_else(|| declared(said, choices.len()))
        .or_else(|| text(said, choices))
        .or_else(|| contained(said, choices))
}

fn lone_letter(said: &str, count: usize) -> Option<usize> {
    let mut characters = said.chars().filter(|c| c.is_alphanumeric());
    let letter = characters.next()?;
    let short = said.chars().filter(|c| !c.is_whitespace()).count() <= 4;
    if short && characters.next().is_none() { of_letter(letter, count) } else { None }
}

fn label(said: &str, count: usize) -> Option<usize> {
    let inside = said.strip_prefix('(').unwrap_or(said);
    let mut characters = inside.chars();
    let letter = characters.next().filter(char::is_ascii_uppercase)?;
    matches!(characters.next(), Some('.' | ')' | ':')).then(|| of_letter(letter, count))?
}

/// Only a capital that ends its clause counts: `the answer is a cat` names no letter.
fn declared(said: &str, count: usize) -> Option<usize> {
    let words: Vec<&str> = said.split_whitespace().collect();
    let announces = |word: &str| {
        let word = word.trim_end_matches(':').to_ascii_lowercase();
        matches!(word.as_str(), "answer" | "option" | "choice" | "is")
    };
    let named = |pair: &[&str]| {
        let letter = pair[1].trim_matches(|c: char| !c.is_alphanumeric());
        let mut characters = letter.chars();
        let first = characters.next().filter(char::is_ascii_uppercase)?;
        let alone = characters.next().is_none();
        let last = pair[1].len() > letter.len() || std::ptr::eq(pair[1], *words.last()?);
        (announces(pair[0]) && alone && last).then(|| of_letter(first, count))?
    };
    words.windows(2).rev().find_map(named)
}

fn text(said: &str, choices: &[String]) -> Option<usize> {
    let said = normalise(said);
    only(choices.iter().map(|choice| !said.is_empty() && normalise(choice) == said))
}

fn contained(said: &str, choices: &[String]) -> Option<usize> {
    let choices: Vec<String> = choices.iter().map(|choice| normalise(choice)).collect();
    let mut order: Vec<usize> = (0..choices.len()).filter(|&i| !choices[i].is_empty()).collect();
    // longer texts first, and what they cover is taken out
    order.sort_by_key(|&i| std::cmp::Reverse(choices[i].len()));
    let mut rest = format!(" {} ", normalise(said));
    let mut found = vec![false; choices.len()];
    for i in order {
        let wanted = format!(" {} ", choices[i]);
        if rest.contains(&wanted) {
            // a text that two choices have finds both, and so none
            (0..choices.len()).filter(|&j| choices[j] == choices[i]).for_each(|j| found[j] = true);
            rest = rest.replace(&wanted, " | ");
        }
    }
    only(found.into_iter())
}

/// The place of the only one that is true.
fn only(found: impl Iterator<Item = bool>) -> Option<usize> {
    let mut places = found.enumerate().filter(|&(_, found)| found).map(|(i, _)| i);
    let first = places.next()?;
    places.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choices() -> Vec<String> {
        ["a cat", "a black cat", "two dogs", "no animal"].map(str::to_owned).to_vec()
    }

    #[test]
    fn letters_are_found_in_every_usual_spelling() {
        for said in ["B", "b", "(B)", "B.", " b) ", "\"B\""] {
            assert_eq!(meant(said, &choices()), Some(1), "{said}");
        }
        for said in ["B. whatever", "(B) whatever", "B: whatever", "B) a cat"] {
            assert_eq!(meant(said, &choices()), Some(1), "{said}");
        }
        for said in [
            "The answer is B.",
            "I think the answer is (B)",
            "Answer: B",
            "Not option A, but option B.",
            "It is B",
        ] {
            assert_eq!(meant(said, &choices()), Some(1), "{said}");
        }
    }

    #[test]
    fn texts_are_found_alone_and_among_words() {
        assert_eq!(meant("Cat.", &choices()), Some(0));
        assert_eq!(meant("There are 2 dogs on the mat", &choices()), Some(2));
        assert_eq!(meant("I see a black cat", &choices()), Some(1), "the longer text covers the shorter");
        assert_eq!(meant("a black cat beside a cat", &choices()), None, "two choices are no answer");
        assert_eq!(meant("The answer is a cat", &choices()), Some(0), "a word, not the letter A");
        assert_eq!(meant("A cat", &choices()), Some(0), "a word, not a label");
    }

    #[test]
    fn what_means_nothing_is_nothing() {
        for said in ["", "Z", "maybe", "concatenate", "E.", "?", "The answer is F."] {
            assert_eq!(meant(said, &choices()), None, "{said}");
        }
        assert_eq!(meant("B", &choices()[..1]), None, "there is no B");
        assert_eq!(meant("same", &["same".to_owned(), "Same.".to_owned()]), None);
    }

    #[test]
    fn letters_go_from_a_to_z() {
        assert_eq!((letter(0), letter(25)), ('A', 'Z'));
        assert_eq!((of_letter('z', 26), of_letter('z', 25), of_letter('1', 26)), (Some(25), None, None));
    }
}

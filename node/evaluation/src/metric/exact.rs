//! Exact match after the normalisation of VQA.
//!
//! Source: Antol et al. 2015, arXiv 1505.00468, section 3, and the evaluation code that came with it:
//!
//! 1. Line ends and tabs become blanks, the ends are trimmed.
//! 2. Each of ``;/[]"{}()=+\_-><@`,?!`` is removed where it stands beside a blank anywhere in the text, or where the text
//!    has a comma between digits; otherwise it becomes a blank.
//! 3. A full stop goes unless a digit follows.
//! 4. Lower case; the words `none` and `zero` to `ten` become digits; `a`, `an` and `the` go; blanks are one each.
//!
//! Two things are otherwise there: its table of contractions (`dont` to `don't`) is replaced by removing apostrophes from
//! both texts, which makes the same pairs alike; and it counts agreement with ten people, while here one right answer is
//! enough.

/// Signs that are removed or become blanks, in the order of the published code.
const SIGNS: [char; 21] = [
    ';', '/', '[', ']', '"', '{', '}', '(', ')', '=', '+', '\\', '_', '-', '>', '<', '@', '`', ',', '?', '!',
];

/// Numbers as words, and as digits.
const NUMBERS: [(&str, &str); 12] = [
    ("none", "0"),
    ("zero", "0"),
    ("one", "1"),
    ("two", "2"),
    ("three", "3"),
    ("four", "4"),
    ("five", "5"),
    ("six", "6"),
    ("seven", "7"),
    ("eight", "8"),
    ("nine", "9"),
    ("ten", "10"),
];

/// Whether the texts are the same once normalised; a right answer of which nothing is left, such as `A`, is compared as
/// it is.
pub fn is_match(said: &str, right: &str) -> bool {
    let wanted = normalise(right);
    if wanted.is_empty() { super::literal::is_match(said, right) } else { normalise(said) == wanted }
}

/// A text as it is compared.
pub fn normalise(text: &str) -> String {
    let text: String = text.chars().map(|c| if matches!(c, '\n' | '\r' | '\t') { ' ' } else { c }).collect();
    let text = without_full_stops(&without_signs(text.trim()));
    let word = |word: &str| {
        let word = word.replace(['\'', '\u{2019}'], "");
        let digits = NUMBERS.iter().find(|(name, _)| *name == word);
        digits.map_or(word, |(_, digits)| (*digits).to_owned())
    };
    let words = text.to_lowercase();
    let words = words.split_whitespace().filter(|word| !matches!(*word, "a" | "an" | "the")).map(word);
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

fn without_signs(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let comma_in_number =
        characters.windows(3).any(|w| w[0].is_ascii_digit() && w[1] == ',' && w[2].is_ascii_digit());
    let mut out = text.to_owned();
    for sign in SIGNS {
        let beside_blank =
            characters.windows(2).any(|w| (w[0] == sign && w[1] == ' ') || (w[0] == ' ' && w[1] == sign));
        out = out.replace(sign, if beside_blank || comma_in_number { "" } else { " " });
    }
    out
}

/// Full stops stay in front of a digit, as in `2.5`.
fn without_full_stops(text: &str) -> String {
    let next = text.chars().skip(1).map(Some).chain([None]);
    let kept = |(c, next): (char, Option<char>)| {
        (c != '.' || next.is_some_and(|next| next.is_ascii_digit())).then_some(c)
    };
    text.chars().zip(next).filter_map(kept).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_are_normalised_as_published() {
        for (text, expected) in [
            ("  The Cat.\n", "cat"),
            ("Two dogs", "2 dogs"),
            ("none", "0"),
            ("A.B.", "ab"),
            ("2.5", "2.5"),
            // no blank beside the sign: it becomes one
            ("black-and-white", "black and white"),
            // a blank beside the sign: it goes, everywhere in the text
            ("left - right-hand", "left righthand"),
            // a comma between digits: every sign goes
            ("1,000", "1000"),
            ("1,000/2", "10002"),
            ("red, green", "red green"),
            ("don't", "dont"),
            ("what?!", "what"),
            ("an", ""),
        ] {
            assert_eq!(normalise(text), expected, "{text:?}");
        }
    }

    #[test]
    fn equal_meanings_in_two_spellings_match_and_others_do_not() {
        assert!(is_match("Three.", "3"));
        assert!(is_match("it isn't the dog", "it isnt dog"));
        assert!(!is_match("3 dogs", "3"));
        assert!(!is_match("13", "3"));
        assert!(is_match("a", "A") && !is_match("the", "A"));
    }

    proptest! {
        #[test]
        fn any_text_matches_itself_in_capitals(text in "[ -~\n]{0,30}") {
            prop_assert!(is_match(&text, &text.to_uppercase()));
        }
    }
}

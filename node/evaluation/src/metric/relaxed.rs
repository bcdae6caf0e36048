//! Relaxed accuracy: numbers within 5 %, other texts the same.
//!
//! Source: Masry et al. 2022, `ChartQA`, arXiv 2203.10244, section 5 ("we consider an answer to be correct if it is
//! within 5 % of the gold answer; for non-numeric answers, we still need an exact match"), after Methani et al. 2020,
//! `PlotQA`, arXiv 1909.00997. As in the code that is used for it, `12%` is the number 0.12, thousands separators make a
//! text, and a right answer of 0 allows no other number.

/// The largest difference of a number that is still right, as a share of the right one.
pub const TOLERANCE: f64 = 0.05;

/// Whether an answer is near enough.
pub fn is_match(said: &str, right: &str) -> bool {
    match (number(said), number(right)) {
        (Some(said), Some(right)) if right != 0.0 => (said - right).abs() / right.abs() <= TOLERANCE,
        (Some(said), Some(right)) => said == right,
        _ => said.trim().to_lowercase() == right.trim().to_lowercase(),
    }
}

/// The finite number that a text is, and nothing else.
pub fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let number = match text.strip_suffix('%') {
        Some(percent) => percent.trim_end().parse::<f64>().ok()? / 100.0,
        None => text.parse().ok()?,
    };
    number.is_finite().then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_per_cent_are_allowed_on_both_sides_and_no_more() {
        for said in ["100", "105", "95", "1e2", "100.0", " +98 "] {
            assert!(is_match(said, "100"), "{said}");
        }
        for said in ["105.1", "94.9", "-100", "hundred", "", "100 units"] {
            assert!(!is_match(said, "100"), "{said}");
        }
        assert!(is_match("-1.03", "-1"));
        assert!(!is_match("0.01", "0") && is_match("0.0", "0"));
    }

    #[test]
    fn a_percentage_is_a_share() {
        assert!(is_match("12%", "0.12") && is_match("12.5 %", "12%"));
        assert!(!is_match("12", "12%"));
    }

    #[test]
    fn other_texts_have_to_be_the_same() {
        assert!(is_match("Yes ", "yes"));
        assert!(!is_match("yes", "yes indeed"));
        assert!(!is_match("inf", "infinity") && number("nan").is_none());
        assert!(is_match("1,000", "1,000") && !is_match("1,001", "1,000"));
    }
}

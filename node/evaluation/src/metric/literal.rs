//! The same text, blanks at the ends and capitals aside: for drawn questions, whose answers have one spelling.

/// Whether the texts are the same.
pub fn is_match(said: &str, right: &str) -> bool {
    said.trim().to_lowercase() == right.trim().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::is_match;

    #[test]
    fn blanks_and_capitals_do_not_matter_and_all_else_does() {
        assert!(is_match(" Hat\n", "hat"));
        assert!(!is_match("hat.", "hat"));
        assert!(!is_match("a hat", "hat"));
    }
}

//! An answer as it comes, without blanks at its ends.

use std::io::Write;

/// Speaks to the standard output, or says nothing.
pub(super) struct Voice {
    audible: bool,
    begun: bool,
    /// Blanks that are said only if something follows.
    held: String,
}

impl Voice {
    pub(super) fn new(audible: bool) -> Self {
        Self { audible, begun: false, held: String::new() }
    }

    /// Says a piece at once, so that whoever waits can read along.
    pub(super) fn hear(&mut self, piece: &str) {
        let piece = self.next(piece);
        if self.audible && !piece.is_empty() {
            // A reader that has gone away is noticed where the line ends.
            let mut out = std::io::stdout();
            let _ = out.write_all(piece.as_bytes()).and_then(|()| out.flush());
        }
    }

    /// Ends the line.
    pub(super) fn end(self) {
        if self.audible {
            super::say("");
        }
    }

    /// What of the text so far may be said now.
    fn next(&mut self, piece: &str) -> String {
        let text = std::mem::take(&mut self.held) + piece;
        let text = if self.begun { text.as_str() } else { text.trim_start() };
        let spoken = text.trim_end();
        self.begun |= !spoken.is_empty();
        if self.begun {
            text[spoken.len()..].clone_into(&mut self.held);
        }
        spoken.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::Voice;

    #[test]
    fn an_answer_is_heard_without_blanks_at_its_ends() {
        let mut voice = Voice::new(false);
        let heard: Vec<String> = [" ", "\n A", " cat ", "", " and", "\n", "more.", " \n"]
            .iter()
            .map(|piece| voice.next(piece))
            .collect();
        assert_eq!(heard, ["", "A", " cat", "", "  and", "", "\nmore.", ""]);
    }
}

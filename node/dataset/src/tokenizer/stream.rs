//! Text while its tokens come one by one.

use super::{Tokenizer, TokenizerError};

/// Decodes tokens as they come and gives whole characters only: a character may need several tokens.
#[derive(Debug)]
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    tokens: Vec<u32>,
    /// Tokens before this one have been given, and are no longer needed to decode what follows.
    context: usize,
    /// Tokens before this one have been given.
    given: usize,
}

impl Tokenizer {
    /// A text without a token yet.
    pub fn stream(&self) -> TextStream<'_> {
        TextStream { tokenizer: self, tokens: Vec::new(), context: 0, given: 0 }
    }
}

impl TextStream<'_> {
    /// What `token` adds to the text; nothing while a character is incomplete.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::Decode`] with the tokenizer's reason.
    pub fn push(&mut self, token: u32) -> Result<String, TokenizerError> {
        self.tokens.push(token);
        let piece = self.rest()?;
        if piece.is_empty() || piece.ends_with(char::REPLACEMENT_CHARACTER) {
            return Ok(String::new());
        }
        self.context = self.given;
        self.given = self.tokens.len();
        Ok(piece)
    }

    /// What is left when no token comes any more: a character that stays incomplete.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::Decode`] with the tokenizer's reason.
    pub fn finish(self) -> Result<String, TokenizerError> {
        self.rest()
    }

    /// The text of tokens that were not given yet, decoded behind those before them, as some tokenizers treat the first
    /// token of a text differently.
    fn rest(&self) -> Result<String, TokenizerError> {
        let before = self.tokenizer.decode(&self.tokens[self.context..self.given])?;
        let whole = self.tokenizer.decode(&self.tokens[self.context..])?;
        Ok(whole.strip_prefix(&before).unwrap_or_default().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use proptest::prelude::*;

    use super::*;
    use crate::tokenizer::build_demo_tokenizer;

    fn tokenizer() -> &'static Tokenizer {
        static BUILT: OnceLock<Tokenizer> = OnceLock::new();
        BUILT.get_or_init(|| {
            let texts: Vec<String> =
                (0..50).map(|i| format!("a red circle and {i} blue ones, näin")).collect();
            Tokenizer::from_bytes(&build_demo_tokenizer(&texts, 300).unwrap()).unwrap()
        })
    }

    fn streamed(tokenizer: &Tokenizer, tokens: &[u32]) -> String {
        let mut stream = tokenizer.stream();
        let mut text = String::new();
        for &token in tokens {
            let piece = stream.push(token).unwrap();
            assert!(!piece.ends_with(char::REPLACEMENT_CHARACTER), "{piece:?} ends in half a character");
            text.push_str(&piece);
        }
        text + &stream.finish().unwrap()
    }

    #[test]
    fn characters_of_several_tokens_come_whole() {
        let tokenizer = tokenizer();
        let tokens = tokenizer.encode("日本 red näin").unwrap();
        let mut stream = tokenizer.stream();
        let pieces: Vec<String> = tokens.iter().map(|&token| stream.push(token).unwrap()).collect();
        assert_eq!(pieces[..6], ["", "", "日", "", "", "本"]);
        assert_eq!(pieces.concat(), "日本 red näin");
        // half a character at the end is said to be one
        assert_eq!(streamed(tokenizer, &tokens[..4]), "日\u{fffd}");
    }

    proptest! {
        #[test]
        fn the_pieces_are_the_text(text in "\\PC{0,40}", noise in proptest::collection::vec(0..300u32, 0..30)) {
            let tokenizer = tokenizer();
            let tokens = tokenizer.encode(&text).unwrap();
            prop_assert_eq!(streamed(tokenizer, &tokens), tokenizer.decode(&tokens).unwrap());
            let noise: Vec<u32> = noise.into_iter().filter(|&id| id < tokenizer.vocab_size()).collect();
            prop_assert_eq!(streamed(tokenizer, &noise), tokenizer.decode(&noise).unwrap());
        }
    }
}

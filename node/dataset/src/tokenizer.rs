//! Text to token ids and back, by a Hugging Face `tokenizer.json`.
//!
//! The tokenizer of a run is a blob like any other. The ids of the tokens that have a meaning of their own (turns,
//! picture marks) are looked up once, by name.

mod build;
mod merges;
mod stream;

use std::fmt;

use talkoot_protocol::digest::BlobRef;

pub use self::{build::build_demo_tokenizer, stream::TextStream};

/// The names of the special tokens, in the order of their ids in the Qwen family.
pub const SPECIAL_TOKENS: [&str; 7] = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
];

/// Longest `tokenizer.json` that is read, in bytes (Qwen's has 7 MB).
pub const MAX_TOKENIZER_BYTES: usize = 64 << 20;

/// Ids of the tokens that have a meaning of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpecialIds {
    /// `<|endoftext|>`: ends a document; padding.
    pub endoftext: u32,
    /// `<|im_start|>`: opens a turn.
    pub im_start: u32,
    /// `<|im_end|>`: closes a turn, and an answer.
    pub im_end: u32,
    /// `<|vision_start|>`: before a picture's tokens.
    pub vision_start: u32,
    /// `<|vision_end|>`: after them.
    pub vision_end: u32,
    /// `<|image_pad|>`: one language token of a picture.
    pub image_pad: u32,
    /// `<|video_pad|>`: one language token of a video.
    pub video_pad: u32,
}

/// Why a tokenizer cannot be used or built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The file is longer than [`MAX_TOKENIZER_BYTES`].
    #[error("a tokenizer.json of {bytes} bytes is longer than the limit of {MAX_TOKENIZER_BYTES}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The file is not a `tokenizer.json`.
    #[error("not a usable tokenizer.json: {reason}")]
    Malformed {
        /// The parser's words.
        reason: String,
    },
    /// A special token has no id.
    #[error(
        "the tokenizer lacks the special token {name}; add it to added_tokens, or take the run's own tokenizer.json"
    )]
    MissingSpecial {
        /// Which.
        name: &'static str,
    },
    /// The text cannot be encoded.
    #[error("cannot encode text: {reason}")]
    Encode {
        /// The tokenizer's words.
        reason: String,
    },
    /// The ids cannot be decoded.
    #[error("cannot decode {tokens} tokens: {reason}")]
    Decode {
        /// How many there were.
        tokens: usize,
        /// The tokenizer's words.
        reason: String,
    },
    /// The vocabulary wanted is smaller than bytes and special tokens alone.
    #[error("a byte-level vocabulary has at least {least} entries, {wanted} were wanted")]
    VocabularyTooSmall {
        /// What was asked for.
        wanted: usize,
        /// 256 bytes and the special tokens.
        least: usize,
    },
}

/// A tokenizer with its special ids and its name.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    ids: SpecialIds,
    blob: BlobRef,
    vocab_size: u32,
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("blob", &self.blob)
            .field("vocab_size", &self.vocab_size)
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Reads the bytes of a `tokenizer.json`.
    ///
    /// # Errors
    ///
    /// [`TokenizerError`] when the bytes are too many or malformed, or when a special token is missing (named).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TokenizerError> {
        if bytes.len() > MAX_TOKENIZER_BYTES {
            return Err(TokenizerError::TooLong { bytes: bytes.len() });
        }
        let malformed = |error: tokenizers::Error| TokenizerError::Malformed { reason: error.to_string() };
        let mut inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(malformed)?;
        // Files carry the settings of whoever saved them last; cut or padded text would be learnt as if it were whole.
        inner.with_truncation(None).map_err(malformed)?;
        inner.with_padding(None);
        let id = |name: &'static str| inner.token_to_id(name).ok_or(TokenizerError::MissingSpecial { name });
        let [end, im_start, im_end, vision_start, vision_end, image, video] = SPECIAL_TOKENS;
        let ids = SpecialIds {
            endoftext: id(end)?,
            im_start: id(im_start)?,
            im_end: id(im_end)?,
            vision_start: id(vision_start)?,
            vision_end: id(vision_end)?,
            image_pad: id(image)?,
            video_pad: id(video)?,
        };
        // Ids may have gaps; what a model needs is one row more than the highest.
        let highest = inner.get_vocab(true).values().max().copied().unwrap_or(0);
        Ok(Self { inner, ids, blob: BlobRef::of(bytes), vocab_size: highest.saturating_add(1) })
    }

    /// Ids of `text`; special tokens that are spelt out in it become their ids.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::Encode`] with the tokenizer's reason.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        self.inner
            .encode_fast(text, false)
            .map(|encoding| encoding.get_ids().to_vec())
            .map_err(|error| TokenizerError::Encode { reason: error.to_string() })
    }

    /// Text of `tokens`, special tokens left out.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::Decode`] with the tokenizer's reason.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, TokenizerError> {
        self.decode_with(tokens, true)
    }

    /// Text of `tokens`, special tokens spelt out.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::Decode`] with the tokenizer's reason.
    pub fn decode_all(&self, tokens: &[u32]) -> Result<String, TokenizerError> {
        self.decode_with(tokens, false)
    }

    fn decode_with(&self, tokens: &[u32], skip_special: bool) -> Result<String, TokenizerError> {
        self.inner
            .decode(tokens, skip_special)
            .map_err(|error| TokenizerError::Decode { tokens: tokens.len(), reason: error.to_string() })
    }

    /// Ids of the special tokens.
    pub fn special_ids(&self) -> SpecialIds {
        self.ids
    }

    /// Name and length of the `tokenizer.json`.
    pub fn blob(&self) -> BlobRef {
        self.blob
    }

    /// Rows that an embedding table needs: one more than the highest id.
    pub fn vocab_size(&self) -> u32 {
        self.vocab_size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts() -> Vec<String> {
        (0..200)
            .map(|i| {
                format!(
                    "what colour is the {} circle on the left, {i} of them?",
                    ["red", "green", "blue"][i % 3]
                )
            })
            .collect()
    }

    #[test]
    fn the_same_texts_give_the_same_bytes_in_any_order_and_any_pool() {
        let mut texts = texts();
        let first = build_demo_tokenizer(&texts, 300).unwrap();
        assert_eq!(first, build_demo_tokenizer(&texts, 300).unwrap());
        texts.reverse();
        assert_eq!(first, build_demo_tokenizer(&texts, 300).unwrap());
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(first, pool.install(|| build_demo_tokenizer(&texts, 300)).unwrap());
        }
        // Pinned: a change of these bytes is a change of every run that is built from a text.
        assert_eq!(BlobRef::of(&first).digest.short(), "e3f7ff4e");
    }

    #[test]
    fn text_comes_back_and_frequent_words_are_one_token() {
        let tokenizer = Tokenizer::from_bytes(&build_demo_tokenizer(&texts(), 320).unwrap()).unwrap();
        for text in
            ["what colour is the red circle?", "näin – 42 日本\n\n  x", "<|im_start|>user\nhello<|im_end|>"]
        {
            let ids = tokenizer.encode(text).unwrap();
            assert_eq!(tokenizer.decode_all(&ids).unwrap(), text);
            assert!(ids.iter().all(|&id| id < tokenizer.vocab_size()));
        }
        assert_eq!(tokenizer.encode(" circle").unwrap().len(), 1);
        assert_eq!(tokenizer.encode("<|image_pad|>").unwrap(), [tokenizer.special_ids().image_pad]);
        // Fewer than were asked for: no pair is left that occurs twice.
        assert!((280..=320).contains(&tokenizer.vocab_size()));
    }

    #[test]
    fn a_missing_special_token_is_named() {
        let bytes = build_demo_tokenizer(&texts(), 300).unwrap();
        let text = String::from_utf8(bytes).unwrap().replace("<|vision_end|>", "<|other|>");
        let error = Tokenizer::from_bytes(text.as_bytes()).unwrap_err();
        assert!(matches!(error, TokenizerError::MissingSpecial { name: "<|vision_end|>" }), "{error}");
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(matches!(Tokenizer::from_bytes(b"{}"), Err(TokenizerError::Malformed { .. })));
        assert!(matches!(build_demo_tokenizer(&["a"], 200), Err(TokenizerError::VocabularyTooSmall { .. })));
    }
}

//! A small byte-level tokenizer for the demo, written out as a `tokenizer.json`.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer, ser::SerializeMap};
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

use super::{SPECIAL_TOKENS, TokenizerError, merges};

/// How text is cut into words before merging: contractions, letters with one sign before them, single digits, signs,
/// line ends, blanks. The split of the Qwen family, so that a demo's tokenizer behaves as the real one.
const WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The 256 printable characters that stand for bytes in byte-level text, in byte order (GPT-2's table).
fn byte_alphabet() -> Vec<char> {
    let plain = |byte: u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut spare = 256..;
    (0..256u32)
        .map(|byte| if plain(byte) { byte } else { spare.next().unwrap_or(byte) })
        .filter_map(char::from_u32)
        .collect()
}

/// A map whose order is the order of its entries, whatever features `serde_json` was built with.
struct InOrder<'a>(&'a [String]);

impl Serialize for InOrder<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (id, token) in self.0.iter().enumerate() {
            map.serialize_entry(token, &id)?;
        }
        map.end()
    }
}

#[derive(Serialize)]
struct AddedToken {
    id: usize,
    content: &'static str,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    normalized: bool,
    special: bool,
}

#[derive(Serialize)]
struct Model<'a> {
    r#type: &'static str,
    dropout: Option<f32>,
    unk_token: Option<&'static str>,
    continuing_subword_prefix: Option<&'static str>,
    end_of_word_suffix: Option<&'static str>,
    fuse_unk: bool,
    byte_fallback: bool,
    ignore_merges: bool,
    vocab: InOrder<'a>,
    merges: &'a [(String, String)],
}

#[derive(Serialize)]
struct Pattern {
    #[serde(rename = "Regex")]
    regex: &'static str,
}

/// One of the steps of a `tokenizer.json` that have a type and settings.
#[derive(Serialize)]
#[serde(tag = "type")]
enum Step {
    Sequence { pretokenizers: [Box<Self>; 2] },
    Split { pattern: Pattern, behavior: &'static str, invert: bool },
    ByteLevel { add_prefix_space: bool, trim_offsets: bool, use_regex: bool },
}

impl Step {
    const BYTES: Self = Self::ByteLevel { add_prefix_space: false, trim_offsets: false, use_regex: false };

    fn words() -> Self {
        let split = Self::Split { pattern: Pattern { regex: WORDS }, behavior: "Isolated", invert: false };
        Self::Sequence { pretokenizers: [Box::new(split), Box::new(Self::BYTES)] }
    }
}

#[derive(Serialize)]
struct File<'a> {
    version: &'static str,
    truncation: Option<()>,
    padding: Option<()>,
    added_tokens: Vec<AddedToken>,
    normalizer: Option<()>,
    pre_tokenizer: Step,
    post_processor: Option<()>,
    decoder: Step,
    model: Model<'a>,
}

fn malformed(reason: impl ToString) -> TokenizerError {
    TokenizerError::Malformed { reason: reason.to_string() }
}

/// The bytes of the `tokenizer.json` with these merges: bytes first, merges next, special tokens last.
fn write(merges: &[merges::Merge]) -> Result<Vec<u8>, TokenizerError> {
    let mut vocab: Vec<String> = byte_alphabet().into_iter().map(String::from).collect();
    for (left, right) in merges {
        // Two merges may make the same token (a+bc and ab+c): one id.
        let token = format!("{left}{right}");
        if !vocab.contains(&token) {
            vocab.push(token);
        }
    }
    let added_tokens = SPECIAL_TOKENS
        .iter()
        .enumerate()
        .map(|(at, content)| AddedToken {
            id: vocab.len() + at,
            content,
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: false,
            special: true,
        })
        .collect();
    let file = File {
        version: "1.0",
        truncation: None,
        padding: None,
        added_tokens,
        normalizer: None,
        pre_tokenizer: Step::words(),
        post_processor: None,
        decoder: Step::BYTES,
        model: Model {
            r#type: "BPE",
            dropout: None,
            unk_token: None,
            continuing_subword_prefix: None,
            end_of_word_suffix: None,
            fuse_unk: false,
            byte_fallback: false,
            ignore_merges: false,
            vocab: InOrder(&vocab),
            merges,
        },
    };
    serde_json::to_vec(&file).map_err(malformed)
}

/// How often each word (as byte-level text) occurs in `texts`.
fn count_words(texts: &[impl AsRef<str>]) -> Result<BTreeMap<String, u64>, TokenizerError> {
    // The library itself cuts the words, so that training and use cannot disagree.
    let cutter = tokenizers::Tokenizer::from_bytes(write(&[])?).map_err(malformed)?;
    let cutter = cutter.get_pre_tokenizer().ok_or_else(|| malformed("no pre-tokenizer"))?;
    let mut counts = BTreeMap::new();
    for text in texts {
        let mut text = PreTokenizedString::from(text.as_ref());
        cutter.pre_tokenize(&mut text).map_err(malformed)?;
        for (word, _, _) in text.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            *counts.entry(word.to_owned()).or_default() += 1;
        }
    }
    Ok(counts)
}

/// The bytes of a byte-level BPE `tokenizer.json` learnt from `texts`, with at most `vocab_size` entries.
///
/// The same texts, in any order, give the same bytes on any machine: merges are learnt by our own code with ties broken
/// by alphabet. Special tokens ([`SPECIAL_TOKENS`]) come last.
///
/// # Errors
///
/// [`TokenizerError::VocabularyTooSmall`] when `vocab_size` is less than the bytes and special tokens alone.
pub fn build_demo_tokenizer(texts: &[impl AsRef<str>], vocab_size: usize) -> Result<Vec<u8>, TokenizerError> {
    let least = 256 + SPECIAL_TOKENS.len();
    if vocab_size < least {
        return Err(TokenizerError::VocabularyTooSmall { wanted: vocab_size, least });
    }
    write(&merges::learn(&count_words(texts)?, vocab_size - least))
}

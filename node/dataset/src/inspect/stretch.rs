//! A sample as people read it: stretches of text, learnt or not, and of pictures' places.

use crate::{
    shard::PackedSample,
    tokenizer::{Tokenizer, TokenizerError},
};

/// Neighbouring tokens that are alike.
pub(super) struct Stretch {
    /// How many.
    pub(super) tokens: usize,
    /// Their text; none for a picture's places.
    pub(super) text: Option<String>,
    /// Whether they are learnt.
    pub(super) learned: bool,
}

/// The stretches of a sample, in order.
pub(super) fn stretches(
    sample: &PackedSample,
    tokenizer: &Tokenizer,
) -> Result<Vec<Stretch>, TokenizerError> {
    let image_pad = tokenizer.special_ids().image_pad;
    let mut learned = vec![false; sample.tokens.len()];
    for &(start, length) in &sample.learned {
        learned[start as usize..(start + length) as usize].fill(true);
    }
    let kinds: Vec<(bool, bool)> =
        sample.tokens.iter().zip(learned).map(|(&token, learned)| (token == image_pad, learned)).collect();
    let mut stretches = Vec::new();
    let mut at = 0;
    for alike in kinds.chunk_by(|a, b| a == b) {
        let tokens = &sample.tokens[at..at + alike.len()];
        let (picture, learned) = alike[0];
        let text = if picture { None } else { Some(tokenizer.decode_all(tokens)?) };
        stretches.push(Stretch { tokens: alike.len(), text, learned });
        at += alike.len();
    }
    Ok(stretches)
}

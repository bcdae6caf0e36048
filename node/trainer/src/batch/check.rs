//! Refusing packs that don't fit the model, with the place.

use super::{Image, NOT_LEARNED, Pack};
use crate::config::ModelConfig;

/// A pack that cannot be trained on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// Labels or sample lengths don't cover the tokens.
    #[error("{what} cover {got} positions, but the pack has {expected} tokens")]
    Length {
        /// `labels` or `sample lengths`.
        what: &'static str,
        /// Tokens of the pack.
        expected: u64,
        /// What was found.
        got: u64,
    },
    /// A sample without tokens.
    #[error("sample {sample} has no tokens")]
    EmptySample {
        /// Index of the sample in the pack.
        sample: usize,
    },
    /// A sample longer than the model is meant for.
    #[error("sample {sample} has {got} tokens, but the model is meant for {limit}")]
    SampleTooLong {
        /// Index of the sample in the pack.
        sample: usize,
        /// Its length.
        got: u32,
        /// The config's `max_position_embeddings`.
        limit: usize,
    },
    /// A token id that the model doesn't have.
    #[error(
        "token {got} at position {position} is not below the vocabulary size {vocabulary}: is this the run's tokenizer?"
    )]
    Token {
        /// Position in the pack.
        position: usize,
        /// The id.
        got: u32,
        /// Rows of the embedding.
        vocabulary: usize,
    },
    /// A label that is neither its own token nor [`NOT_LEARNED`].
    #[error(
        "label {got} at position {position} is neither {NOT_LEARNED} nor the token there, {token}: labels are not shifted"
    )]
    Label {
        /// Position in the pack.
        position: usize,
        /// The label.
        got: i64,
        /// The token at the position.
        token: u32,
    },
    /// A picture whose sides the model cannot cut into tokens.
    #[error("picture {image} is {width}x{height}, but both sides must be multiples of {of} up to {limit}")]
    ImageSize {
        /// Index of the picture in the pack.
        image: usize,
        /// Its width in pixels.
        width: u32,
        /// Its height in pixels.
        height: u32,
        /// Pixels per side of one token.
        of: usize,
        /// Longest side allowed.
        limit: usize,
    },
    /// A picture whose bytes don't match its sides.
    #[error("picture {image} has {got} bytes, but its sides ask for {expected}")]
    ImageBytes {
        /// Index of the picture in the pack.
        image: usize,
        /// Three bytes for every pixel.
        expected: usize,
        /// What was found.
        got: usize,
    },
    /// Image tokens of a sample that end in the middle of a picture, or lack one.
    #[error(
        "sample {sample} has {tokens} image tokens, which pictures {first_image} and following do not fill exactly"
    )]
    ImageTokens {
        /// Index of the sample in the pack.
        sample: usize,
        /// Image tokens in the sample.
        tokens: usize,
        /// Index of the first picture that the sample would use.
        first_image: usize,
    },
    /// Pictures that no image token asks for.
    #[error("the pack has {got} pictures, but its image tokens use {used}")]
    SurplusImages {
        /// Pictures in the pack.
        got: usize,
        /// Pictures that the samples use.
        used: usize,
    },
}

/// Longest side of a picture in pixels: 512 tokens of 28, far beyond the recipe's 2.56 megapixels.
const MAX_SIDE: usize = 14_336;

pub(super) fn check(pack: &Pack, config: &ModelConfig) -> Result<(), PackError> {
    let expected = pack.tokens.len() as u64;
    let got = pack.labels.len() as u64;
    if got != expected {
        return Err(PackError::Length { what: "labels", expected, got });
    }
    let got = pack.sample_lengths.iter().map(|&length| u64::from(length)).sum();
    if got != expected {
        return Err(PackError::Length { what: "sample lengths", expected, got });
    }
    tokens(pack, config)?;
    for (index, image) in pack.images.iter().enumerate() {
        check_image(index, image, config)?;
    }
    samples(pack, config)
}

fn tokens(pack: &Pack, config: &ModelConfig) -> Result<(), PackError> {
    let vocabulary = config.text.vocab_size;
    for (position, (&token, &label)) in pack.tokens.iter().zip(&pack.labels).enumerate() {
        if token as usize >= vocabulary {
            return Err(PackError::Token { position, got: token, vocabulary });
        }
        if label != NOT_LEARNED && label != i64::from(token) {
            return Err(PackError::Label { position, got: label, token });
        }
    }
    Ok(())
}

/// Checks the size of a picture.
pub(crate) fn check_image(index: usize, image: &Image, config: &ModelConfig) -> Result<(), PackError> {
    let (width, height, of) = (image.width as usize, image.height as usize, config.vision.token_pixels());
    let fits = |side: usize| (1..=MAX_SIDE).contains(&side) && side.is_multiple_of(of);
    if !fits(width) || !fits(height) {
        let (width, height) = (image.width, image.height);
        return Err(PackError::ImageSize { image: index, width, height, of, limit: MAX_SIDE });
    }
    let (expected, got) = (3 * width * height, image.rgb.len());
    if got != expected {
        return Err(PackError::ImageBytes { image: index, expected, got });
    }
    Ok(())
}

/// Every sample uses up whole pictures, so that none is seen by two samples.
fn samples(pack: &Pack, config: &ModelConfig) -> Result<(), PackError> {
    let limit = config.text.max_position_embeddings;
    let (mut start, mut used) = (0, 0);
    for (sample, &length) in pack.sample_lengths.iter().enumerate() {
        if length == 0 {
            return Err(PackError::EmptySample { sample });
        }
        if length as usize > limit {
            return Err(PackError::SampleTooLong { sample, got: length, limit });
        }
        let end = start + length as usize;
        let tokens = pack.tokens[start..end].iter().filter(|&&token| token == config.image_token_id).count();
        let (first_image, mut filled) = (used, 0);
        while filled < tokens && used < pack.images.len() {
            filled += pack.images[used].tokens(config);
            used += 1;
        }
        if filled != tokens {
            return Err(PackError::ImageTokens { sample, tokens, first_image });
        }
        start = end;
    }
    if used != pack.images.len() {
        return Err(PackError::SurplusImages { got: pack.images.len(), used });
    }
    Ok(())
}

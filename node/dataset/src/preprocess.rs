//! From a picture file to the 8-bit RGB picture that the vision tower cuts into patches.
//!
//! ```text
//! file --decode (bounded)--> RGB, alpha dropped --smart_resize--> sides that are multiples of 28 --bicubic--> Rgb
//! ```
//!
//! Normalisation and patch order belong to the trainer; here everything is integers, so that every machine makes
//! the same bytes of the same file.

pub mod decode;
mod encode;
pub mod resize;
pub mod size;

use std::path::Path;

use serde::{Deserialize, Serialize};

pub use self::{
    decode::{DecodeLimits, PictureError},
    resize::resize_bicubic,
    size::{SizeError, SizeRule, smart_resize},
};

/// Pixels along one side of the square that becomes one language token: patch 14 x merge 2.
pub const TOKEN_SIDE: u32 = 28;

/// An 8-bit RGB picture, row by row from the top, three bytes a pixel.
#[derive(Clone, PartialEq, Eq)]
pub struct Rgb {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// `width * height * 3` bytes: red, green, blue.
    pub rgb: Vec<u8>,
}

impl std::fmt::Debug for Rgb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rgb({}x{})", self.width, self.height)
    }
}

impl Rgb {
    /// Language tokens that this picture takes when its sides are multiples of [`TOKEN_SIDE`].
    pub fn llm_tokens(&self) -> usize {
        llm_tokens(self.width, self.height)
    }
}

/// Language tokens of a picture of `width` x `height` pixels whose sides are multiples of [`TOKEN_SIDE`].
pub fn llm_tokens(width: u32, height: u32) -> usize {
    (width / TOKEN_SIDE) as usize * (height / TOKEN_SIDE) as usize
}

/// What a picture is made to fit before the model sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreprocessOptions {
    /// Fewest pixels after resizing; smaller pictures are enlarged.
    pub min_pixels: u32,
    /// Most pixels after resizing; larger pictures are shrunk.
    pub max_pixels: u32,
    /// What a file may hold before anything is decoded.
    pub limits: DecodeLimits,
}

impl Default for PreprocessOptions {
    /// The limits of LLaVA-OneVision-1.5: 3,136 to 2,560,000 pixels.
    fn default() -> Self {
        Self { min_pixels: 3136, max_pixels: 2_560_000, limits: DecodeLimits::default() }
    }
}

impl PreprocessOptions {
    /// Width and height after resizing a picture of `width` x `height` pixels, by the processor's rule.
    ///
    /// # Errors
    ///
    /// [`SizeError`] when the picture is empty or too long for its width.
    pub fn fitted(&self, width: u32, height: u32) -> Result<(u32, u32), SizeError> {
        let (h, w) = smart_resize(
            height,
            width,
            TOKEN_SIDE,
            u64::from(self.min_pixels),
            u64::from(self.max_pixels),
            SizeRule::Processor,
        )?;
        Ok((w, h))
    }

    /// Resizes a decoded picture to [`Self::fitted`].
    ///
    /// # Errors
    ///
    /// [`SizeError`] as [`Self::fitted`].
    pub fn fit(&self, picture: &Rgb) -> Result<Rgb, SizeError> {
        let (width, height) = self.fitted(picture.width, picture.height)?;
        Ok(resize_bicubic(picture, width, height))
    }

    /// Reads, decodes and resizes the picture in `file`.
    ///
    /// # Errors
    ///
    /// [`PictureError`] naming the file and what is wrong with it.
    pub fn load(&self, file: &Path) -> Result<Rgb, PictureError> {
        let picture = decode::decode_file(file, &self.limits)?;
        self.fit(&picture).map_err(|source| PictureError::Shape { file: file.to_path_buf(), source })
    }

    /// Decodes and resizes an encoded picture; `name` stands for the file in errors.
    ///
    /// # Errors
    ///
    /// [`PictureError`] naming `name` and what is wrong with it.
    pub fn load_bytes(&self, bytes: &[u8], name: &Path) -> Result<Rgb, PictureError> {
        let picture = decode::decode_bytes(bytes, name, &self.limits)?;
        self.fit(&picture).map_err(|source| PictureError::Shape { file: name.to_path_buf(), source })
    }
}

#[cfg(test)]
pub(crate) mod tests;

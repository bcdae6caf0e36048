//! Picture files to 8-bit RGB, with limits that are checked before anything is allocated.

mod jpeg;

use std::{
    fs::File,
    io::{Cursor, Read},
    path::{Path, PathBuf},
};

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use serde::{Deserialize, Serialize};

use super::{Rgb, SizeError};

/// What a picture file may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecodeLimits {
    /// Longest side, in pixels.
    pub side_pixels: u32,
    /// Largest area, in pixels.
    pub area_pixels: u64,
    /// Largest file, in bytes.
    pub file_bytes: u64,
}

impl Default for DecodeLimits {
    /// 16,384 pixels a side, 64 million pixels, 64 MiB: any ordinary photograph, no decompression bomb.
    fn default() -> Self {
        Self { side_pixels: 16_384, area_pixels: 64_000_000, file_bytes: 64 << 20 }
    }
}

/// Why a picture file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PictureError {
    /// The file cannot be read.
    #[error("cannot read picture {}", file.display())]
    Read {
        /// The picture.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is not a PNG, JPEG or WebP, or it is damaged.
    #[error("cannot decode picture {}: {reason}; give a whole PNG, JPEG or WebP file", file.display())]
    Decode {
        /// The picture.
        file: PathBuf,
        /// The decoder's words.
        reason: String,
    },
    /// The picture is larger than [`DecodeLimits`].
    #[error("picture {} has {width}x{height} pixels, more than the limits allow ({limits:?})", file.display())]
    TooLarge {
        /// The picture.
        file: PathBuf,
        /// Pixels across, as the file's head says.
        width: u32,
        /// Pixels down.
        height: u32,
        /// The limits.
        limits: DecodeLimits,
    },
    /// The file has more bytes than [`DecodeLimits::file_bytes`].
    #[error("picture {} has {bytes} bytes, more than the limit of {limit}", file.display())]
    TooManyBytes {
        /// The picture.
        file: PathBuf,
        /// Its length.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The picture has no size to be resized to.
    #[error("picture {} cannot be resized", file.display())]
    Shape {
        /// The picture.
        file: PathBuf,
        /// Why not.
        #[source]
        source: SizeError,
    },
}

/// Decodes the picture in `file`.
///
/// # Errors
///
/// [`PictureError`] naming the file and the reason.
pub fn decode_file(file: &Path, limits: &DecodeLimits) -> Result<Rgb, PictureError> {
    let read = |source| PictureError::Read { file: file.to_path_buf(), source };
    let handle = File::open(file).map_err(read)?;
    // One byte more than may be tells a file that is too long, also one that grows.
    let mut bytes = Vec::new();
    handle.take(limits.file_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(read)?;
    decode_bytes(&bytes, file, limits)
}

/// Decodes a picture in memory; `name` stands for the file in errors.
///
/// # Errors
///
/// [`PictureError`] naming `name` and the reason.
pub fn decode_bytes(bytes: &[u8], name: &Path, limits: &DecodeLimits) -> Result<Rgb, PictureError> {
    decode(bytes, limits).map_err(|fault| match fault {
        Fault::Decode(reason) => PictureError::Decode { file: name.to_path_buf(), reason },
        Fault::TooLarge { width, height } => {
            PictureError::TooLarge { file: name.to_path_buf(), width, height, limits: *limits }
        }
        Fault::TooManyBytes => PictureError::TooManyBytes {
            file: name.to_path_buf(),
            bytes: bytes.len() as u64,
            limit: limits.file_bytes,
        },
    })
}

/// Width and height in pixels as the head of a PNG, JPEG or WebP says, within `limits`; nothing is decoded.
///
/// # Errors
///
/// [`PictureError`] naming `name` when the bytes do not begin as such a file does, or say too large a size.
pub fn head_size(bytes: &[u8], name: &Path, limits: &DecodeLimits) -> Result<(u32, u32), PictureError> {
    let undecodable = |reason: String| PictureError::Decode { file: name.to_path_buf(), reason };
    format_of(bytes).ok_or_else(|| undecodable(FOREIGN.into()))?;
    let size = imagesize::blob_size(bytes).map_err(|error| undecodable(error.to_string()))?;
    let side = |side: usize| u32::try_from(side).unwrap_or(u32::MAX);
    let (width, height) = (side(size.width), side(size.height));
    if limits.allow(width, height) {
        return Ok((width, height));
    }
    Err(PictureError::TooLarge { file: name.to_path_buf(), width, height, limits: *limits })
}

const FOREIGN: &str = "the file does not begin as one of these does";

/// What is wrong with a picture, its name left out.
enum Fault {
    Decode(String),
    TooLarge { width: u32, height: u32 },
    TooManyBytes,
}

impl DecodeLimits {
    fn allow(&self, width: u32, height: u32) -> bool {
        let area = u64::from(width) * u64::from(height);
        width.max(height) <= self.side_pixels && area <= self.area_pixels
    }
}

/// The format that the first bytes tell, if it is one of ours.
fn format_of(bytes: &[u8]) -> Option<ImageFormat> {
    let format = image::guess_format(bytes).ok()?;
    matches!(format, ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP).then_some(format)
}

fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<Rgb, Fault> {
    if bytes.len() as u64 > limits.file_bytes {
        return Err(Fault::TooManyBytes);
    }
    match format_of(bytes) {
        None => Err(Fault::Decode(FOREIGN.into())),
        Some(ImageFormat::Jpeg) => jpeg::decode(bytes, limits),
        Some(format) => decode_other(bytes, format, limits),
    }
}

/// PNG and WebP.
fn decode_other(bytes: &[u8], format: ImageFormat, limits: &DecodeLimits) -> Result<Rgb, Fault> {
    let undecodable = |error: image::ImageError| Fault::Decode(error.to_string());
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut allocation = Limits::default();
    // At most four 16-bit samples a pixel, and as much again for the decoder's own buffers.
    allocation.max_alloc = Some(limits.area_pixels.saturating_mul(16));
    reader.limits(allocation);
    let decoder = reader.into_decoder().map_err(undecodable)?;
    let (width, height) = decoder.dimensions();
    if !limits.allow(width, height) {
        return Err(Fault::TooLarge { width, height });
    }
    Ok(to_rgb(DynamicImage::from_decoder(decoder).map_err(undecodable)?))
}

/// Drops alpha, spreads grey; 16-bit samples keep their high byte.
fn to_rgb(picture: DynamicImage) -> Rgb {
    let (width, height) = (picture.width(), picture.height());
    let rgb = match picture {
        DynamicImage::ImageRgb8(pixels) => pixels.into_raw(),
        wide @ (DynamicImage::ImageLuma16(_)
        | DynamicImage::ImageLumaA16(_)
        | DynamicImage::ImageRgb16(_)
        | DynamicImage::ImageRgba16(_)) => {
            wide.into_rgb16().into_raw().into_iter().map(|sample| (sample >> 8) as u8).collect()
        }
        other => other.into_rgb8().into_raw(),
    };
    Rgb { width, height, rgb }
}

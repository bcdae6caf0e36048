//! Picture files to 8-bit RGB, with limits that are checked before anything is allocated.

use std::{
    fs::File,
    io::{BufRead, BufReader, Cursor, Seek},
    path::{Path, PathBuf},
};

use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits};
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
    let bytes = handle.metadata().map_err(read)?.len();
    if bytes > limits.file_bytes {
        return Err(PictureError::TooManyBytes { file: file.to_path_buf(), bytes, limit: limits.file_bytes });
    }
    decode(BufReader::new(handle), file, limits)
}

/// Decodes a picture in memory; `name` stands for the file in errors.
///
/// # Errors
///
/// [`PictureError`] naming `name` and the reason.
pub fn decode_bytes(bytes: &[u8], name: &Path, limits: &DecodeLimits) -> Result<Rgb, PictureError> {
    decode(Cursor::new(bytes), name, limits)
}

fn decode<R: BufRead + Seek>(source: R, name: &Path, limits: &DecodeLimits) -> Result<Rgb, PictureError> {
    let undecodable =
        |error: ImageError| PictureError::Decode { file: name.to_path_buf(), reason: error.to_string() };
    let mut reader = ImageReader::new(source)
        .with_guessed_format()
        .map_err(|source| PictureError::Read { file: name.to_path_buf(), source })?;
    let mut allocation = Limits::default();
    // At most four 16-bit samples a pixel, and as much again for the decoder's own buffers.
    allocation.max_alloc = Some(limits.area_pixels.saturating_mul(16));
    reader.limits(allocation);
    let decoder = reader.into_decoder().map_err(undecodable)?;
    let (width, height) = decoder.dimensions();
    let area = u64::from(width) * u64::from(height);
    if width > limits.side_pixels || height > limits.side_pixels || area > limits.area_pixels {
        return Err(PictureError::TooLarge { file: name.to_path_buf(), width, height, limits: *limits });
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

//! JPEG, by a decoder in Rust.
//!
//! The decoder shows half a picture where bytes are missing, as a browser does. Half a picture is no picture to learn
//! from, so a file without the mark of its end is refused first.

use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};
use zune_jpeg::JpegDecoder;

use super::{DecodeLimits, Fault};
use crate::preprocess::Rgb;

pub(super) fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<Rgb, Fault> {
    decode_with(bytes, limits, DecoderOptions::default())
}

fn decode_with(bytes: &[u8], limits: &DecodeLimits, options: DecoderOptions) -> Result<Rgb, Fault> {
    if !has_end(bytes) {
        return Err(Fault::Decode("the file is cut off: it has no end of image".into()));
    }
    let options = options
        .set_strict_mode(false)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let undecodable = |error: zune_jpeg::errors::DecodeErrors| Fault::Decode(error.to_string());
    decoder.decode_headers().map_err(undecodable)?;
    let (width, height) = decoder.dimensions().ok_or_else(|| Fault::Decode("no size".into()))?;
    // A JPEG's sides are numbers of 16 bits.
    let (width, height) = (width as u32, height as u32);
    if !limits.allow(width, height) {
        return Err(Fault::TooLarge { width, height });
    }
    let rgb = decoder.decode().map_err(undecodable)?;
    if rgb.len() as u64 != u64::from(width) * u64::from(height) * 3 {
        return Err(Fault::Decode(format!("{} bytes of samples for {width}x{height} pixels", rgb.len())));
    }
    Ok(Rgb { width, height, rgb })
}

/// Whether an end of image (FF D9) comes after the first start of scan (FF DA).
///
/// Segments before the scan are stepped over by their lengths, since one may hold a small picture with an end of its
/// own.
fn has_end(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some([0xff, marker, high, low]) = bytes.get(at..at + 4) {
        match marker {
            // A fill byte, or a marker without a length.
            0xff => at += 1,
            0x01 | 0xd0..=0xd8 => at += 2,
            0xda => return bytes[at..].windows(2).rev().any(|pair| pair == [0xff, 0xd9]),
            _ => at += 2 + usize::from(u16::from_be_bytes([*high, *low])),
        }
    }
    false
}

#[cfg(test)]
mod tests;

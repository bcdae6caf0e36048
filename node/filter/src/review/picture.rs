//! A picture as it stands in a page: as it came when it is small, else smaller.

use std::path::Path;

use image::{ExtendedColorType, ImageEncoder, codecs::jpeg::JpegEncoder};
use talkoot_dataset::{
    PictureRef, Rgb, Roots,
    preprocess::{DecodeLimits, decode::decode_bytes, resize_bicubic},
    shard::PictureFormat,
};

/// Bytes up to which a picture is embedded as it is.
const SMALL_BYTES: usize = 256 << 10;
/// Longest side of a picture that is made smaller, in pixels.
const SIDE: u32 = 896;
const QUALITY: u8 = 85;

/// The picture as the text of a `data:` address, or what is wrong with it.
pub(super) fn data_address(picture: &PictureRef, roots: &Roots) -> Result<String, String> {
    let limits = DecodeLimits::default();
    let bytes = roots.read(picture, limits.file_bytes).map_err(|(_, reason)| reason)?;
    let format =
        PictureFormat::of(&bytes).ok_or_else(|| format!("{} is of no known format", picture.name()))?;
    if bytes.len() <= SMALL_BYTES {
        return Ok(address(format.media_type(), &bytes));
    }
    let name = picture.name();
    let decoded = decode_bytes(&bytes, Path::new(&name), &limits).map_err(|error| error.to_string())?;
    let small = shrunk(&decoded);
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, QUALITY)
        .write_image(&small.rgb, small.width, small.height, ExtendedColorType::Rgb8)
        .map_err(|error| error.to_string())?;
    Ok(address("image/jpeg", &jpeg))
}

fn address(media_type: &str, bytes: &[u8]) -> String {
    format!("data:{media_type};base64,{}", data_encoding::BASE64.encode(bytes))
}

fn shrunk(picture: &Rgb) -> Rgb {
    let longest = picture.width.max(picture.height);
    if longest <= SIDE {
        return picture.clone();
    }
    let side = |length: u32| (u64::from(length) * u64::from(SIDE) / u64::from(longest)).max(1) as u32;
    resize_bicubic(picture, side(picture.width), side(picture.height))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_pictures_get_smaller_and_keep_their_shape() {
        let of = |width: u32, height: u32| {
            let picture = Rgb { width, height, rgb: vec![7; (width * height * 3) as usize] };
            let small = shrunk(&picture);
            assert_eq!(small.rgb.len(), (small.width * small.height * 3) as usize);
            (small.width, small.height)
        };
        assert_eq!(of(1792, 1000), (896, 500));
        assert_eq!(of(20, 3000), (5, 896));
        assert_eq!(of(1, 4000), (1, 896));
        assert_eq!(of(896, 30), (896, 30));
    }
}

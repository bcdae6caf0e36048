//! Bicubic resampling with the exact integers of Pillow 11: the pictures that the published model was trained on.
//!
//! Two passes, horizontal first; each pass multiplies 8-bit samples by weights in 22-bit fixed point, adds one half,
//! shifts and clips to 8 bits. When shrinking, the kernel is widened by the scale, which is the anti-aliasing.
//!
//! Sums fit 32 bits: the magnitudes of one output's weights add up to less than 1.5, so a sum stays below
//! 255 x 1.5 x 2^22 < 2^31. Integer sums have no order, so every way to vectorise them gives the same bits.

mod passes;
mod taps;

use self::taps::Taps;
use super::Rgb;

/// `source` resized to `width` x `height` pixels.
///
/// A pass whose side does not change is skipped, so that a picture of the right size is returned as it is. An empty
/// target or an empty source gives an empty picture.
pub fn resize_bicubic(source: &Rgb, width: u32, height: u32) -> Rgb {
    if width == 0 || height == 0 || source.width == 0 || source.height == 0 {
        return Rgb { width, height, rgb: vec![0; width as usize * height as usize * 3] };
    }
    match (source.width != width, source.height != height) {
        (false, false) => source.clone(),
        (true, false) => across(source, width),
        (false, true) => down(source, height),
        (true, true) => down(&across(source, width), height),
    }
}

fn across(source: &Rgb, width: u32) -> Rgb {
    let taps = Taps::new(source.width, width);
    let rgb = passes::across(&source.rgb, source.width as usize, source.height as usize, &taps);
    Rgb { width, height: source.height, rgb }
}

fn down(source: &Rgb, height: u32) -> Rgb {
    let taps = Taps::new(source.height, height);
    let rgb = passes::down(&source.rgb, source.width as usize * 3, &taps);
    Rgb { width: source.width, height, rgb }
}

#[cfg(test)]
mod tests;

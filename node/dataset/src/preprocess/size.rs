//! The size that a picture is resized to: sides that are multiples of a factor, area within limits, shape kept.

/// The longest side over the shortest that is accepted.
pub const MAX_ASPECT: u32 = 200;

/// Which of the two published rules; they differ for very long and very small pictures only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SizeRule {
    /// The image processor's (transformers 4.53): a side is lifted to the factor only when shrinking, so a side
    /// that rounds to nothing is enlarged. The rule of training and of this crate's pictures.
    Processor,
    /// The Qwen vision utility's: a side is lifted to the factor before the area is looked at, and not after
    /// shrinking, so that it can come out as 0.
    VisionUtils,
}

/// Why a picture has no size to be resized to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SizeError {
    /// A side is zero.
    #[error("a picture of {width}x{height} pixels is empty")]
    Empty {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
    },
    /// The long side is more than [`MAX_ASPECT`] times the short one.
    #[error("a picture of {width}x{height} pixels is longer than {MAX_ASPECT} times its width; crop it")]
    TooLong {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
    },
}

/// Rounds `value / factor` half to even and multiplies back.
fn round_to(value: u32, factor: u32) -> u64 {
    let (value, factor) = (u64::from(value), u64::from(factor));
    let (whole, twice_rest) = (value / factor, value % factor * 2);
    let up = twice_rest > factor || (twice_rest == factor && whole % 2 == 1);
    (whole + u64::from(up)) * factor
}

/// Height and width, in pixels, that a picture of `height` x `width` is resized to.
///
/// Source: `smart_resize` of transformers 4.53 and of qwen-vl-utils; rounding is half to even. The square roots
/// are IEEE and so the same everywhere.
///
/// # Errors
///
/// [`SizeError`] when the picture is empty or longer than [`MAX_ASPECT`] times its width.
///
/// # Panics
///
/// When `factor` is zero.
pub fn smart_resize(
    height: u32,
    width: u32,
    factor: u32,
    min_pixels: u64,
    max_pixels: u64,
    rule: SizeRule,
) -> Result<(u32, u32), SizeError> {
    if height == 0 || width == 0 {
        return Err(SizeError::Empty { width, height });
    }
    let (long, short) = (height.max(width), height.min(width));
    if f64::from(long) / f64::from(short) > f64::from(MAX_ASPECT) {
        return Err(SizeError::TooLong { width, height });
    }
    let lift = |side: u64, wanted: SizeRule| {
        if rule == wanted { side.max(u64::from(factor)) } else { side }
    };
    let mut h = lift(round_to(height, factor), SizeRule::VisionUtils);
    let mut w = lift(round_to(width, factor), SizeRule::VisionUtils);
    let area = f64::from(height) * f64::from(width);
    let step = f64::from(factor);
    if h * w > max_pixels {
        let beta = (area / max_pixels as f64).sqrt();
        let shrink = |side: u32| (f64::from(side) / beta / step).floor() as u64 * u64::from(factor);
        h = lift(shrink(height), SizeRule::Processor);
        w = lift(shrink(width), SizeRule::Processor);
    } else if h * w < min_pixels {
        let beta = (min_pixels as f64 / area).sqrt();
        let grow = |side: u32| (f64::from(side) * beta / step).ceil() as u64 * u64::from(factor);
        h = grow(height);
        w = grow(width);
    }
    // Sides below u32::MAX / 2 stay below it: rounding adds at most half a factor.
    Ok((u32::try_from(h).unwrap_or(u32::MAX), u32::try_from(w).unwrap_or(u32::MAX)))
}

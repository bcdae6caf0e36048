//! Which frames, and how large.

use talkoot_dataset::preprocess::{SizeError, SizeRule, TOKEN_SIDE, smart_resize};

use super::VideoOptions;

/// Numbers of the frames to take, of `frames` over `seconds`: rising, the first and the last among them.
///
/// Source: `torch.linspace(0, frames - 1, n).round()` of the published model's loader; halves round to even.
pub fn picked(frames: u64, seconds: f64, options: &VideoOptions) -> Vec<u64> {
    let wanted = (seconds * options.frames_per_second).floor().max(0.0) as u64;
    let count = wanted.clamp(options.min_frames.into(), options.max_frames.into()).min(frames);
    match count {
        0 => Vec::new(),
        1 => vec![0],
        _ => {
            let step = (frames - 1) as f64 / (count - 1) as f64;
            (0..count).map(|at| (at as f64 * step).round_ties_even() as u64).collect()
        }
    }
}

/// Width and height in pixels that each of `count` frames of `width` x `height` is resized to.
///
/// # Errors
///
/// [`SizeError`] when the video has no size to be resized to.
pub fn frame_size(
    width: u32,
    height: u32,
    count: u64,
    options: &VideoOptions,
) -> Result<(u32, u32), SizeError> {
    let share = (options.video_pixels as f64 / count.max(1) as f64 * 2.0) as u64;
    let least = (options.min_frame_pixels as f64 * 1.05) as u64;
    let most = options.max_frame_pixels.min(share).max(least);
    let (height, width) =
        smart_resize(height, width, TOKEN_SIDE, options.min_frame_pixels, most, SizeRule::Processor)?;
    Ok((width, height))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_picked_evenly_from_the_first_to_the_last() {
        let options = VideoOptions::default();
        assert_eq!(picked(250, 10.0, &options).len(), 20);
        assert_eq!(picked(25, 1.0, &options), [0, 8, 16, 24], "never fewer than four");
        assert_eq!(picked(3, 0.1, &options), [0, 1, 2], "never more than there are");
        assert_eq!(picked(1, 0.0, &options), [0]);
        assert!(picked(0, 5.0, &options).is_empty());
        let long = picked(100_000, 10_000.0, &options);
        assert_eq!((long.len(), long[0], long[767]), (768, 0, 99_999));
        assert!(long.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn many_frames_are_smaller_and_none_is_below_the_least() {
        let options = VideoOptions::default();
        let (width, height) = frame_size(1920, 1080, 8, &options).unwrap();
        assert!(u64::from(width * height) <= options.max_frame_pixels && width > height);
        let (width, height) = frame_size(1920, 1080, 768, &options).unwrap();
        assert!(u64::from(width * height) <= 65_536 * 784 * 2 / 768);
        let (width, height) = frame_size(64, 48, 4, &options).unwrap();
        assert!(u64::from(width * height) >= options.min_frame_pixels);
        assert!(frame_size(0, 48, 4, &options).is_err());
    }
}

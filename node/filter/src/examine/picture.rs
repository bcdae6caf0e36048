//! What a picture is like: its sides, how much its channels deviate, and its thumbnail.

use std::path::Path;

use talkoot_dataset::{
    PictureRef, RejectKind, Rgb, Roots,
    preprocess::{DecodeLimits, TOKEN_SIDE, decode::decode_bytes},
};

use crate::{
    config::PictureRules,
    print::Thumbnail,
    rule::{Broken, Rule},
};

/// A decoded picture in a few numbers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Look {
    width: u32,
    height: u32,
    /// Standard deviation of the channel that deviates most, 0 to 127.5.
    pub(super) deviation: f64,
    pub(super) thumbnail: Thumbnail,
}

/// Reads, decodes and measures a picture.
pub(super) fn look(
    picture: &PictureRef,
    roots: &Roots,
    limits: &DecodeLimits,
) -> Result<Look, (RejectKind, String)> {
    let bytes = roots.read(picture, limits.file_bytes)?;
    let bad = |reason: String| (RejectKind::BadPicture, reason);
    let name = picture.name();
    let rgb = decode_bytes(&bytes, Path::new(&name), limits).map_err(|error| bad(error.to_string()))?;
    if rgb.width == 0 || rgb.height == 0 {
        return Err(bad(format!("picture {name} is empty")));
    }
    Ok(Look::of(&rgb))
}

impl Look {
    fn of(rgb: &Rgb) -> Self {
        let &Rgb { width, height, .. } = rgb;
        Self { width, height, deviation: deviation(rgb), thumbnail: Thumbnail::of(rgb) }
    }

    pub(super) fn shorter(&self) -> u32 {
        self.width.min(self.height)
    }

    /// Longer side over shorter side.
    pub(super) fn aspect(&self) -> f64 {
        f64::from(self.width.max(self.height)) / f64::from(self.shorter())
    }

    /// Language tokens of its area, unrounded.
    pub(super) fn tokens(&self) -> f64 {
        f64::from(self.width) * f64::from(self.height) / f64::from(TOKEN_SIDE * TOKEN_SIDE)
    }

    pub(super) fn judge(&self, name: &str, rules: &PictureRules, broken: &mut Vec<Broken>) {
        let Self { width, height, deviation, .. } = *self;
        let size = format!("picture {name} has {width} x {height} pixels");
        if self.shorter() < rules.min_side {
            let limit = format!("each side at least {}", rules.min_side);
            broken.push(Broken::new(Rule::Side, size.clone(), limit));
        }
        if self.aspect() > rules.max_aspect {
            let limit = format!("one side at most {} times the other", rules.max_aspect);
            broken.push(Broken::new(Rule::Aspect, size, limit));
        }
        if deviation < rules.min_deviation {
            let measured = format!("picture {name} is blank, its channels deviate by {deviation:.2} of 255");
            broken.push(Broken::new(Rule::Blank, measured, format!("at least {}", rules.min_deviation)));
        }
    }
}

/// Standard deviation of the channel that deviates most; from sums of integers, so exact but for the last step.
fn deviation(rgb: &Rgb) -> f64 {
    let (mut sums, mut squares) = ([0u64; 3], [0u64; 3]);
    for row in rgb.rgb.chunks(rgb.width as usize * 3) {
        // A row of 16,384 pixels keeps within 32 bits.
        let (mut row_sums, mut row_squares) = ([0u32; 3], [0u32; 3]);
        for pixel in row.as_chunks::<3>().0 {
            for channel in 0..3 {
                let value = u32::from(pixel[channel]);
                row_sums[channel] += value;
                row_squares[channel] += value * value;
            }
        }
        for channel in 0..3 {
            sums[channel] += u64::from(row_sums[channel]);
            squares[channel] += u64::from(row_squares[channel]);
        }
    }
    let pixels = u128::from(rgb.width) * u128::from(rgb.height);
    (0..3)
        .map(|channel| {
            let sum = u128::from(sums[channel]);
            let spread = pixels * u128::from(squares[channel]) - sum * sum;
            (spread as f64).sqrt() / pixels as f64
        })
        .fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn picture(width: u32, height: u32, pixel: impl Fn(u32, u32) -> [u8; 3]) -> Rgb {
        let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        Rgb { width, height, rgb: pixels.flat_map(|(x, y)| pixel(x, y)).collect() }
    }

    fn broken(look: &Look, rules: &PictureRules) -> Vec<Rule> {
        let mut broken = Vec::new();
        look.judge("p.png", rules, &mut broken);
        broken.into_iter().map(|broken| broken.rule).collect()
    }

    #[test]
    fn sides_and_aspects_at_the_limit_pass_and_beyond_it_do_not() {
        let rules = PictureRules { min_side: 10, max_aspect: 4.0, min_deviation: 0.0 };
        let of = |width, height| broken(&Look::of(&picture(width, height, |_, _| [0; 3])), &rules);
        assert_eq!(of(40, 10), []);
        assert_eq!(of(40, 9), [Rule::Side, Rule::Aspect]);
        assert_eq!(of(9, 20), [Rule::Side]);
        assert_eq!(of(41, 10), [Rule::Aspect]);
        assert_eq!(of(10, 41), [Rule::Aspect]);
    }

    #[test]
    fn a_picture_of_one_colour_is_blank_and_one_that_deviates_enough_is_not() {
        let rules = PictureRules { min_side: 1, max_aspect: 200.0, min_deviation: 2.0 };
        let of = |step: u8| Look::of(&picture(20, 20, |x, _| [200, 40 + step * (x % 2) as u8, 90]));
        assert_eq!(of(0).deviation, 0.0);
        assert_eq!(broken(&of(0), &rules), [Rule::Blank]);
        assert_eq!(of(4).deviation, 2.0, "half of the pixels 4 higher");
        assert_eq!(broken(&of(4), &rules), []);
        assert_eq!(broken(&of(3), &rules), [Rule::Blank]);
        assert_eq!(of(200).deviation, 100.0);
    }

    #[test]
    fn the_evidence_names_picture_value_and_limit() {
        let mut said = Vec::new();
        Look::of(&picture(30, 5, |_, _| [7; 3])).judge("a/b.png", &PictureRules::default(), &mut said);
        let said = format!("{said:?}");
        for part in
            ["a/b.png has 30 x 5 pixels", "each side at least 28", "deviate by 0.00 of 255", "at least 2"]
        {
            assert!(said.contains(part), "{said}");
        }
    }
}

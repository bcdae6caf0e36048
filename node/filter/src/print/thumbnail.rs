//! Perceptual hashes of pictures, in integers.
//!
//! A picture is averaged to 32 x 32 cells. *Brightness* is the hash of Zauner's pHash (2010): a cosine transform of the
//! cells, of which the 8 x 8 lowest frequencies without the constant rows say by a bit each whether they are above their
//! median. *Colour* is the mean of red minus green and of yellow minus blue over 4 x 4 squares, each in two bits, so that
//! a circle in red and one in green are two pictures.

use talkoot_dataset::Rgb;

/// Cells along a side.
const SIDE: usize = 32;
/// Squares along a side that colours are taken of.
const SQUARES: usize = 4;
/// Bits of a hash along a side.
const BITS: usize = 8;

/// `round(2^14 cos(k pi / 64))`, k from 0 to 32: written down, so that no library's cosine decides about a bit.
const COSINES: [i64; 33] = [
    16384, 16364, 16305, 16207, 16069, 15893, 15679, 15426, 15137, 14811, 14449, 14053, 13623, 13160, 12665,
    12140, 11585, 11003, 10394, 9760, 9102, 8423, 7723, 7005, 6270, 5520, 4756, 3981, 3196, 2404, 1606, 804,
    0,
];

/// Mean colours of 32 x 32 cells, in 1/16 of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thumbnail(Box<[[u16; 3]; SIDE * SIDE]>);

impl Thumbnail {
    /// The cells of a picture, which must not be empty. A cell is the mean of the pixels that it covers, at least one.
    pub fn of(picture: &Rgb) -> Self {
        let (width, height) = (picture.width as usize, picture.height as usize);
        let span = |cell: usize, length: usize| {
            let from = cell * length / SIDE;
            from..((cell + 1) * length / SIDE).max(from + 1)
        };
        let mut cells = Box::new([[0; 3]; SIDE * SIDE]);
        for down in 0..SIDE {
            let rows = span(down, height);
            let mut sums = [[0u64; 3]; SIDE];
            for row in rows.clone() {
                let row = &picture.rgb[row * width * 3..][..width * 3];
                for (across, sums) in sums.iter_mut().enumerate() {
                    let columns = span(across, width);
                    let mut some = [0u32; 3];
                    for pixel in row[columns.start * 3..columns.end * 3].as_chunks::<3>().0 {
                        some = std::array::from_fn(|channel| some[channel] + u32::from(pixel[channel]));
                    }
                    *sums = std::array::from_fn(|channel| sums[channel] + u64::from(some[channel]));
                }
            }
            for (across, sums) in sums.iter().enumerate() {
                let pixels = (rows.len() * span(across, width).len()) as u64;
                cells[down * SIDE + across] = sums.map(|sum| (16 * sum / pixels) as u16);
            }
        }
        Self(cells)
    }

    /// The mean of several; none of none. The order does not matter.
    pub fn mean<'a>(thumbnails: impl IntoIterator<Item = &'a Self>) -> Option<Self> {
        let (mut sums, mut count) = (vec![[0u64; 3]; SIDE * SIDE], 0);
        for thumbnail in thumbnails {
            count += 1;
            for (sums, cell) in sums.iter_mut().zip(thumbnail.0.iter()) {
                *sums = std::array::from_fn(|channel| sums[channel] + u64::from(cell[channel]));
            }
        }
        (count > 0)
            .then(|| Self(Box::new(std::array::from_fn(|cell| sums[cell].map(|sum| (sum / count) as u16)))))
    }

    /// 64 bits of how bright it is where.
    pub fn brightness(&self) -> u64 {
        // Weights of ITU-R BT.601 in 1/256.
        let light = |cell: &[u16; 3]| {
            let [red, green, blue] = cell.map(i64::from);
            77 * red + 150 * green + 29 * blue
        };
        let light: Vec<i64> = self.0.iter().map(light).collect();
        let mut rows = [[0; BITS]; SIDE];
        for (cells, row) in light.chunks(SIDE).zip(&mut rows) {
            for (frequency, sum) in row.iter_mut().enumerate() {
                *sum = (0..SIDE).map(|at| cosine(at, frequency + 1) * cells[at]).sum();
            }
        }
        let mut waves = [0; BITS * BITS];
        for (at, wave) in waves.iter_mut().enumerate() {
            let (down, across) = (at / BITS, at % BITS);
            *wave = (0..SIDE).map(|row| cosine(row, down + 1) * rows[row][across]).sum();
        }
        let mut sorted = waves;
        sorted.sort_unstable();
        let median = sorted[BITS * BITS / 2 - 1];
        waves.iter().enumerate().fold(0, |bits, (at, &wave)| bits | u64::from(wave > median) << at)
    }

    /// 64 bits of how it is coloured where: levels of neighbouring numbers differ in one bit.
    pub fn colour(&self) -> u64 {
        let cells = SIDE / SQUARES;
        (0..SQUARES * SQUARES).fold(0, |bits, square| {
            let (down, across) = (square / SQUARES * cells, square % SQUARES * cells);
            let mut sums = [0i64; 3];
            for row in down..down + cells {
                for cell in &self.0[row * SIDE + across..][..cells] {
                    sums = std::array::from_fn(|channel| sums[channel] + i64::from(cell[channel]));
                }
            }
            let [red, green, blue] = sums.map(|sum| sum / (cells * cells) as i64);
            let level = level(red - green) | level((red + green) / 2 - blue) << 2;
            bits | level << (4 * square)
        })
    }
}

/// Two bits for a difference of channels, which is in 1/16 of a step of 255: clearly below nothing, about nothing,
/// clearly above. Opposite colours differ in both.
fn level(difference: i64) -> u64 {
    /// 24 steps: a strong colour over a tenth of a square shows.
    const CLEARLY: i64 = 24 * 16;
    u64::from(difference < -CLEARLY) | u64::from(difference > CLEARLY) << 1
}

/// `2^14 cos((2 at + 1) frequency pi / 64)`.
fn cosine(at: usize, frequency: usize) -> i64 {
    let turn = (2 * at + 1) * frequency % 128;
    let half = if turn > 64 { 128 - turn } else { turn };
    if half > 32 { -COSINES[64 - half] } else { COSINES[half] }
}

#[cfg(test)]
mod tests {
    use image::{ExtendedColorType, ImageEncoder, codecs::jpeg::JpegEncoder};
    use talkoot_dataset::preprocess::{decode, resize_bicubic};

    use super::*;

    /// A scene of a few waves and a disc, set by a number.
    fn scene(number: u32, width: u32, height: u32, disc: [u8; 3]) -> Rgb {
        let wave = |k: u32| f64::from(number.wrapping_mul(2_654_435_761).rotate_left(k * 7) % 1000) / 1000.0;
        let mut rgb = Vec::new();
        for y in 0..height {
            for x in 0..width {
                let (u, v) = (f64::from(x) / f64::from(width), f64::from(y) / f64::from(height));
                let light =
                    (0..4).map(|k| (u * 9.0 * wave(k) + v * 9.0 * wave(k + 1) + 6.0 * wave(k + 2)).sin());
                let light = (128.0 + 25.0 * light.sum::<f64>()) as u8;
                let inside = (u - 0.6).powi(2) + (v - 0.4).powi(2) < 0.04;
                rgb.extend(if inside { disc } else { [light; 3] });
            }
        }
        Rgb { width, height, rgb }
    }

    fn distance(a: &Rgb, b: &Rgb) -> (u32, u32) {
        let [a, b] = [a, b].map(Thumbnail::of);
        ((a.brightness() ^ b.brightness()).count_ones(), (a.colour() ^ b.colour()).count_ones())
    }

    fn as_jpeg(picture: &Rgb, quality: u8) -> Rgb {
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, quality)
            .write_image(&picture.rgb, picture.width, picture.height, ExtendedColorType::Rgb8)
            .unwrap();
        decode::decode_bytes(&bytes, "p.jpg".as_ref(), &decode::DecodeLimits::default()).unwrap()
    }

    #[test]
    fn the_written_cosines_are_cosines() {
        for at in 0..SIDE {
            for frequency in 0..=BITS {
                let angle = ((2 * at + 1) * frequency) as f64 * std::f64::consts::PI / 64.0;
                assert_eq!(
                    cosine(at, frequency),
                    (16_384.0 * angle.cos()).round() as i64,
                    "{at} {frequency}"
                );
            }
        }
    }

    #[test]
    fn a_picture_saved_again_or_resized_is_near_and_another_is_far() {
        for number in 0..12 {
            let picture = scene(number, 320, 240, [230, 40, 30]);
            for again in [
                as_jpeg(&picture, 60),
                resize_bicubic(&picture, 200, 150),
                resize_bicubic(&picture, 700, 500),
            ] {
                let (brightness, colour) = distance(&picture, &again);
                assert!(brightness <= 4 && colour <= 2, "{number}: {brightness} {colour}");
            }
            let (brightness, _) = distance(&picture, &scene(number + 1, 320, 240, [230, 40, 30]));
            assert!(brightness > 6, "{number}: {brightness}");
        }
    }

    #[test]
    fn another_colour_in_the_same_brightness_is_another_picture() {
        // Both have the same brightness.
        let (brightness, colour) =
            distance(&scene(3, 300, 300, [240, 60, 60]), &scene(3, 300, 300, [60, 152, 61]));
        assert!(brightness <= 1, "{brightness}");
        assert!(colour > 2, "{colour}");
    }

    #[test]
    fn pictures_smaller_than_the_thumbnail_have_one_too() {
        for (width, height) in [(1, 1), (1, 300), (31, 33), (5, 2)] {
            let thumbnail =
                Thumbnail::of(&Rgb { width, height, rgb: vec![9; (width * height * 3) as usize] });
            assert!(thumbnail.0.iter().all(|cell| *cell == [144; 3]));
            assert_eq!(thumbnail.colour(), 0);
        }
    }

    #[test]
    fn the_mean_of_several_knows_no_order() {
        let some: Vec<Thumbnail> = (0..3).map(|n| Thumbnail::of(&scene(n, 64, 64, [9, 9, 200]))).collect();
        let [a, b, c] = [&some[0], &some[1], &some[2]];
        assert_eq!(Thumbnail::mean([a, b, c]), Thumbnail::mean([c, a, b]));
        assert_eq!(Thumbnail::mean([a]).as_ref(), Some(a));
        assert_eq!(Thumbnail::mean([]), None);
    }
}

//! From the pixels of a picture to the rows that the vision tower reads.

use crate::{batch::Image, config::VisionConfig};

/// Mean of red, green and blue that CLIP subtracts, on the scale 0 to 1.
pub const CLIP_MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
/// Standard deviation of red, green and blue that CLIP divides by.
pub const CLIP_DEVIATION: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// A picture, or one frame, cut into normalised patches.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// Patches from top to bottom.
    pub rows: usize,
    /// Patches from left to right.
    pub columns: usize,
    /// `rows * columns` patches of `3 * patch * patch` numbers (channel, row, column), in merge order: blocks of 2x2
    /// patches row by row, and inside a block again row by row.
    pub patches: Vec<f32>,
}

impl Picture {
    /// Cuts and normalises a picture.
    ///
    /// # Panics
    ///
    /// When the picture's sides are not multiples of patch size times merge size, or its bytes don't match them;
    /// [`crate::batch::Pack::check`] refuses such pictures first.
    pub fn new(image: &Image, vision: &VisionConfig) -> Self {
        let side = vision.patch_size;
        let (rows, columns) = (image.height as usize / side, image.width as usize / side);
        let scale = tables();
        let mut patches = Vec::with_capacity(rows * columns * vision.patch_values());
        for (row, column) in merge_order(rows, columns, vision.spatial_merge_size) {
            for (channel, table) in scale.iter().enumerate() {
                for y in row * side..(row + 1) * side {
                    let line = 3 * (y * image.width as usize + column * side);
                    let pixels = image.rgb[line..line + 3 * side].as_chunks::<3>().0;
                    patches.extend(pixels.iter().map(|pixel| table[usize::from(pixel[channel])]));
                }
            }
        }
        Self { rows, columns, patches }
    }

    /// Number of patches.
    pub fn len(&self) -> usize {
        self.rows * self.columns
    }

    /// Whether there is no patch at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What every byte value becomes, per channel: scaled to 0..1, minus the mean, over the deviation.
fn tables() -> [[f32; 256]; 3] {
    let entry = |channel: usize, byte: usize| {
        ((byte as f64 / 255.0 - f64::from(CLIP_MEAN[channel])) / f64::from(CLIP_DEVIATION[channel])) as f32
    };
    std::array::from_fn(|channel| std::array::from_fn(|byte| entry(channel, byte)))
}

/// Row and column of every patch in merge order.
pub(crate) fn merge_order(rows: usize, columns: usize, merge: usize) -> impl Iterator<Item = (usize, usize)> {
    let blocks = (0..rows / merge).flat_map(move |y| (0..columns / merge).map(move |x| (y, x)));
    blocks.flat_map(move |(y, x)| {
        (0..merge).flat_map(move |dy| (0..merge).map(move |dx| (y * merge + dy, x * merge + dx)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_come_in_blocks_of_two_by_two() {
        let order: Vec<_> = merge_order(4, 6, 2).collect();
        let start =
            [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (0, 3), (1, 2), (1, 3), (0, 4), (0, 5), (1, 4), (1, 5)];
        assert_eq!(order[..12], start);
        assert_eq!(order[12..16], [(2, 0), (2, 1), (3, 0), (3, 1)]);
        assert_eq!(order.len(), 24);
    }
}

//! Drawing, pixel by pixel and in integers: plain shapes and printed text.

use super::{
    font,
    scene::{Shape, Tint},
};
use crate::preprocess::Rgb;

/// A picture being drawn.
pub(super) struct Canvas(Rgb);

impl Canvas {
    /// A picture of one colour.
    pub(super) fn new(width: u32, height: u32, tint: Tint) -> Self {
        let pixels = width as usize * height as usize;
        Self(Rgb { width, height, rgb: tint.repeat(pixels) })
    }

    pub(super) fn finish(self) -> Rgb {
        self.0
    }

    fn dot(&mut self, x: i32, y: i32, tint: Tint) {
        let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) else { return };
        if x < self.0.width && y < self.0.height {
            let at = (y as usize * self.0.width as usize + x as usize) * 3;
            self.0.rgb[at..at + 3].copy_from_slice(&tint);
        }
    }

    /// A filled shape about (`x`, `y`), reaching `radius` pixels to each side.
    pub(super) fn shape(&mut self, shape: Shape, (x, y): (i32, i32), radius: i32, tint: Tint) {
        for dy in -radius..=radius {
            for dx in -radius..=radius {
                if covers(shape, dx, dy, radius) {
                    self.dot(x + dx, y + dy, tint);
                }
            }
        }
    }

    /// `text` about (`x`, `y`), each pixel of the font `scale` pixels wide and high.
    pub(super) fn text(&mut self, text: &str, (x, y): (i32, i32), scale: i32, tint: Tint) {
        let columns = columns_of(text);
        let (left, top) = (x - columns * scale / 2, y - font::HEIGHT * scale / 2);
        for py in 0..font::HEIGHT * scale {
            for px in 0..columns * scale {
                let (column, row) = (px / scale, py / scale);
                let letter = text.chars().nth((column / (font::WIDTH + 1)) as usize);
                if letter.is_some_and(|letter| font::ink(letter, column % (font::WIDTH + 1), row)) {
                    self.dot(left + px, top + py, tint);
                }
            }
        }
    }
}

/// Columns of the font that `text` takes, one blank between letters.
pub(super) fn columns_of(text: &str) -> i32 {
    (text.chars().count() as i32 * (font::WIDTH + 1) - 1).max(0)
}

/// Whether a shape of radius `r` about the origin covers the pixel at (`dx`, `dy`), y pointing down.
fn covers(shape: Shape, dx: i32, dy: i32, r: i32) -> bool {
    let (ax, ay, far) = (dx.abs(), dy.abs(), dx * dx + dy * dy);
    match shape {
        Shape::Circle => far <= r * r,
        Shape::Square => ax.max(ay) * 8 <= r * 7,
        Shape::Triangle => ax * 2 <= dy + r,
        Shape::Diamond => ax + ay <= r,
        Shape::Cross => ax.min(ay) * 7 <= r * 2,
        Shape::Ring => far <= r * r && far * 3 >= r * r,
    }
}

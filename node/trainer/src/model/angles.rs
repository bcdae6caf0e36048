//! Tables of cosines and sines for rotary positions.
//!
//! Angles are f32 products of position and frequency, as upstream has them; their cosines and sines are computed in f64
//! by functions of our own and then rounded, so the tables are the same everywhere. A row holds the cosines, then the
//! sines.

use crate::{
    config::{TextConfig, VisionConfig},
    elementary::{exp, ln, sin_cos},
};

/// Base of the rotary frequencies of the vision tower.
const VISION_THETA: f64 = 10_000.0;

/// `theta^(-2 j / width)` for `j < count`.
fn frequencies(theta: f64, width: usize, count: usize) -> Vec<f32> {
    let log = ln(theta);
    (0..count).map(|j| exp(-(2.0 * j as f64 / width as f64) * log) as f32).collect()
}

/// Cosine and sine, rounded to f32.
fn turn(angle: f32) -> (f32, f32) {
    let (sine, cosine) = sin_cos(f64::from(angle));
    (cosine as f32, sine as f32)
}

/// Rows for the positions 0, 1, 2, ..., as many as were ever asked for.
#[derive(Debug)]
pub(super) struct PositionTable {
    frequencies: Vec<f32>,
    rows: Vec<f32>,
}

impl PositionTable {
    pub(super) fn new(text: &TextConfig) -> Self {
        let half = text.head_dim / 2;
        Self { frequencies: frequencies(text.rope_theta, text.head_dim, half), rows: Vec::new() }
    }

    /// `[positions, d]`.
    pub(super) fn turns(&mut self, positions: &[u32]) -> Vec<f32> {
        let half = self.frequencies.len();
        let width = 2 * half;
        let longest = positions.iter().max().map_or(0, |&last| last as usize + 1);
        for position in self.rows.len() / width.max(1)..longest {
            let turns: Vec<(f32, f32)> =
                self.frequencies.iter().map(|frequency| turn(position as f32 * frequency)).collect();
            self.rows.extend(turns.iter().map(|(cosine, _)| cosine));
            self.rows.extend(turns.iter().map(|(_, sine)| sine));
        }
        let row = |&position: &u32| &self.rows[position as usize * width..][..width];
        positions.iter().flat_map(row).copied().collect()
    }
}

/// Rows of the vision tower: `[rows, d]` turns, from each row's cell of the grid (row and column of the patch) or, for a
/// class row, from learned angles.
pub(super) fn vision_turns(vision: &VisionConfig, cells: &[Option<(u32, u32)>], class: &[f32]) -> Vec<f32> {
    let quarter = vision.head_dim() / 4;
    let frequencies = frequencies(VISION_THETA, vision.head_dim() / 2, quarter);
    let side = cells.iter().flatten().map(|&(y, x)| y.max(x) + 1).max().unwrap_or(0);
    let along: Vec<Vec<(f32, f32)>> =
        (0..side).map(|at| frequencies.iter().map(|f| turn(at as f32 * f)).collect()).collect();
    let class: Vec<(f32, f32)> = class.iter().map(|&angle| turn(angle)).collect();
    let mut turns = Vec::with_capacity(cells.len() * vision.head_dim());
    for cell in cells {
        let (first, second) = match cell {
            Some((y, x)) => (&along[*y as usize][..], &along[*x as usize][..]),
            None => class.split_at(quarter),
        };
        let both = || first.iter().chain(second);
        turns.extend(both().map(|(cosine, _)| cosine));
        turns.extend(both().map(|(_, sine)| sine));
    }
    turns
}

/// The angles themselves, `[rows, d / 2]`: what the oracle compares.
pub(super) fn vision_angles(vision: &VisionConfig, cells: &[Option<(u32, u32)>], class: &[f32]) -> Vec<f32> {
    let frequencies = frequencies(VISION_THETA, vision.head_dim() / 2, vision.head_dim() / 4);
    let mut angles = Vec::with_capacity(cells.len() * class.len());
    for cell in cells {
        match cell {
            Some((y, x)) => {
                angles.extend(frequencies.iter().map(|f| *y as f32 * f));
                angles.extend(frequencies.iter().map(|f| *x as f32 * f));
            }
            None => angles.extend_from_slice(class),
        }
    }
    angles
}

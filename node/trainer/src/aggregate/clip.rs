//! Centered clipping: the share of each contribution, so that what lies far from the others counts for less.

use rayon::prelude::*;

use super::gates::median;
use crate::contribution::Contribution;

/// Times that the centre is found anew.
const ITERATIONS: usize = 3;

/// The shares of checked contributions whose weights are beside them; see [`Rule::CenteredClip`](super::Rule::CenteredClip).
///
/// The centre is a sum of shares times contributions and never stands anywhere as a whole: every iteration reads all of them
/// once, chunk by chunk.
pub(super) fn shares(contributions: &[(Contribution<'_>, f32)], clip: f64) -> Vec<f32> {
    let count = contributions.len();
    let mut shares = vec![0f64; count];
    let nowhere = products(contributions, &shares);
    let norms: Vec<f64> = nowhere.squares.iter().map(|square| square.sqrt()).collect();
    let reach = clip * median(&norms).unwrap_or(0.0);
    let mut seen = nowhere;
    for iteration in 0..ITERATIONS {
        if iteration > 0 {
            seen = products(contributions, &shares);
        }
        let kept: Vec<f64> = (0..count)
            .map(|at| {
                let square = seen.squares[at] - 2.0 * seen.with_centre[at] + seen.centre;
                let distance = square.max(0.0).sqrt();
                if distance > reach { reach / distance } else { 1.0 }
            })
            .collect();
        let weight = |at: usize| f64::from(contributions[at].1);
        let moved: f64 = (0..count).map(|at| weight(at) * kept[at]).sum();
        for (at, share) in shares.iter_mut().enumerate() {
            *share = weight(at) * kept[at] + (1.0 - moved) * *share;
        }
    }
    shares.into_iter().map(|share| share as f32).collect()
}

/// Inner products of contributions with themselves and with a centre.
#[derive(Debug, Default)]
struct Products {
    /// `x_i x_i`.
    squares: Vec<f64>,
    /// `x_i v`.
    with_centre: Vec<f64>,
    /// `v v`.
    centre: f64,
}

/// The products with the centre `v = sum of shares_j x_j`: entries in order within a segment, segments in order.
fn products(contributions: &[(Contribution<'_>, f32)], shares: &[f64]) -> Products {
    let geometry = contributions[0].0.geometry();
    let parts: Vec<Products> = (0..geometry.segments())
        .into_par_iter()
        .map_init(Vec::new, |centre, segment| {
            let mut readers: Vec<_> = contributions.iter().map(|(each, _)| each.segment(segment)).collect();
            let mut part = Products {
                squares: vec![0.0; readers.len()],
                with_centre: vec![0.0; readers.len()],
                centre: 0.0,
            };
            for number in geometry.segment(segment) {
                let len = geometry.chunk(number).len;
                centre.clear();
                centre.resize(len, 0f64);
                for (reader, share) in readers.iter_mut().zip(shares) {
                    reader.next(number, len).expect("every segment was read once when the round was opened");
                    for (&position, &value) in reader.positions.iter().zip(&reader.values) {
                        centre[usize::from(position)] += share * f64::from(value);
                    }
                }
                for (at, reader) in readers.iter().enumerate() {
                    for (&position, &value) in reader.positions.iter().zip(&reader.values) {
                        let value = f64::from(value);
                        part.squares[at] += value * value;
                        part.with_centre[at] += value * centre[usize::from(position)];
                    }
                }
                part.centre += centre.iter().map(|value| value * value).sum::<f64>();
            }
            part
        })
        .collect();
    let mut all = Products {
        squares: vec![0.0; contributions.len()],
        with_centre: vec![0.0; contributions.len()],
        centre: 0.0,
    };
    for part in parts {
        for (sum, more) in all.squares.iter_mut().zip(part.squares) {
            *sum += more;
        }
        for (sum, more) in all.with_centre.iter_mut().zip(part.with_centre) {
            *sum += more;
        }
        all.centre += part.centre;
    }
    all
}

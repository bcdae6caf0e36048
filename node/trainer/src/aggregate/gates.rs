//! What is measured of a contribution before it may count.
//!
//! Shape, settings, finiteness and canonical form are the decoder's; what is left is whether the update has a
//! plausible length, and whether two members send suspiciously alike ones.

use crate::contribution::{CodecSettings, Contribution, DecodeError, Header, Layout};

/// What a contribution is, in numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measure {
    /// Its header.
    pub header: Header,
    /// Entries sent.
    pub entries: u64,
    /// Euclidean norm of what is sent, in f64, squares summed in order: the same bits everywhere.
    pub norm: f64,
}

/// Reads a whole contribution, which checks it, and measures it.
///
/// # Errors
///
/// [`DecodeError`] when the bytes are not a canonical blob for `settings` and `layout`.
pub fn measure(bytes: &[u8], settings: &CodecSettings, layout: &Layout) -> Result<Measure, DecodeError> {
    let contribution = Contribution::open(bytes, settings, layout)?;
    let (mut entries, mut square) = (0u64, 0f64);
    contribution.visit(|view| {
        entries += view.positions.len() as u64;
        for &value in view.values {
            square += f64::from(value) * f64::from(value);
        }
    })?;
    Ok(Measure { header: *contribution.header(), entries, norm: square.sqrt() })
}

/// Keeps a contribution's norm within a multiple of the median of those before it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormGate {
    /// Smallest norm, as a multiple of the median.
    pub low: f64,
    /// Largest norm, as a multiple of the median.
    pub high: f64,
}

/// Why a contribution doesn't pass a gate.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GateError {
    /// The norm is too far from the median, or no number.
    #[error("norm {norm} is not within [{low}, {high}] of the median {median}")]
    Norm {
        /// The measured norm.
        norm: f64,
        /// The median it was held to.
        median: f64,
        /// Smallest multiple allowed.
        low: f64,
        /// Largest multiple allowed.
        high: f64,
    },
}

impl Default for NormGate {
    /// 0.2 to 3 times the median.
    fn default() -> Self {
        Self { low: 0.2, high: 3.0 }
    }
}

impl NormGate {
    /// Holds `norm` to the median of `history`: the caller's running window of norms, in any order. Without
    /// history, every finite norm passes.
    ///
    /// # Errors
    ///
    /// [`GateError::Norm`] when it lies outside.
    pub fn check(&self, norm: f64, history: &[f64]) -> Result<(), GateError> {
        let median = median(history);
        let passes = match median {
            Some(median) => (self.low * median..=self.high * median).contains(&norm),
            None => norm.is_finite(),
        };
        if passes {
            return Ok(());
        }
        Err(GateError::Norm { norm, median: median.unwrap_or(f64::NAN), low: self.low, high: self.high })
    }
}

/// The middle value; of an even number, the mean of the two in the middle.
pub(super) fn median(history: &[f64]) -> Option<f64> {
    let mut sorted = history.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some((sorted[sorted.len() / 2 - 1] + upper) / 2.0)
}

/// How many positions two contributions share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overlap {
    /// Positions that both send.
    pub shared: u64,
    /// Positions that the one with fewer of them sends.
    pub fewest: u64,
}

impl Overlap {
    /// `shared / fewest`: 1 for a copy, about `k / chunk` for unrelated ones, 0 when one is empty.
    pub fn fraction(&self) -> f64 {
        if self.fewest == 0 { 0.0 } else { self.shared as f64 / self.fewest as f64 }
    }
}

/// Compares the positions of two contributions. Honest members share far more than chance would have it, as
/// they train the same model; from about 0.4 on it is worth a look.
///
/// # Errors
///
/// [`DecodeError`] when either is not a canonical blob for `settings` and `layout`.
pub fn overlap(
    one: &[u8],
    other: &[u8],
    settings: &CodecSettings,
    layout: &Layout,
) -> Result<Overlap, DecodeError> {
    let one = Contribution::open(one, settings, layout)?;
    let other = Contribution::open(other, settings, layout)?;
    let (mut shared, mut ones, mut others) = (0u64, 0u64, 0u64);
    for segment in 0..one.geometry().segments() {
        let (mut left, mut right) = (one.segment(segment), other.segment(segment));
        for number in one.geometry().segment(segment) {
            let len = one.geometry().chunk(number).len;
            left.next(number, len)?;
            right.next(number, len)?;
            shared += in_both(&left.positions, &right.positions);
            ones += left.positions.len() as u64;
            others += right.positions.len() as u64;
        }
        left.finish()?;
        right.finish()?;
    }
    Ok(Overlap { shared, fewest: ones.min(others) })
}

/// Values that two ascending lists share.
fn in_both(left: &[u16], right: &[u16]) -> u64 {
    let (mut left, mut right, mut shared) = (left.iter().peekable(), right.iter().peekable(), 0);
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        match a.cmp(b) {
            std::cmp::Ordering::Less => drop(left.next()),
            std::cmp::Ordering::Greater => drop(right.next()),
            std::cmp::Ordering::Equal => {
                shared += 1;
                left.next();
                right.next();
            }
        }
    }
    shared
}

//! How weights are cut into files.

use std::{fmt, ops::Range, str::FromStr};

/// Most bytes of tensors in one file. A tensor that is larger has a file of its own: tensors are never cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardSize(pub u64);

impl Default for ShardSize {
    /// 5 GB, the hub's custom.
    fn default() -> Self {
        Self(5_000_000_000)
    }
}

/// A word that is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{got:?} is no size: write a whole number with B, kB, MB, GB, KiB, MiB or GiB, like 5GB")]
pub struct ShardSizeError {
    /// The word.
    pub got: String,
}

const UNITS: [(&str, u64); 7] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

impl FromStr for ShardSize {
    type Err = ShardSizeError;

    fn from_str(text: &str) -> Result<Self, ShardSizeError> {
        let number = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let unit = UNITS.iter().find(|(unit, _)| *unit == &text[number.len()..]);
        let bytes = unit.and_then(|(_, factor)| number.trim_end().parse::<u64>().ok()?.checked_mul(*factor));
        match bytes {
            Some(bytes) if bytes > 0 => Ok(Self(bytes)),
            _ => Err(ShardSizeError { got: text.chars().take(40).collect() }),
        }
    }
}

impl fmt::Display for ShardSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = UNITS.iter().filter(|(_, factor)| self.0.is_multiple_of(*factor));
        let (unit, factor) = whole.max_by_key(|(_, factor)| *factor).unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

/// Cuts a list of tensors, given their lengths in bytes, into runs that fit a file each. In order, as full as they
/// get; never empty.
pub(super) fn cut(lengths: &[u64], size: ShardSize) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut filled = 0u64;
    for (at, &length) in lengths.iter().enumerate() {
        filled = filled.saturating_add(length);
        match runs.last_mut() {
            Some(run) if filled <= size.0 => run.end = at + 1,
            _ => {
                filled = length;
                runs.push(at..at + 1);
            }
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        for (text, bytes) in [("5GB", 5_000_000_000), ("2GiB", 2 << 30), ("500MB", 500_000_000), ("17B", 17)]
        {
            assert_eq!(text.parse(), Ok(ShardSize(bytes)));
            assert_eq!(ShardSize(bytes).to_string(), text);
        }
        assert_eq!("64 MiB".parse(), Ok(ShardSize(64 << 20)));
        for text in ["", "5", "GB", "0GB", "-1GB", "1.5GB", "5gb", "99999999999GB", "5GBB"] {
            assert_eq!(text.parse::<ShardSize>(), Err(ShardSizeError { got: text.to_owned() }));
        }
    }

    proptest! {
        #[test]
        fn every_tensor_is_in_one_file_and_no_file_is_too_full(
            lengths in prop::collection::vec(0u64..40, 1..60), size in 1u64..100
        ) {
            let runs = cut(&lengths, ShardSize(size));
            prop_assert_eq!(runs.clone().into_iter().flatten().collect::<Vec<_>>(), (0..lengths.len()).collect::<Vec<_>>());
            let sum = |run: &Range<usize>| lengths[run.clone()].iter().sum::<u64>();
            for (run, next) in runs.iter().zip(runs.iter().skip(1)) {
                prop_assert!(sum(run) <= size || run.len() == 1);
                prop_assert!(sum(run) + lengths[next.start] > size, "the next one had fitted");
            }
        }
    }
}

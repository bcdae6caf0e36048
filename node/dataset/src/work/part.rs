//! Shares of the work.

use std::{fmt, str::FromStr};

/// One of several shares of the work, `3/16` in text: numbers from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    index: u32,
    of: u32,
}

/// A text is not a [`Part`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a part is written as 3/16, from 1/16 to 16/16 and of at most {limit}; got {got:?}", limit = Part::MOST)]
pub struct ParsePartError {
    got: String,
}

impl Part {
    /// All of it.
    pub const WHOLE: Self = Self { index: 0, of: 1 };
    /// Most parts.
    pub const MOST: u32 = 100_000;

    /// Part `index` (from 0) of `of`, if there is one.
    pub const fn new(index: u32, of: u32) -> Option<Self> {
        if index < of && of <= Self::MOST { Some(Self { index, of }) } else { None }
    }

    /// Its number, from 0.
    pub const fn index(self) -> u32 {
        self.index
    }

    /// How many parts there are.
    pub const fn of(self) -> u32 {
        self.of
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index + 1, self.of)
    }
}

impl FromStr for Part {
    type Err = ParsePartError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers = text.split_once('/').and_then(|(a, b)| Some((a.parse::<u32>().ok()?, b.parse().ok()?)));
        numbers
            .and_then(|(number, of)| Self::new(number.checked_sub(1)?, of))
            .ok_or_else(|| ParsePartError { got: text.chars().take(80).collect() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_are_read_as_written(index in 0u32..50, of in 1u32..50) {
            match Part::new(index, of) {
                Some(part) => prop_assert_eq!(part.to_string().parse::<Part>(), Ok(part)),
                None => prop_assert!(index >= of),
            }
        }
    }

    #[test]
    fn a_part_that_is_none_is_refused() {
        for text in ["", "3", "0/4", "5/4", "1/0", "a/b", "1/1000000"] {
            assert!(text.parse::<Part>().is_err(), "{text}");
        }
    }
}

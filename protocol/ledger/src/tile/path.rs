//! Where a tile lies under the log's folder.

use std::{fmt, str::FromStr};

use super::TILE_WIDTH;
use crate::encoding;

/// Which tile or bundle: `tile/<L>/<N>[.p/<W>]` or `tile/entries/<N>[.p/<W>]`.
///
/// `N` is written in groups of three digits, all but the last behind an `x`: 1234067 is
/// `x001/x234/067`. `W` appears for partial tiles only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TilePath {
    level: Option<u8>,
    index: u64,
    width: u16,
}

/// Why a text is no path of a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// The path doesn't start with `tile/`.
    #[error("the path does not start with tile/")]
    NoPrefix,
    /// The level is neither `entries` nor a decimal of 0 to 63 without leading zeros.
    #[error("the level is neither entries nor a decimal of 0 to 63")]
    BadLevel,
    /// The index isn't in groups of three digits, or not in the fewest groups.
    #[error("the index is not in groups of three digits, all but the last behind an x")]
    BadIndex,
    /// The width isn't a decimal of 1 to 255 without leading zeros.
    #[error("the width is not a decimal of 1 to 255")]
    BadWidth,
}

impl TilePath {
    /// The tile with `width` (1 to 256) hashes at tile level `level` (0 to 63), number `index`.
    /// `None` when level, index or width is out of range.
    #[must_use]
    pub fn tile(level: u8, index: u64, width: u16) -> Option<Self> {
        (level < 64).then_some(Some(level)).and_then(|level| Self::new(level, index, width))
    }

    /// The bundle with `width` (1 to 256) entries, number `index`. `None` when index or width is out of
    /// range.
    #[must_use]
    pub fn entries(index: u64, width: u16) -> Option<Self> {
        Self::new(None, index, width)
    }

    fn new(level: Option<u8>, index: u64, width: u16) -> Option<Self> {
        let fits = index <= encoding::MAX_SIZE && (1..=TILE_WIDTH).contains(&width);
        fits.then_some(Self { level, index, width })
    }

    /// The tile level, or `None` for a bundle of entries.
    #[must_use]
    pub const fn level(&self) -> Option<u8> {
        self.level
    }

    /// The number of the tile at its level.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// Hashes or entries in the file, 1 to 256.
    #[must_use]
    pub const fn width(&self) -> u16 {
        self.width
    }

    /// The full tile of the same level and number.
    #[must_use]
    pub const fn full(&self) -> Self {
        Self { width: TILE_WIDTH, ..*self }
    }
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.level {
            Some(level) => write!(f, "tile/{level}/")?,
            None => f.write_str("tile/entries/")?,
        }
        // 2^63 has nineteen digits, seven groups
        let mut groups = [0; 7];
        let (mut rest, mut count) = (self.index, 0);
        for group in &mut groups {
            *group = rest % 1_000;
            rest /= 1_000;
            count += 1;
            if rest == 0 {
                break;
            }
        }
        for group in groups[1..count].iter().rev() {
            write!(f, "x{group:03}/")?;
        }
        write!(f, "{:03}", groups[0])?;
        if self.width < TILE_WIDTH {
            write!(f, ".p/{}", self.width)?;
        }
        Ok(())
    }
}

impl FromStr for TilePath {
    type Err = PathError;

    /// Reads a path strictly: each tile has one spelling. Pure, and safe on any text.
    fn from_str(path: &str) -> Result<Self, PathError> {
        let rest = path.strip_prefix("tile/").ok_or(PathError::NoPrefix)?;
        let (level, rest) = rest.split_once('/').ok_or(PathError::BadLevel)?;
        let level = match level {
            "entries" => None,
            number => {
                let level = encoding::decimal(number).filter(|&level| level < 64);
                Some(level.and_then(|level| u8::try_from(level).ok()).ok_or(PathError::BadLevel)?)
            }
        };
        let (index, width) = match rest.split_once(".p/") {
            Some((index, width)) => {
                let width = encoding::decimal(width).and_then(|width| u16::try_from(width).ok());
                (index, width.filter(|width| (1..TILE_WIDTH).contains(width)).ok_or(PathError::BadWidth)?)
            }
            None => (rest, TILE_WIDTH),
        };
        let index = parse_index(index).ok_or(PathError::BadIndex)?;
        Self::new(level, index, width).ok_or(PathError::BadIndex)
    }
}

fn parse_index(text: &str) -> Option<u64> {
    let (leading, last) = match text.rsplit_once('/') {
        Some((leading, last)) => (Some(leading), last),
        None => (None, text),
    };
    let group = |digits: &str| {
        let plain = digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse::<u64>().ok()).flatten()
    };
    let mut index = 0_u64;
    for digits in leading.into_iter().flat_map(|leading| leading.split('/')) {
        let value = group(digits.strip_prefix('x')?)?;
        if index == 0 && value == 0 {
            return None; // x000/… spells a shorter index a second time
        }
        index = index.checked_mul(1_000)?.checked_add(value)?;
    }
    index.checked_mul(1_000)?.checked_add(group(last)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_examples_of_the_spec_are_spelled_so() {
        let path = |level, index, width| TilePath::tile(level, index, width).unwrap().to_string();
        assert_eq!(path(0, 0, 256), "tile/0/000");
        assert_eq!(path(0, 273, 112), "tile/0/273.p/112");
        assert_eq!(path(0, 999, 256), "tile/0/999");
        assert_eq!(path(0, 1_000, 256), "tile/0/x001/000");
        assert_eq!(path(63, 1_234_067, 1), "tile/63/x001/x234/067.p/1");
        assert_eq!(TilePath::entries(5, 255).unwrap().to_string(), "tile/entries/005.p/255");
        assert_eq!(TilePath::tile(64, 0, 1), None);
        assert_eq!(TilePath::entries(0, 0), None);
        assert_eq!(TilePath::entries(0, 257), None);
    }

    #[test]
    fn second_spellings_are_refused_by_reason() {
        let rows = [
            ("", PathError::NoPrefix),
            ("/tile/0/000", PathError::NoPrefix),
            ("tile/0", PathError::BadLevel),
            ("tile/00/000", PathError::BadLevel),
            ("tile/64/000", PathError::BadLevel),
            ("tile/data/000", PathError::BadLevel),
            ("tile/8/0/000", PathError::BadIndex),
            ("tile/0/0", PathError::BadIndex),
            ("tile/0/0000", PathError::BadIndex),
            ("tile/0/x000/001", PathError::BadIndex),
            ("tile/0/001/000", PathError::BadIndex),
            ("tile/0/x001", PathError::BadIndex),
            ("tile/0/x001/x002", PathError::BadIndex),
            ("tile/0/+01", PathError::BadIndex),
            ("tile/0/../000", PathError::BadIndex),
            ("tile/0/000/", PathError::BadIndex),
            ("tile/0/x999/x999/x999/x999/x999/x999/999", PathError::BadIndex),
            ("tile/0/000.p/0", PathError::BadWidth),
            ("tile/0/000.p/256", PathError::BadWidth),
            ("tile/0/000.p/01", PathError::BadWidth),
            ("tile/0/000.p/", PathError::BadWidth),
            ("tile/0/000.p", PathError::BadIndex),
        ];
        for (path, reason) in rows {
            assert_eq!(path.parse::<TilePath>(), Err(reason), "{path}");
        }
    }

    proptest! {
        #[test]
        fn paths_come_back(level in proptest::option::of(0_u8..64), shift in 1_u32..64, index in any::<u64>(), width in 1_u16..=256) {
            let path = TilePath::new(level, index >> shift, width).unwrap();
            prop_assert_eq!(path.to_string().parse::<TilePath>().unwrap(), path);
        }

        #[test]
        fn what_is_accepted_is_canonical(text in "(tile/)?([0-9]{1,2}|entries)/(x?[0-9]{2,4}/){0,3}[0-9]{2,4}(\\.p/[0-9]{0,4})?") {
            if let Ok(path) = text.parse::<TilePath>() {
                prop_assert_eq!(path.to_string(), text);
            }
        }

        #[test]
        fn any_text_never_panics(text in any::<String>()) {
            let _ = text.parse::<TilePath>();
        }
    }
}

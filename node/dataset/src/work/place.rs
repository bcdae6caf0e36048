//! Where a sample's line is.

/// Where a sample's line is: the list's number in 16 bits, the line's offset in 48. Places have the order of the lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(u64);

impl Place {
    const OFFSET_BITS: u32 = 48;

    /// The place of a line; none when the list is longer than 2^48 bytes or there are more than 2^16 of them.
    pub fn new(list: usize, offset: u64) -> Option<Self> {
        let list = u16::try_from(list).ok()?;
        (offset >> Self::OFFSET_BITS == 0).then_some(Self(u64::from(list) << Self::OFFSET_BITS | offset))
    }

    /// The list's number.
    pub const fn list(self) -> usize {
        (self.0 >> Self::OFFSET_BITS) as usize
    }

    /// Where the line starts in the list, in bytes.
    pub const fn offset(self) -> u64 {
        self.0 & ((1 << Self::OFFSET_BITS) - 1)
    }

    /// The place that [`Self::bits`] gave.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The place as a number, to be written.
    pub const fn bits(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_hold_list_and_offset() {
        let place = Place::new(65_535, (1 << 48) - 1).unwrap();
        assert_eq!((place.list(), place.offset()), (65_535, (1 << 48) - 1));
        assert_eq!(Place::from_bits(place.bits()), place);
        assert_eq!(Place::new(65_536, 0), None);
        assert_eq!(Place::new(0, 1 << 48), None);
        assert!(Place::new(1, 0) > Place::new(0, 9));
    }
}

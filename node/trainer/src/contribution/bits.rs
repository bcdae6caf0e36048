//! Bits in bytes: the first bit is the lowest of the first byte.

/// Why bits could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BitsError {
    /// The segment ended within a value.
    Truncated,
    /// Whole bytes, or set bits, follow the last value.
    Trailing,
}

/// Appends bit fields to bytes.
#[derive(Debug, Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    pending: u64,
    filled: u32,
}

impl BitWriter {
    /// Appends the low `width` bits of `value`, lowest first; `width <= 32`, and higher bits are clear.
    #[inline]
    pub(super) fn push(&mut self, value: u32, width: u32) {
        debug_assert!(width <= 32 && u64::from(value) < 1u64 << width);
        self.pending |= u64::from(value) << self.filled;
        self.filled += width;
        if self.filled >= 32 {
            self.bytes.extend_from_slice(&(self.pending as u32).to_le_bytes());
            self.pending >>= 32;
            self.filled -= 32;
        }
    }

    /// Appends `zeros` clear bits and a set one.
    #[inline]
    pub(super) fn push_unary(&mut self, zeros: u32) {
        let mut zeros = zeros;
        while zeros >= 32 {
            self.push(0, 32);
            zeros -= 32;
        }
        self.push(1 << zeros, zeros + 1);
    }

    /// Pads the last byte with clear bits and hands over the bytes.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let rest = self.filled.div_ceil(8) as usize;
        self.bytes.extend_from_slice(&self.pending.to_le_bytes()[..rest]);
        self.bytes
    }
}

/// Reads bit fields from bytes.
#[derive(Debug, Clone)]
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    next: usize,
    /// The next bits, lowest first. Bits from `ready` up are either clear or already those that a later refill
    /// will put there again.
    window: u64,
    ready: u32,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, next: 0, window: 0, ready: 0 }
    }

    /// Makes at least 56 bits ready, or all that are left.
    #[inline]
    fn refill(&mut self) {
        if let Some(word) = self.bytes[self.next..].first_chunk::<8>() {
            self.window |= u64::from_le_bytes(*word) << self.ready;
            self.next += ((63 - self.ready) / 8) as usize;
            self.ready |= 56;
        } else {
            self.refill_at_the_end();
        }
    }

    #[cold]
    fn refill_at_the_end(&mut self) {
        while self.ready <= 56 && self.next < self.bytes.len() {
            self.window |= u64::from(self.bytes[self.next]) << self.ready;
            self.next += 1;
            self.ready += 8;
        }
    }

    #[inline]
    fn drop_bits(&mut self, width: u32) {
        self.window >>= width;
        self.ready -= width;
    }

    /// Reads `width <= 32` bits.
    #[inline]
    pub(super) fn take(&mut self, width: u32) -> Result<u32, BitsError> {
        if self.ready < width {
            self.refill();
            if self.ready < width {
                return Err(BitsError::Truncated);
            }
        }
        let value = (self.window & ((1u64 << width) - 1)) as u32;
        self.drop_bits(width);
        Ok(value)
    }

    /// Reads clear bits up to a set one and returns their number. More than `most` of them read as
    /// `most + 1`, without reading on.
    #[inline]
    pub(super) fn take_unary(&mut self, most: u32) -> Result<u32, BitsError> {
        let mut zeros = 0;
        loop {
            if self.ready < 32 {
                self.refill();
            }
            if self.ready == 0 {
                return Err(BitsError::Truncated);
            }
            let run = self.window.trailing_zeros();
            if run < self.ready {
                self.drop_bits(run);
                self.drop_bits(1);
                return Ok((zeros + run).min(most.saturating_add(1)));
            }
            zeros += self.ready;
            self.window = self.window.checked_shr(self.ready).unwrap_or(0);
            self.ready = 0;
            if zeros > most {
                return Ok(most.saturating_add(1));
            }
        }
    }

    /// Checks that nothing but the padding of the last byte is left, and that it is clear.
    pub(super) fn finish(mut self) -> Result<(), BitsError> {
        self.refill();
        if self.ready >= 8 || self.next < self.bytes.len() || self.window != 0 {
            return Err(BitsError::Trailing);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_lowest_bit_comes_first() {
        let mut writer = BitWriter::default();
        writer.push(1, 1);
        writer.push(0b01, 2);
        writer.push_unary(3);
        writer.push(0x3, 2);
        // from the right: 1, then 01, then 0001, then 11, cut by the byte's end
        assert_eq!(writer.finish(), [0b1100_0011, 0b0000_0001]);
    }

    proptest! {
        #[test]
        fn fields_and_runs_come_back(fields in prop::collection::vec((any::<u32>(), 0u32..=32, 0u32..200), 0..200)) {
            let mut writer = BitWriter::default();
            for &(value, width, run) in &fields {
                writer.push((u64::from(value) & ((1u64 << width) - 1)) as u32, width);
                writer.push_unary(run);
            }
            let bytes = writer.finish();
            let mut reader = BitReader::new(&bytes);
            for &(value, width, run) in &fields {
                prop_assert_eq!(reader.take(width), Ok((u64::from(value) & ((1u64 << width) - 1)) as u32));
                prop_assert_eq!(reader.take_unary(1000), Ok(run));
            }
            prop_assert_eq!(reader.finish(), Ok(()));
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), widths in prop::collection::vec(0u32..=32, 0..64)) {
            let mut reader = BitReader::new(&bytes);
            for width in widths {
                let _ = reader.take(width);
                let _ = reader.take_unary(width);
            }
            let _ = reader.finish();
        }
    }

    #[test]
    fn what_follows_the_last_value_is_refused() {
        for (bytes, end) in [
            (&[0x01u8][..], Ok(())),
            (&[0x03], Err(BitsError::Trailing)),
            (&[0x81], Err(BitsError::Trailing)),
            (&[0x01, 0x00], Err(BitsError::Trailing)),
            (&[0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0], Err(BitsError::Trailing)),
        ] {
            let mut reader = BitReader::new(bytes);
            assert_eq!(reader.take(1), Ok(1));
            assert_eq!(reader.finish(), end, "{bytes:x?}");
        }
        assert_eq!(BitReader::new(&[0x00]).take(9), Err(BitsError::Truncated));
        assert_eq!(BitReader::new(&[0x00]).take_unary(100), Err(BitsError::Truncated));
        assert_eq!(BitReader::new(&[0; 9]).take_unary(10), Ok(11));
    }
}

//! Where the sent entries stand: a Golomb code of the gaps between them.
//!
//! With `count` of `len` entries sent, a gap is roughly geometric with mean `len / count`, and Golomb's code
//! with the divisor `ln 2 x mean` is the best prefix code for that (Golomb 1966; Gallager and van Voorhis 1975).
//! It takes 7.44 bits a position at 64 of 4,096, where log2 C(4096, 64) is 7.38, needs no state, no tables and
//! no multiplication of long numbers, and its length is bounded whatever the positions are: an adversary can't
//! make a blob long, and a clustered tensor costs at most what a spread one does.

use super::bits::{BitReader, BitWriter, BitsError};

/// Golomb's code for one chunk's gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GapCode {
    /// The divisor, at least 1.
    divisor: u32,
    /// `ceil(log2 divisor)`: a remainder takes this many bits, or one less.
    width: u32,
    /// Remainders below this take one bit less.
    short: u32,
    /// `ceil(2^32 / divisor)`: multiplying by it divides any gap exactly, as gaps and divisors have 16 bits.
    reciprocal: u64,
}

impl GapCode {
    /// The code for `count` of `len` entries; `1 <= count <= len <= 65536`.
    ///
    /// The divisor is `max(1, floor(len x 45426 / (count x 65536)))`; 45426 / 65536 is ln 2.
    pub(super) fn new(len: usize, count: usize) -> Self {
        let divisor = (len as u64 * 45_426 / (count as u64 * 65_536)).max(1) as u32;
        let width = u32::BITS - (divisor - 1).leading_zeros();
        Self {
            divisor,
            width,
            short: (1 << width) - divisor,
            reciprocal: (1u64 << 32).div_ceil(u64::from(divisor)),
        }
    }

    /// Upper bound in bits of all gaps of one chunk.
    pub(super) fn most_bits(len: usize, count: usize) -> u64 {
        let code = Self::new(len, count);
        count as u64 * u64::from(1 + code.width) + (len - count) as u64 / u64::from(code.divisor)
    }

    /// Writes the gap of `gap` entries that are not sent.
    #[inline]
    pub(super) fn push(self, gap: u32, bits: &mut BitWriter) {
        let quotient = ((u64::from(gap) * self.reciprocal) >> 32) as u32;
        let rest = gap - quotient * self.divisor;
        bits.push_unary(quotient);
        if rest < self.short {
            // the divisor 1 leaves no remainder and no bits: short is 0 there
            bits.push(rest, self.width - 1);
        } else if self.width > 0 {
            let code = rest + self.short;
            bits.push(code >> 1, self.width - 1);
            bits.push(code & 1, 1);
        }
    }

    /// Reads a gap. One that is larger than `most` reads as something larger than `most`.
    #[inline]
    pub(super) fn take(self, most: u32, bits: &mut BitReader<'_>) -> Result<u32, BitsError> {
        // a quotient is at most `most`, and so the product below fits 64 bits
        let quotient = u64::from(bits.take_unary(most)?);
        let mut rest = 0;
        if self.width > 0 {
            rest = bits.take(self.width - 1)?;
            if rest >= self.short {
                rest = (rest << 1 | bits.take(1)?) - self.short;
            }
        }
        let gap = quotient * u64::from(self.divisor) + u64::from(rest);
        Ok(u32::try_from(gap).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gap_has_one_code_and_comes_back() {
        for (len, count) in [(4096, 64), (4096, 1), (64, 1), (16, 16), (100, 30), (65_536, 3), (5, 4), (1, 1)]
        {
            let code = GapCode::new(len, count);
            let mut writer = BitWriter::default();
            let gaps: Vec<u32> = (0..len as u32).step_by(1 + len / 999).collect();
            for &gap in &gaps {
                code.push(gap, &mut writer);
            }
            let bytes = writer.finish();
            let mut reader = BitReader::new(&bytes);
            for &gap in &gaps {
                assert_eq!(code.take(len as u32, &mut reader), Ok(gap), "{len} {count}");
            }
            assert_eq!(reader.finish(), Ok(()));
        }
    }

    #[test]
    fn the_divisor_is_ln_2_of_the_mean_gap() {
        assert_eq!(
            GapCode::new(4096, 64),
            GapCode { divisor: 44, width: 6, short: 20, reciprocal: 97_612_894 }
        );
        assert_eq!(GapCode::new(16, 16).divisor, 1);
    }

    #[test]
    fn no_placement_passes_the_bound() {
        let (len, count) = (4096usize, 64usize);
        let code = GapCode::new(len, count);
        // the longest: gaps whose remainder is long, and the quotients as large as they go
        for gap in [0u32, 43, 62, 63] {
            let mut writer = BitWriter::default();
            for _ in 0..count {
                code.push(gap.min(((len - count) / count) as u32), &mut writer);
            }
            assert!(writer.finish().len() as u64 * 8 <= GapCode::most_bits(len, count) + 7);
        }
    }
}

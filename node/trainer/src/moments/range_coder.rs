//! An adaptive binary range coder: integers only, so that the same symbols give the same bytes everywhere.
//!
//! The scheme is the one of LZMA (Martin, "Range encoding", 1979; Pavlov's lzma specification): a 32-bit range is split by the
//! probability of a clear bit, carries are held back until they are known.

/// Bits of a probability.
const PRECISION: u32 = 15;

/// How fast a probability follows what it sees: by a 32nd of the distance.
const ADAPTATION: u32 = 5;

/// Below this the range is widened by a byte.
const NARROW: u32 = 1 << 24;

/// The probability that a bit is clear, learnt from the bits seen.
#[derive(Debug, Clone, Copy)]
struct Odds(u16);

impl Odds {
    const EVEN: Self = Self(1 << (PRECISION - 1));

    /// Part of `range` that stands for a clear bit: never nothing, never all.
    fn part(self, range: u32) -> u32 {
        (range >> PRECISION) * u32::from(self.0)
    }

    fn learn(&mut self, bit: bool) {
        if bit {
            self.0 -= self.0 >> ADAPTATION;
        } else {
            self.0 += ((1 << PRECISION) - self.0) >> ADAPTATION;
        }
    }
}

/// Odds of symbols of `WIDTH` bits, a tree of them: the highest bit first, each under those before it.
#[derive(Debug, Clone)]
pub(super) struct Model<const SYMBOLS: usize> {
    tree: [Odds; SYMBOLS],
}

impl<const SYMBOLS: usize> Model<SYMBOLS> {
    /// Bits of a symbol.
    const WIDTH: u32 = SYMBOLS.ilog2();

    pub(super) const fn new() -> Self {
        assert!(SYMBOLS.is_power_of_two(), "a tree of bits has a power of two of leaves");
        Self { tree: [Odds::EVEN; SYMBOLS] }
    }
}

/// Writes symbols.
#[derive(Debug)]
pub(super) struct Encoder {
    low: u64,
    range: u32,
    /// The last byte that a carry may still change, and how many 0xff follow it.
    held: Option<u8>,
    full: usize,
    bytes: Vec<u8>,
}

impl Encoder {
    pub(super) const fn new() -> Self {
        Self { low: 0, range: u32::MAX, held: None, full: 0, bytes: Vec::new() }
    }

    pub(super) fn symbol<const SYMBOLS: usize>(&mut self, model: &mut Model<SYMBOLS>, symbol: u32) {
        let mut node = 1;
        for bit in (0..Model::<SYMBOLS>::WIDTH).rev() {
            let set = symbol >> bit & 1 == 1;
            let odds = &mut model.tree[node];
            let part = odds.part(self.range);
            odds.learn(set);
            if set {
                self.low += u64::from(part);
                self.range -= part;
            } else {
                self.range = part;
            }
            self.widen();
            node = 2 * node + usize::from(set);
        }
    }

    /// Writes the lowest `width` bits of `value`, each as likely set as clear.
    pub(super) fn plain(&mut self, value: u32, width: u32) {
        for bit in (0..width).rev() {
            self.range >>= 1;
            if value >> bit & 1 == 1 {
                self.low += u64::from(self.range);
            }
            self.widen();
        }
    }

    fn widen(&mut self) {
        while self.range < NARROW {
            self.range <<= 8;
            self.shift();
        }
    }

    /// Moves the top byte of `low` out, as far as no carry can reach it any more.
    fn shift(&mut self) {
        let (carry, top) = ((self.low >> 32) as u8, (self.low >> 24) as u8);
        if carry == 1 || top != 0xff {
            if let Some(held) = self.held {
                self.bytes.push(held.wrapping_add(carry));
            }
            self.bytes.extend(std::iter::repeat_n(0xff_u8.wrapping_add(carry), self.full));
            (self.held, self.full) = (Some(top), 0);
        } else {
            self.full += 1;
        }
        self.low = (self.low & 0x00ff_ffff) << 8;
    }

    /// The bytes: as many as a decoder reads.
    pub(super) fn finish(mut self) -> Vec<u8> {
        for _ in 0..5 {
            self.shift();
        }
        self.bytes
    }
}

/// The bytes end before the symbols do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended;

/// Reads symbols.
#[derive(Debug)]
pub(super) struct Decoder<'a> {
    bytes: &'a [u8],
    range: u32,
    code: u32,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, Ended> {
        let mut decoder = Self { bytes, range: u32::MAX, code: 0 };
        for _ in 0..4 {
            decoder.take()?;
        }
        Ok(decoder)
    }

    fn take(&mut self) -> Result<(), Ended> {
        let (first, rest) = self.bytes.split_first().ok_or(Ended)?;
        self.code = self.code << 8 | u32::from(*first);
        self.bytes = rest;
        Ok(())
    }

    fn widen(&mut self) -> Result<(), Ended> {
        while self.range < NARROW {
            self.range <<= 8;
            self.take()?;
        }
        Ok(())
    }

    pub(super) fn symbol<const SYMBOLS: usize>(&mut self, model: &mut Model<SYMBOLS>) -> Result<u32, Ended> {
        let mut node = 1;
        for _ in 0..Model::<SYMBOLS>::WIDTH {
            let odds = &mut model.tree[node];
            let part = odds.part(self.range);
            let set = self.code >= part;
            odds.learn(set);
            if set {
                self.code -= part;
                self.range -= part;
            } else {
                self.range = part;
            }
            self.widen()?;
            node = 2 * node + usize::from(set);
        }
        Ok((node - SYMBOLS) as u32)
    }

    /// Whether every byte was read.
    pub(super) const fn is_done(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn plain(&mut self, width: u32) -> Result<u32, Ended> {
        let mut value = 0;
        for _ in 0..width {
            self.range >>= 1;
            let set = self.code >= self.range;
            if set {
                self.code -= self.range;
            }
            value = value << 1 | u32::from(set);
            self.widen()?;
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A symbol under the adaptive model, or so many plain bits.
    type Item = (u32, Option<u32>);

    fn items() -> impl Strategy<Value = Vec<Item>> {
        let skewed = prop_oneof![8 => Just((3u32, None)), 1 => (0u32..64).prop_map(|s| (s, None))];
        let plain = (1u32..17, any::<u32>()).prop_map(|(width, v)| (v & ((1 << width) - 1), Some(width)));
        prop::collection::vec(prop_oneof![9 => skewed, 1 => plain], 0..2_000)
    }

    fn write(items: &[Item]) -> Vec<u8> {
        let (mut encoder, mut model) = (Encoder::new(), Model::<64>::new());
        for (value, width) in items {
            match width {
                Some(width) => encoder.plain(*value, *width),
                None => encoder.symbol(&mut model, *value),
            }
        }
        encoder.finish()
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(items in items()) {
            let bytes = write(&items);
            let (mut decoder, mut model) = (Decoder::new(&bytes).unwrap(), Model::<64>::new());
            for (value, width) in &items {
                let read = match width {
                    Some(width) => decoder.plain(*width),
                    None => decoder.symbol(&mut model),
                };
                prop_assert_eq!(read, Ok(*value));
            }
            prop_assert!(decoder.is_done(), "the decoder reads all that was written");
        }

        #[test]
        fn any_bytes_end_and_none_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let Ok(mut decoder) = Decoder::new(&bytes) else { return Ok(()) };
            let mut model = Model::<64>::new();
            // Fewer than 0.01 bits a symbol cannot be: the odds are bounded.
            let most = bytes.len() * 8 * 1_000 + 10_000;
            prop_assert!((0..most).any(|_| decoder.symbol(&mut model).is_err()));
        }
    }

    #[test]
    fn a_symbol_that_is_always_the_same_costs_next_to_nothing() {
        let bytes = write(&vec![(63, None); 10_000]);
        assert!(bytes.len() < 100, "{} bytes", bytes.len());
    }

    #[test]
    fn carries_run_through_many_full_bytes() {
        // Plain set bits push `low` to the top of the range; the symbol that follows carries.
        let mut items = vec![(0xffff, Some(16)); 40];
        items.extend([(63, None), (0, None), (1, None)]);
        let bytes = write(&items);
        let (mut decoder, mut model) = (Decoder::new(&bytes).unwrap(), Model::<64>::new());
        for (value, width) in items {
            let read = match width {
                Some(width) => decoder.plain(width),
                None => decoder.symbol(&mut model),
            };
            assert_eq!(read, Ok(value));
        }
    }
}

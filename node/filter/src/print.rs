//! The print of a sample: 64 bytes that tell whether two samples are nearly the same.
//!
//! Pictures are compared by 64 bits of brightness and 64 of colour, texts by 64 values of four bits. Both are made of
//! integers only: a library's hashes are made of floating-point resizing and cosine transforms, whose bits are promised
//! by nobody, and these prints decide what is in a data set.

mod sketch;
mod thumbnail;

use talkoot_dataset::SampleId;

pub use self::{
    sketch::{Sketch, Sketcher},
    thumbnail::Thumbnail,
};

/// What duplicates are found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Print {
    /// The first half of the sample's id: settles ties.
    pub id: u64,
    /// [`Thumbnail::brightness`] of the mean of the pictures.
    pub brightness: u64,
    /// [`Thumbnail::colour`] of it.
    pub colour: u64,
    /// Of all turns.
    pub sketch: Sketch,
    /// [`question_hash`] of the user's turns.
    pub question: u32,
    /// How many pictures there are.
    pub pictures: u16,
    /// How good the sample is among duplicates.
    pub rank: u16,
}

impl Print {
    /// Bytes of a print in a file.
    pub const BYTES: usize = 64;

    /// The half of an id that prints hold, which is the first 16 of its digits.
    pub const fn id_of(id: &SampleId) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = *id.as_bytes();
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// The print as bytes, little endian.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let rest = u64::from(self.question) | u64::from(self.pictures) << 32 | u64::from(self.rank) << 48;
        let [a, b, c, d] = self.sketch.0;
        let mut bytes = [0; Self::BYTES];
        let words = [self.id, self.brightness, self.colour, a, b, c, d, rest];
        for (place, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *place = word.to_le_bytes();
        }
        bytes
    }

    /// The print of [`Self::to_bytes`].
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| bytes[at * 8 + byte]));
        let rest = word(7);
        Self {
            id: word(0),
            brightness: word(1),
            colour: word(2),
            sketch: Sketch([word(3), word(4), word(5), word(6)]),
            question: rest as u32,
            pictures: (rest >> 32) as u16,
            rank: (rest >> 48) as u16,
        }
    }
}

/// A hash of what is asked: white space, case and the pictures' places don't count.
pub fn question_hash<'a>(turns: impl IntoIterator<Item = &'a str>) -> u32 {
    let mut hasher = blake3::Hasher::new_derive_key("talkoot filter question v1");
    let mut plain = String::new();
    for turn in turns {
        plain.clear();
        plain.extend(sketch::normal(turn));
        hasher.update(plain.trim().as_bytes());
        hasher.update(&[0]);
    }
    let mut hash = [0; 4];
    hasher.finalize_xof().fill(&mut hash);
    u32::from_le_bytes(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_print_comes_back_from_its_bytes() {
        let print = Print {
            id: 1 << 63 | 5,
            brightness: u64::MAX - 3,
            colour: 77,
            sketch: Sketch([1, u64::MAX, 3, 4]),
            question: u32::MAX - 1,
            pictures: 1024,
            rank: 65_535,
        };
        assert_eq!(Print::from_bytes(&print.to_bytes()), print);
        assert_eq!(size_of::<Print>(), Print::BYTES, "also in memory");
    }

    #[test]
    fn the_same_question_has_the_same_hash() {
        let hash = |text: &str| question_hash([text]);
        assert_eq!(hash("<image>\nWhat is it?"), hash("what  is it? <image>"));
        assert_ne!(hash("What is it?"), hash("What is that?"));
        assert_ne!(question_hash(["a", "b"]), question_hash(["ab"]));
    }
}

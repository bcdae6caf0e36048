//! The head of NumPy's files, formats 1 to 3.
//!
//! ```text
//! "\x93NUMPY" | major, minor (1 byte each) | length of the text (2 bytes, from format 2 on 4) | text | numbers
//! {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }
//! ```
//!
//! Source: NumPy's documentation of `numpy.lib.format`. The text is a Python literal; what is read here is the one form
//! that NumPy writes, with keys in any order.

use std::io::{self, Read};

use talkoot_trainer::huggingface::FloatType;

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Longest text of a head that is read, in bytes. NumPy itself takes 10,000.
const MAX_TEXT_BYTES: u32 = 1 << 16;
/// Most axes that are named in an error.
const MAX_AXES: usize = 8;

/// Why a file of NumPy's is not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NpyError {
    /// It does not begin as such a file.
    #[error("it does not begin as a file of NumPy's: it was cut off, or is something else")]
    Cut(#[source] io::Error),
    /// It is another file.
    #[error("it does not begin as a file of NumPy's; save it with numpy.save")]
    Magic,
    /// A format that is not known.
    #[error("it has format {major}.{minor} of NumPy's; formats 1 to 3 are read")]
    Version {
        /// Major version.
        major: u8,
        /// Minor version.
        minor: u8,
    },
    /// A head that is longer than any that is meant.
    #[error("its head has {got} bytes, more than the {MAX_TEXT_BYTES} that are read")]
    TooLong {
        /// Bytes that the head is said to have.
        got: u32,
    },
    /// The head is not the literal that is expected.
    #[error("its head is not what NumPy writes: {text:?}")]
    Head {
        /// Its beginning.
        text: String,
    },
    /// Numbers of another type.
    #[error("its numbers are {got:?}, '<f4' and '<f2' are read; save it with .astype(\"float32\")")]
    Type {
        /// The type in NumPy's words.
        got: String,
    },
    /// Columns lie one after another.
    #[error("its numbers lie column after column; save it with numpy.ascontiguousarray")]
    Fortran,
}

/// What a head says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) float: FloatType,
    pub(super) shape: Vec<u64>,
    /// Where the numbers start, in bytes.
    pub(super) start: u64,
}

/// Reads a head; the file is at the numbers then.
pub(super) fn read_head(file: &mut impl Read) -> Result<Head, NpyError> {
    let mut first = [0; 8];
    file.read_exact(&mut first).map_err(NpyError::Cut)?;
    if first[..6] != *MAGIC {
        return Err(NpyError::Magic);
    }
    let (length, head_bytes) = match (first[6], first[7]) {
        (1, 0) => {
            let mut length = [0; 2];
            file.read_exact(&mut length).map_err(NpyError::Cut)?;
            (u32::from(u16::from_le_bytes(length)), 10)
        }
        (2 | 3, 0) => {
            let mut length = [0; 4];
            file.read_exact(&mut length).map_err(NpyError::Cut)?;
            (u32::from_le_bytes(length), 12)
        }
        (major, minor) => return Err(NpyError::Version { major, minor }),
    };
    if length > MAX_TEXT_BYTES {
        return Err(NpyError::TooLong { got: length });
    }
    let mut text = vec![0; length as usize];
    file.read_exact(&mut text).map_err(NpyError::Cut)?;
    let said = Literal(&text)
        .head()
        .ok_or_else(|| NpyError::Head { text: String::from_utf8_lossy(&text).chars().take(120).collect() })?;
    let float = match said.descr {
        "<f4" => FloatType::F32,
        "<f2" => FloatType::F16,
        other => return Err(NpyError::Type { got: other.chars().take(40).collect() }),
    };
    if said.fortran {
        return Err(NpyError::Fortran);
    }
    Ok(Head { float, shape: said.shape, start: head_bytes + u64::from(length) })
}

/// The head of an array of `rows x width` numbers, in format 1; padded to 64 bytes as NumPy does.
pub(super) fn head(float: FloatType, rows: u64, width: usize) -> Vec<u8> {
    let descr = if float == FloatType::F16 { "<f2" } else { "<f4" };
    let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({rows}, {width}), }}");
    let whole = (10 + text.len() + 1).next_multiple_of(64);
    let mut bytes = MAGIC.to_vec();
    bytes.extend([1, 0]);
    bytes.extend(((whole - 10) as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes.resize(whole - 1, b' ');
    bytes.push(b'\n');
    bytes
}

/// The three things that a head says.
struct Said<'a> {
    descr: &'a str,
    fortran: bool,
    shape: Vec<u64>,
}

/// What is left of a Python literal.
struct Literal<'a>(&'a [u8]);

impl<'a> Literal<'a> {
    /// The dictionary, which ends with the text.
    fn head(&mut self) -> Option<Said<'a>> {
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        self.eat(b'{')?;
        while self.eat(b'}').is_none() {
            let key = self.string()?;
            self.eat(b':')?;
            match key {
                "descr" if descr.is_none() => descr = Some(self.string()?),
                "fortran_order" if fortran.is_none() => fortran = Some(self.truth()?),
                "shape" if shape.is_none() => shape = Some(self.numbers()?),
                _ => return None,
            }
            if self.eat(b',').is_none() {
                self.eat(b'}')?;
                break;
            }
        }
        self.skip_spaces();
        let said = Said { descr: descr?, fortran: fortran?, shape: shape? };
        self.0.is_empty().then_some(said)
    }

    fn skip_spaces(&mut self) {
        self.0 = self.0.trim_ascii_start();
    }

    fn eat(&mut self, byte: u8) -> Option<()> {
        self.skip_spaces();
        self.0 = self.0.strip_prefix(&[byte])?;
        Some(())
    }

    /// A text between quotes, without escapes.
    fn string(&mut self) -> Option<&'a str> {
        self.skip_spaces();
        let (&quote, rest) = self.0.split_first().filter(|(quote, _)| matches!(quote, b'\'' | b'"'))?;
        let end = rest.iter().position(|&byte| byte == quote)?;
        self.0 = &rest[end + 1..];
        std::str::from_utf8(&rest[..end]).ok().filter(|text| !text.contains('\\'))
    }

    fn truth(&mut self) -> Option<bool> {
        self.skip_spaces();
        let (word, truth) = if self.0.starts_with(b"True") { ("True", true) } else { ("False", false) };
        self.0 = self.0.strip_prefix(word.as_bytes())?;
        Some(truth)
    }

    /// A tuple of whole numbers.
    fn numbers(&mut self) -> Option<Vec<u64>> {
        let mut numbers = Vec::new();
        self.eat(b'(')?;
        while self.eat(b')').is_none() {
            self.skip_spaces();
            let digits = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let number = std::str::from_utf8(&self.0[..digits]).ok()?.parse().ok()?;
            self.0 = &self.0[digits..];
            numbers.push(number);
            if numbers.len() > MAX_AXES {
                return None;
            }
            if self.eat(b',').is_none() {
                self.eat(b')')?;
                break;
            }
        }
        Some(numbers)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(version: u8, text: &[u8]) -> Vec<u8> {
        let length = text.len() as u32;
        let length =
            if version == 1 { length.to_le_bytes()[..2].to_vec() } else { length.to_le_bytes().to_vec() };
        [MAGIC, [version, 0].as_slice(), &length, text].concat()
    }

    #[test]
    fn heads_of_all_formats_are_read_in_any_order_of_keys() {
        for (version, text, start) in [
            (1, "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }          \n", 10),
            (2, "{'shape': (3,4,), \"fortran_order\":False,'descr':'<f4'}", 12),
            (3, " { 'descr' : '<f4' , 'shape' : ( 3 , 4 ) , 'fortran_order' : False , } ", 12),
        ] {
            let head = read_head(&mut file(version, text.as_bytes()).as_slice()).unwrap();
            let start = start + text.len() as u64;
            assert_eq!(head, Head { float: FloatType::F32, shape: vec![3, 4], start }, "{text}");
        }
    }

    #[test]
    fn what_is_no_head_is_refused_with_the_reason() {
        let read = |bytes: &[u8]| read_head(&mut &*bytes).unwrap_err().to_string();
        let said = |text: &str| read(&file(1, text.as_bytes()));
        assert!(said("{'descr': '<f8', 'fortran_order': False, 'shape': (1, 2)}").contains("<f8"));
        assert!(said("{'descr': '>f4', 'fortran_order': False, 'shape': (1, 2)}").contains(">f4"));
        assert!(
            said("{'descr': '<f4', 'fortran_order': True, 'shape': (1, 2)}").contains("column after column")
        );
        for text in [
            "",
            "{",
            "{}",
            "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1, 2)}",
            "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1, 2)}",
            "{'descr': '<f4', 'fortran_order': 0, 'shape': (1, 2)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1, -2)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999, 2)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2)} import os",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2",
        ] {
            assert!(said(text).contains("not what NumPy writes"), "{text}");
        }
        assert!(read(b"\x93NUMPX\x01\x00\x00\x00").contains("numpy.save"));
        assert!(read(b"\x93NUM").contains("cut off"));
        assert!(read(&file(4, b"{}")).contains("format 4.0"));
        assert!(
            read(&[MAGIC, [2, 0, 0xff, 0xff, 0xff, 0x7f].as_slice()].concat()).contains("2147483647 bytes")
        );
        assert!(read(&[MAGIC, [1, 0, 9, 0].as_slice(), b"{}"].concat()).contains("cut off"));
    }

    proptest! {
        #[test]
        fn a_head_comes_back_as_it_was_written(rows: u64, width in 1usize..100_000, half: bool) {
            let float = if half { FloatType::F16 } else { FloatType::F32 };
            let bytes = head(float, rows, width);
            prop_assert!(bytes.len().is_multiple_of(64));
            let read = read_head(&mut bytes.as_slice()).unwrap();
            prop_assert_eq!(read, Head { float, shape: vec![rows, width as u64], start: bytes.len() as u64 });
        }

        #[test]
        fn damaged_heads_never_panic(at in 0usize..128, byte: u8, cut in 0usize..129) {
            let mut bytes = head(FloatType::F32, 123, 45);
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = read_head(&mut &bytes[..cut.min(bytes.len())]);
        }
    }
}

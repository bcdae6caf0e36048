//! As much of Thrift's compact encoding as it takes to look at a Parquet file before it is decoded.
//!
//! Source: `thrift-compact-protocol.md` of Apache Thrift. Nothing is allocated and nothing nests deeper than [`DEEPEST`].

use std::io::{self, Read};

/// How deep structures may nest.
const DEEPEST: u8 = 16;

pub(super) const I32: u8 = 5;
pub(super) const LIST: u8 = 9;
pub(super) const STRUCT: u8 = 12;

/// Reads values one after another, and counts bytes.
pub(super) struct Compact<R> {
    from: R,
    bytes: u64,
}

impl<R: Read> Compact<R> {
    pub(super) const fn new(from: R) -> Self {
        Self { from, bytes: 0 }
    }

    /// Bytes read so far.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.from.read_exact(&mut byte)?;
        self.bytes += 1;
        Ok(byte[0])
    }

    fn varint(&mut self) -> io::Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(wrong("a number has no end"))
    }

    /// A number with a sign.
    pub(super) fn number(&mut self) -> io::Result<i64> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// Number and type of the next field of a structure whose last field was `last`; `None` at its end.
    pub(super) fn field(&mut self, last: &mut i64) -> io::Result<Option<(i64, u8)>> {
        let head = self.byte()?;
        if head == 0 {
            return Ok(None);
        }
        let step = i64::from(head >> 4);
        *last = if step == 0 { self.number()? } else { last.saturating_add(step) };
        Ok(Some((*last, head & 0x0f)))
    }

    /// Length and type of a list.
    pub(super) fn list(&mut self) -> io::Result<(u64, u8)> {
        let head = self.byte()?;
        let length = u64::from(head >> 4);
        Ok((if length == 15 { self.varint()? } else { length }, head & 0x0f))
    }

    /// Passes over a value.
    pub(super) fn skip(&mut self, kind: u8) -> io::Result<()> {
        self.skip_at(kind, 0)
    }

    fn skip_at(&mut self, kind: u8, depth: u8) -> io::Result<()> {
        if depth > DEEPEST {
            return Err(wrong("structures nest too deep"));
        }
        match kind {
            // In a field the type is the value.
            1 | 2 => {}
            3 => drop(self.byte()?),
            4..=6 => drop(self.varint()?),
            7 => self.pass(8)?,
            8 => {
                let length = self.varint()?;
                self.pass(length)?;
            }
            9 | 10 => {
                let (length, kind) = self.list()?;
                for _ in 0..length {
                    self.skip_element(kind, depth)?;
                }
            }
            11 => {
                let length = self.varint()?;
                if length > 0 {
                    let kinds = self.byte()?;
                    for _ in 0..length {
                        self.skip_element(kinds >> 4, depth)?;
                        self.skip_element(kinds & 0x0f, depth)?;
                    }
                }
            }
            STRUCT => {
                let mut last = 0;
                while let Some((_, kind)) = self.field(&mut last)? {
                    self.skip_at(kind, depth + 1)?;
                }
            }
            _ => return Err(wrong("a value has no known type")),
        }
        Ok(())
    }

    /// Every element takes a byte at least, so a list that says it is long ends with the file.
    fn skip_element(&mut self, kind: u8, depth: u8) -> io::Result<()> {
        match kind {
            1 | 2 => self.byte().map(drop),
            kind => self.skip_at(kind, depth + 1),
        }
    }

    fn pass(&mut self, bytes: u64) -> io::Result<()> {
        let passed = io::copy(&mut (&mut self.from).take(bytes), &mut io::sink())?;
        self.bytes += passed;
        if passed == bytes { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

pub(super) fn wrong(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

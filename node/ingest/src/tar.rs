//! Walking a tar by its headers: names, places and lengths of its members; their content is stepped over.
//!
//! Pictures are referred to where they lie, so what is needed of a member is where its bytes begin. Only what could be
//! read at that place is taken: plain files. Links, devices and sparse files are told as what they are, names that are
//! too long and numbers that are not possible end the walk, and nothing of a member's size is ever allocated.
//!
//! Source: POSIX.1-2001 (ustar and pax), and GNU tar for its long names.

mod member;

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
};

pub use self::member::TarFault;
use self::member::{Sort, pax_of, read_header};

/// Bytes of a header, and what everything is padded to.
const BLOCK: u64 = 512;
/// Longest name of a member, in bytes.
pub const MAX_NAME_BYTES: u64 = 4_096;
/// Longest block of pax records before a member, in bytes.
const MAX_PAX_BYTES: u64 = 64 << 10;

/// A member of a tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name, as it is written.
    pub name: String,
    /// Where its content begins, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// Why its content cannot be read in place; nothing for a plain file.
    pub foreign: Option<&'static str>,
}

/// Walks a tar from its beginning to its end.
#[derive(Debug)]
pub struct Walk<R> {
    file: R,
    length: u64,
    at: u64,
}

/// What is known of the next member from what stands before it.
#[derive(Default)]
struct Ahead {
    name: Option<String>,
    bytes: Option<u64>,
    sparse: bool,
}

impl Walk<File> {
    /// Begins to walk `file`.
    ///
    /// # Errors
    ///
    /// When the system does not tell its length.
    pub fn open(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self::new(file, length))
    }
}

impl<R: Read + Seek> Walk<R> {
    /// Begins to walk a tar of `length` bytes.
    pub const fn new(file: R, length: u64) -> Self {
        Self { file, length, at: 0 }
    }

    /// Bytes walked so far.
    pub const fn at(&self) -> u64 {
        self.at
    }

    /// The next file or link; folders are passed over. `None` at the end: empty blocks are passed over too, so that tars
    /// that were written one after another are one.
    ///
    /// # Errors
    ///
    /// The outer one when the file cannot be read; [`TarFault`] when it is damaged, after which nothing more can be read.
    pub fn next_member(&mut self) -> io::Result<Result<Option<Member>, TarFault>> {
        let mut ahead = Ahead::default();
        loop {
            let at = self.at;
            if at == self.length {
                return Ok(Ok(None));
            }
            if self.length - at < BLOCK {
                return Ok(Err(TarFault::CutOff { offset: at, needed: BLOCK, got: self.length - at }));
            }
            let block = self.block(at)?;
            if block.iter().all(|&byte| byte == 0) {
                self.at += BLOCK;
                continue;
            }
            let (sort, name, said) = match read_header(&block, at) {
                Ok(header) => header,
                Err(fault) => return Ok(Err(fault)),
            };
            let bytes = if sort.is_file() { ahead.bytes.unwrap_or(said) } else { said };
            let left = self.length - at - BLOCK;
            if bytes.checked_next_multiple_of(BLOCK).is_none_or(|padded| padded > left && bytes > left) {
                return Ok(Err(TarFault::CutOff { offset: at, needed: bytes, got: left }));
            }
            // The last member's padding may be missing.
            self.at = (at + BLOCK + bytes.next_multiple_of(BLOCK)).min(self.length);
            match sort {
                Sort::LongName | Sort::Pax => {
                    let limit = if sort == Sort::Pax { MAX_PAX_BYTES } else { MAX_NAME_BYTES };
                    if bytes > limit {
                        return Ok(Err(TarFault::TooLong { offset: at, bytes, limit }));
                    }
                    let content = self.content(at + BLOCK, bytes)?;
                    if let Err(fault) = ahead.take(sort, &content, at) {
                        return Ok(Err(fault));
                    }
                }
                Sort::Folder | Sort::Global => ahead = Ahead::default(),
                Sort::File | Sort::Foreign(_) => {
                    let foreign = match sort {
                        Sort::Foreign(what) => Some(what),
                        _ => ahead.sparse.then_some("a sparse file"),
                    };
                    let name = ahead.name.take().unwrap_or(name);
                    return Ok(Ok(Some(Member { name, offset: at + BLOCK, bytes, foreign })));
                }
            }
        }
    }

    fn block(&mut self, at: u64) -> io::Result<[u8; BLOCK as usize]> {
        let mut block = [0; BLOCK as usize];
        self.file.seek(SeekFrom::Start(at))?;
        self.file.read_exact(&mut block)?;
        Ok(block)
    }

    /// The content of a member. Its length has to be bounded by whoever asks.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn content(&mut self, offset: u64, bytes: u64) -> io::Result<Vec<u8>> {
        self.file.seek(SeekFrom::Start(offset))?;
        let mut content = Vec::new();
        (&mut self.file).take(bytes).read_to_end(&mut content)?;
        if content.len() as u64 != bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(content)
    }
}

impl Ahead {
    fn take(&mut self, sort: Sort, content: &[u8], offset: u64) -> Result<(), TarFault> {
        if sort == Sort::LongName {
            let end = content.iter().position(|&byte| byte == 0).unwrap_or(content.len());
            self.name = Some(member::text(&content[..end], offset)?);
            return Ok(());
        }
        let pax = pax_of(content, offset)?;
        self.name = pax.name.or(self.name.take());
        self.bytes = pax.bytes.or(self.bytes);
        self.sparse |= pax.sparse;
        Ok(())
    }
}

#[cfg(test)]
mod tests;

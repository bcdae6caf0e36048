//! The list of concepts: a text with one on each line.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use talkoot_protocol::digest::Digest;

/// Most concepts of a list. MetaCLIP's has half a million.
pub const MAX_CONCEPTS: usize = 1 << 22;
/// Longest concept, in bytes.
pub const MAX_CONCEPT_BYTES: usize = 512;
/// Longest list, in bytes.
const MAX_LIST_BYTES: u64 = 1 << 28;

/// Why a list of concepts cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConceptError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is too long, or has too many lines.
    #[error("{} has more than {limit} {what}", path.display())]
    TooMany {
        /// Which list.
        path: PathBuf,
        /// Of what.
        what: &'static str,
        /// How many it may have.
        limit: u64,
    },
    /// A line is no concept.
    #[error("line {line} of {} {flaw}: write one concept on each line", path.display())]
    Line {
        /// Which list.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        flaw: String,
    },
    /// A concept stands there twice; half of its samples would be counted for each.
    #[error("lines {first} and {second} of {} are both {concept:?}: leave one out, with its row", path.display())]
    Twice {
        /// Which list.
        path: PathBuf,
        /// The concept.
        concept: String,
        /// The first line, from 1.
        first: usize,
        /// The second.
        second: usize,
    },
    /// There is nothing in it.
    #[error("{} is empty: write one concept on each line", path.display())]
    Empty {
        /// Which list.
        path: PathBuf,
    },
}

/// Concepts by their numbers, which are their lines from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concepts {
    names: Vec<String>,
    digest: Digest,
}

impl Concepts {
    /// Reads the list in `path`: UTF-8, one concept on each line, spaces around it left out.
    ///
    /// # Errors
    ///
    /// [`ConceptError`] names the line that is none, or is there twice.
    pub fn read(path: &Path) -> Result<Self, ConceptError> {
        let read = |source| ConceptError::Read { path: path.to_path_buf(), source };
        let too_many = |what, limit| Err(ConceptError::TooMany { path: path.to_path_buf(), what, limit });
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MAX_LIST_BYTES + 1).read_to_end(&mut bytes))
            .map_err(read)?;
        if bytes.len() as u64 > MAX_LIST_BYTES {
            return too_many("bytes", MAX_LIST_BYTES);
        }
        let mut names = Vec::new();
        let body = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        for (line, text) in (1..).zip(body.split(|&byte| byte == b'\n')) {
            if body.is_empty() {
                return Err(ConceptError::Empty { path: path.to_path_buf() });
            }
            if names.len() == MAX_CONCEPTS {
                return too_many("concepts", MAX_CONCEPTS as u64);
            }
            let name =
                concept(text).map_err(|flaw| ConceptError::Line { path: path.to_path_buf(), line, flaw })?;
            names.push(name);
        }
        let mut lines = HashMap::with_capacity(names.len());
        for (name, second) in names.iter().zip(1..) {
            if let Some(first) = lines.insert(name.as_str(), second) {
                let (path, concept) = (path.to_path_buf(), name.clone());
                return Err(ConceptError::Twice { path, concept, first, second });
            }
        }
        drop(lines);
        Ok(Self::new(names))
    }

    /// Concepts that are known to be right.
    pub fn new(names: Vec<String>) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("talkoot balance concepts v1");
        for name in &names {
            hasher.update(name.as_bytes());
            hasher.update(b"\n");
        }
        Self { names, digest: Digest::from_bytes(*hasher.finalize().as_bytes()) }
    }

    /// Their names, by number.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Digest of the names in their order.
    pub const fn digest(&self) -> Digest {
        self.digest
    }
}

fn concept(line: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(line).map_err(|_| "is not UTF-8".to_owned())?.trim();
    if text.is_empty() {
        return Err("is empty".into());
    }
    if text.len() > MAX_CONCEPT_BYTES {
        return Err(format!("has {} bytes, at most {MAX_CONCEPT_BYTES} are taken", text.len()));
    }
    match text.chars().find(|c| c.is_control()) {
        Some(c) => Err(format!("has the control character {c:?}")),
        None => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Concepts, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("concepts.txt");
        std::fs::write(&path, bytes).unwrap();
        Concepts::read(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn a_line_is_a_concept() {
        let concepts = read(" cat\r\nnew york\nÖl\n".as_bytes()).unwrap();
        assert_eq!(concepts.names(), ["cat", "new york", "Öl"]);
        assert_eq!(concepts, read("cat\nnew york\nÖl".as_bytes()).unwrap());
        assert_ne!(concepts.digest(), read("new york\ncat\nÖl".as_bytes()).unwrap().digest());
    }

    #[test]
    fn lines_that_are_none_are_named() {
        for (bytes, named) in [
            (b"".as_slice(), "is empty"),
            (b"\n", "is empty"),
            (b"a\n\nb\n", "line 2 of"),
            (b"a\nb\n\n", "line 3 of"),
            (b"a\n\xff\n", "not UTF-8"),
            (b"a\n b\tc\n", "control character '\\t'"),
            (b"a\nb\n a \n", "lines 1 and 3 of"),
            (&[b'x'; 513], "513 bytes"),
        ] {
            let error = read(bytes).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }
}

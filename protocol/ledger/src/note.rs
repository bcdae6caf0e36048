//! Signed notes (`signed-note` at c2sp.org): a text, and lines that sign it.
//!
//! ```text
//! logs.example.org/run/1          \
//! 2                                | the text: ends in a newline, holds no other control byte
//! 0m6T...=                        /
//!                                   <- the last blank line
//! — logs.example.org/run/1 8hs...=    one line per signature: name, base64(key id ‖ signature)
//! ```
//!
//! Two kinds of signature are known here: a log's own (0x01) and a witness's cosignature/v1 (0x04),
//! both Ed25519. Signatures by unknown keys are kept and ignored; one bad signature by a known key
//! condemns the whole note.

use data_encoding::BASE64;

use crate::encoding;

mod key;

pub use key::{KeyError, KeyKind, SignerKey, VerifierKey};

/// The longest note that is read or written, in bytes.
pub const MAX_NOTE_BYTES: usize = 64 * 1024;

/// The most signature lines a note may carry.
pub const MAX_SIGNATURES: usize = 100;

/// Em dash and space: how a signature line starts.
const SIGNATURE_MARK: &str = "\u{2014} ";

/// Why bytes aren't a note, or a note isn't to be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoteError {
    /// The note is longer than [`MAX_NOTE_BYTES`].
    #[error("{got} bytes, and a note has at most {MAX_NOTE_BYTES}")]
    TooLong {
        /// Bytes found.
        got: usize,
    },
    /// The note isn't UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// A control byte other than newline.
    #[error("control byte 0x{byte:02x} at offset {offset}")]
    ControlByte {
        /// The byte.
        byte: u8,
        /// Where it stands.
        offset: usize,
    },
    /// The text or the last signature line lacks its newline.
    #[error("does not end in a newline")]
    NoFinalNewline,
    /// There is no blank line between text and signatures.
    #[error("no blank line between text and signatures")]
    NoBlankLine,
    /// The text before the blank line is empty.
    #[error("the signed text is empty")]
    EmptyText,
    /// No signature line follows the blank line.
    #[error("no signature line")]
    NoSignatures,
    /// More than [`MAX_SIGNATURES`] signature lines.
    #[error("more than {MAX_SIGNATURES} signature lines")]
    TooManySignatures,
    /// A line after the blank line isn't `— name base64`.
    #[error("signature line {line} is malformed: {reason}")]
    BadSignatureLine {
        /// Counted from 1 after the blank line.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A key that we know has put its name to something else.
    #[error("the signature of {name}+{key_id:08x} does not verify; the text or the signature was changed")]
    BadSignature {
        /// The key's name.
        name: String,
        /// The key's id.
        key_id: u32,
    },
    /// The key that had to sign didn't.
    #[error("no signature by {name}+{key_id:08x}")]
    MissingSignature {
        /// The key's name.
        name: String,
        /// The key's id.
        key_id: u32,
    },
}

/// One signature line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    /// Name of the key that is said to have signed.
    pub name: String,
    /// Its key id.
    pub key_id: u32,
    /// The signature proper, without the key id; its form depends on the kind of key.
    pub blob: Vec<u8>,
}

/// A signature that was checked, by a key that the caller knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedSignature {
    /// Index of the key in the list the caller gave.
    pub key: usize,
    /// When a witness says it saw the note, in seconds since 1970; a log's own signature has no time.
    pub unix_seconds: Option<u64>,
}

/// A text with its signatures, well formed, nothing checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

impl Note {
    /// A note with one signature.
    ///
    /// # Errors
    ///
    /// [`NoteError`] when the text is no note text.
    pub fn sign(text: &str, signer: &SignerKey, unix_seconds: u64) -> Result<Self, NoteError> {
        check_characters(text)?;
        if text.is_empty() || text == "\n" {
            return Err(NoteError::EmptyText);
        }
        if !text.ends_with('\n') {
            return Err(NoteError::NoFinalNewline);
        }
        Ok(Self { text: text.to_owned(), signatures: vec![signer.sign(text, unix_seconds)] })
    }

    /// Reads a note. Pure, and safe on any bytes.
    ///
    /// # Errors
    ///
    /// [`NoteError`], saying what is malformed.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > MAX_NOTE_BYTES {
            return Err(NoteError::TooLong { got: bytes.len() });
        }
        let note = std::str::from_utf8(bytes).map_err(|_| NoteError::NotUtf8)?;
        check_characters(note)?;
        if !note.ends_with('\n') {
            return Err(NoteError::NoFinalNewline);
        }
        let blank = note.rfind("\n\n").ok_or(NoteError::NoBlankLine)?;
        let (text, lines) = (&note[..=blank], &note[blank + 2..]);
        if text == "\n" {
            return Err(NoteError::EmptyText);
        }
        if lines.is_empty() {
            return Err(NoteError::NoSignatures);
        }
        Ok(Self { text: text.to_owned(), signatures: parse_lines(lines)? })
    }

    /// The signed text, with its final newline.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Every signature line, checked or not.
    #[must_use]
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// Adds a signature line, such as a witness sent.
    ///
    /// # Errors
    ///
    /// [`NoteError::TooManySignatures`] when there are [`MAX_SIGNATURES`] already.
    pub fn add(&mut self, signature: NoteSignature) -> Result<(), NoteError> {
        if self.signatures.len() >= MAX_SIGNATURES {
            return Err(NoteError::TooManySignatures);
        }
        self.signatures.push(signature);
        Ok(())
    }

    /// The note with the lines of these signatures alone, in their order.
    #[must_use]
    pub fn with_only(self, keep: impl Fn(&NoteSignature) -> bool) -> Self {
        Self { text: self.text, signatures: self.signatures.into_iter().filter(keep).collect() }
    }

    /// Checks the signatures of the keys the caller knows. Lines by other keys are ignored.
    ///
    /// # Errors
    ///
    /// [`NoteError::BadSignature`] when any line by a known key doesn't verify.
    pub fn verify(&self, keys: &[VerifierKey]) -> Result<Vec<CheckedSignature>, NoteError> {
        let mut checked = Vec::new();
        for signature in &self.signatures {
            let known = |key: &VerifierKey| key.name() == signature.name && key.id() == signature.key_id;
            for (at, key) in keys.iter().enumerate().filter(|(_, key)| known(key)) {
                let Some(unix_seconds) = key.check(&self.text, &signature.blob) else {
                    return Err(NoteError::BadSignature {
                        name: signature.name.clone(),
                        key_id: signature.key_id,
                    });
                };
                checked.push(CheckedSignature { key: at, unix_seconds });
            }
        }
        Ok(checked)
    }
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| writeln!(f, "{signature}"))
    }
}

fn parse_lines(lines: &str) -> Result<Vec<NoteSignature>, NoteError> {
    let mut signatures = Vec::new();
    for (at, line) in lines.split_terminator('\n').enumerate() {
        if at == MAX_SIGNATURES {
            return Err(NoteError::TooManySignatures);
        }
        let signature = NoteSignature::parse(line)
            .map_err(|reason| NoteError::BadSignatureLine { line: at + 1, reason })?;
        signatures.push(signature);
    }
    Ok(signatures)
}

impl NoteSignature {
    /// Reads signature lines that stand alone, as a witness answers. Pure, and safe on any bytes.
    ///
    /// # Errors
    ///
    /// [`NoteError`], saying what is malformed.
    pub fn parse_all(bytes: &[u8]) -> Result<Vec<Self>, NoteError> {
        if bytes.len() > MAX_NOTE_BYTES {
            return Err(NoteError::TooLong { got: bytes.len() });
        }
        let lines = std::str::from_utf8(bytes).map_err(|_| NoteError::NotUtf8)?;
        check_characters(lines)?;
        if lines.is_empty() {
            return Err(NoteError::NoSignatures);
        }
        if !lines.ends_with('\n') {
            return Err(NoteError::NoFinalNewline);
        }
        parse_lines(lines)
    }

    /// Reads a line without its newline.
    fn parse(line: &str) -> Result<Self, &'static str> {
        let rest =
            line.strip_prefix(SIGNATURE_MARK).ok_or("it does not start with an em dash and a space")?;
        let (name, blob) = rest.split_once(' ').ok_or("no space between name and signature")?;
        if !key::is_name(name) {
            return Err("the key name is empty, or has a space or a plus sign");
        }
        let blob = encoding::base64(blob).ok_or("the signature is not canonical base64")?;
        match blob.split_first_chunk::<4>() {
            Some((id, blob)) if !blob.is_empty() => {
                Ok(Self { name: name.to_owned(), key_id: u32::from_be_bytes(*id), blob: blob.to_vec() })
            }
            _ => Err("the signature is shorter than a key id and one byte"),
        }
    }
}

impl std::fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = [&self.key_id.to_be_bytes()[..], &self.blob].concat();
        write!(f, "{SIGNATURE_MARK}{} {}", self.name, BASE64.encode(&bytes))
    }
}

fn check_characters(text: &str) -> Result<(), NoteError> {
    match text.bytes().enumerate().find(|&(_, byte)| byte < 0x20 && byte != b'\n') {
        Some((offset, byte)) => Err(NoteError::ControlByte { byte, offset }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;

//! Asking one witness.

use std::sync::{Mutex, TryLockError};

use talkoot_ledger::{
    AddCheckpoint, Note, ReadError, SignedCheckpoint, TileSource, VerifierKey,
    note::{MAX_NOTE_BYTES, NoteSignature},
    reader::consistency_proof,
};
use ureq::Agent;

use crate::http;

/// A question is asked again with the size that the witness told; more often than this, it tells nonsense.
const ATTEMPTS: usize = 3;

/// How much of an explanation is shown.
const MAX_EXPLANATION: usize = 200;

/// Why a witness gave no cosignature.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Trouble {
    /// No answer.
    #[error("it cannot be reached: {reason}")]
    Unreachable {
        /// What happened.
        reason: String,
    },
    /// An earlier question is still open.
    #[error("it has not answered the last question yet")]
    Busy,
    /// It has cosigned a larger tree of this log than this one.
    #[error(
        "it has cosigned {seen} entries of this log, and this checkpoint has {ours}: this folder may be an old copy, \
         restored from a backup; do not sign on from it"
    )]
    Ahead {
        /// Entries that it has seen.
        seen: u64,
        /// Entries in our checkpoint.
        ours: u64,
    },
    /// It has cosigned another history.
    #[error(
        "it has cosigned another history of this log ({status}: {explanation}); do not sign on from this folder"
    )]
    OtherHistory {
        /// The status of HTTP.
        status: u16,
        /// What it said.
        explanation: String,
    },
    /// It says no.
    #[error("it answers {status}: {explanation}{}", advice(*status))]
    Refused {
        /// The status of HTTP.
        status: u16,
        /// What it said.
        explanation: String,
    },
    /// What it says isn't what a witness says.
    #[error("its answer is no witness's: {reason}")]
    BadAnswer {
        /// What is wrong.
        reason: String,
    },
    /// Our own tiles don't give a proof.
    #[error("no proof can be made from the log's own files: {0}")]
    Tiles(#[from] ReadError),
}

const fn advice(status: u16) -> &'static str {
    match status {
        404 => "; its operator has to add the log's key to its list",
        403 => "; it knows another key for this log",
        429 | 503 => "; it will be asked again",
        _ => "",
    }
}

/// A witness that can be asked: its address, its key, and what it is known to have seen.
#[derive(Debug)]
pub struct WitnessClient {
    agent: Agent,
    key: VerifierKey,
    endpoint: String,
    /// The size it cosigned last, as far as we know. Held while a question is open.
    known: Mutex<u64>,
}

impl WitnessClient {
    /// The witness with this key at this submission prefix.
    ///
    /// # Errors
    ///
    /// Says what is wrong when `url` is no address of `http` or `https`.
    pub fn new(key: VerifierKey, url: &str) -> Result<Self, String> {
        let endpoint = format!("{}/add-checkpoint", http::prefix(url)?);
        Ok(Self { agent: http::agent(), key, endpoint, known: Mutex::new(0) })
    }

    /// Asks for a cosignature of `signed`, whose tiles `source` has. Blocks, for a minute at most.
    ///
    /// # Errors
    ///
    /// [`Trouble`].
    pub fn cosign<S: TileSource + ?Sized>(
        &self,
        source: &S,
        signed: &SignedCheckpoint,
    ) -> Result<Vec<NoteSignature>, Trouble> {
        let mut known = match self.known.try_lock() {
            Ok(known) => known,
            Err(TryLockError::WouldBlock) => return Err(Trouble::Busy),
            Err(TryLockError::Poisoned(known)) => known.into_inner(),
        };
        let size = signed.checkpoint.size;
        let mut old = (*known).min(size);
        for _ in 0..ATTEMPTS {
            let (status, body) = self.ask(source, signed, old)?;
            match status {
                200 => {
                    let cosignatures = self.checked(&body, signed)?;
                    *known = size;
                    return Ok(cosignatures);
                }
                409 => match told_size(&body) {
                    Some(seen) if seen > size => {
                        *known = seen;
                        return Err(Trouble::Ahead { seen, ours: size });
                    }
                    Some(seen) if seen != old => old = seen,
                    _ => return Err(Trouble::OtherHistory { status, explanation: explanation(&body) }),
                },
                422 => return Err(Trouble::OtherHistory { status, explanation: explanation(&body) }),
                _ => return Err(Trouble::Refused { status, explanation: explanation(&body) }),
            }
        }
        Err(Trouble::BadAnswer { reason: "it tells another size each time".to_owned() })
    }

    fn ask<S: TileSource + ?Sized>(
        &self,
        source: &S,
        signed: &SignedCheckpoint,
        old: u64,
    ) -> Result<(u16, Vec<u8>), Trouble> {
        let proof = consistency_proof(source, &signed.checkpoint, old)?;
        let request = AddCheckpoint { old, proof, note: signed.note.clone() };
        let unreachable = |error: &dyn std::fmt::Display| Trouble::Unreachable { reason: error.to_string() };
        let sent = self.agent.post(&self.endpoint).content_type("text/plain").send(request.to_string());
        let mut response = sent.map_err(|error| unreachable(&error))?;
        let body =
            http::body(&mut response, MAX_NOTE_BYTES as u64 + 1).map_err(|error| unreachable(&error))?;
        Ok((response.status().as_u16(), body))
    }

    /// Those of the answer's lines that are by this witness's key. There has to be one, and none may be bad.
    fn checked(&self, body: &[u8], signed: &SignedCheckpoint) -> Result<Vec<NoteSignature>, Trouble> {
        let bad = |reason: String| Trouble::BadAnswer { reason };
        let mut lines = NoteSignature::parse_all(body).map_err(|error| bad(error.to_string()))?;
        lines.retain(|line| line.name == self.key.name() && line.key_id == self.key.id());
        let mut note = Note::parse(signed.note.as_bytes()).map_err(|error| bad(error.to_string()))?;
        for line in &lines {
            note.add(line.clone()).map_err(|error| bad(error.to_string()))?;
        }
        let verified =
            note.verify(std::slice::from_ref(&self.key)).map_err(|error| bad(error.to_string()))?;
        if lines.is_empty() || verified.is_empty() {
            return Err(bad(format!("no cosignature by {}", self.key)));
        }
        Ok(lines)
    }
}

/// `text/x.tlog.size`: a decimal and a newline.
fn told_size(body: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(body).ok()?.strip_suffix('\n')?;
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let canonical = text == "0" || !text.starts_with('0');
    (plain && canonical).then(|| text.parse().ok()).flatten()
}

/// What a stranger wrote, for people: one line, cut, nothing that a terminal would obey.
fn explanation(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let line = text.lines().next().unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(MAX_EXPLANATION).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_told_size_has_one_spelling() {
        assert_eq!(told_size(b"0\n"), Some(0));
        assert_eq!(told_size(b"20852014\n"), Some(20_852_014));
        for bad in [&b""[..], b"\n", b"1", b"01\n", b"+1\n", b"1\n\n", b"99999999999999999999\n", b"\xff\n"] {
            assert_eq!(told_size(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn what_a_stranger_wrote_is_tamed() {
        assert_eq!(explanation(b"no\x1b[31m way\nsecond line"), "no[31m way");
        assert_eq!(explanation(&[b'x'; 1_000]).len(), MAX_EXPLANATION);
    }
}

//! Whom one believes (`tlog-policy` at c2sp.org): which logs, which witnesses, and how many of them.
//!
//! ```text
//! log     <vkey> [<url>]
//! witness a <vkey> [<url>]
//! witness b <vkey> [<url>]
//! witness c <vkey> [<url>]
//! group   two-of-three 2 a b c          k of n; `any` is 1, `all` is n; groups may hold groups
//! quorum  two-of-three                  a witness, a group, or `none`
//! ```
//!
//! A name is used once at most, so the rule is a tree and each witness counts in one place only. Names are
//! bytes without meaning outside the text; witnesses are known by their keys.

use std::fmt;

use crate::{
    checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint},
    note::{KeyKind, Note, NoteError, VerifierKey},
};

mod parse;

pub use parse::{MAX_LINES_OF_A_KIND, MAX_POLICY_BYTES, PolicyError};

/// A log that the policy accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyLog {
    /// Its key; the key's name is the log's origin.
    pub key: VerifierKey,
    /// Where the log is, if the text says so.
    pub url: Option<String>,
}

/// A witness that the policy knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyWitness {
    /// Its name within the policy.
    pub name: String,
    /// Its key, a cosigner's.
    pub key: VerifierKey,
    /// Where it takes checkpoints, if the text says so: the submission prefix of `tlog-witness`.
    pub url: Option<String>,
}

/// Logs, witnesses, and the rule that says which of their cosignatures are enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    logs: Vec<PolicyLog>,
    witnesses: Vec<PolicyWitness>,
    /// Every name in the order of its definition, so that a group stands behind its members.
    nodes: Vec<Node>,
    /// The node that decides; none where nothing is demanded.
    quorum: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    name: Vec<u8>,
    rule: Rule,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    /// The witness in this place has cosigned.
    Witness(usize),
    /// At least so many of these nodes hold.
    AtLeast(usize, Vec<usize>),
}

/// One witness's word about a checkpoint, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosignature {
    /// The witness's place among [`Policy::witnesses`].
    pub witness: usize,
    /// When it says it saw the checkpoint, in seconds since 1970; its latest word where there are several.
    pub unix_seconds: u64,
}

/// A checkpoint that a policy accepts, and who cosigned it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witnessed {
    /// The checkpoint with its note.
    pub signed: SignedCheckpoint,
    /// The policy's witnesses that cosigned it, in the policy's order.
    pub cosignatures: Vec<Cosignature>,
}

impl Policy {
    /// The policy that knows no witness and demands none.
    #[must_use]
    pub const fn none() -> Self {
        Self { logs: Vec::new(), witnesses: Vec::new(), nodes: Vec::new(), quorum: None }
    }

    /// The logs it accepts; empty where the log is known from elsewhere.
    #[must_use]
    pub fn logs(&self) -> &[PolicyLog] {
        &self.logs
    }

    /// The witnesses it knows, whether the quorum needs them or not.
    #[must_use]
    pub fn witnesses(&self) -> &[PolicyWitness] {
        &self.witnesses
    }

    /// Whether it demands any cosignature.
    #[must_use]
    pub const fn demands_witnesses(&self) -> bool {
        self.quorum.is_some()
    }

    /// Whether cosignatures of these witnesses, by their place, are enough.
    #[must_use]
    pub fn is_quorum(&self, cosigned: impl Fn(usize) -> bool) -> bool {
        let Some(quorum) = self.quorum else { return true };
        let mut holds = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            holds.push(match &node.rule {
                Rule::Witness(witness) => cosigned(*witness),
                Rule::AtLeast(least, members) => {
                    // members stand before their group, so they have been looked at
                    members.iter().filter(|&&member| holds[member]).count() >= *least
                }
            });
        }
        holds[quorum]
    }

    /// Checks a note against the policy and a log key that the caller has from elsewhere.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`]: malformed, badly signed, another log's, [`CheckpointError::LogNotListed`] where
    /// the policy lists logs and not this one, [`CheckpointError::QuorumShort`]. A bad signature by any key
    /// that the policy knows refuses the note, even above the quorum.
    pub fn verify(&self, note: &[u8], log: &VerifierKey) -> Result<Witnessed, CheckpointError> {
        if !self.logs.is_empty() && !self.logs.iter().any(|listed| listed.key == *log) {
            return Err(CheckpointError::LogNotListed { origin: log.name().to_owned() });
        }
        let note = Note::parse(note)?;
        let keys: Vec<VerifierKey> =
            std::iter::once(log).chain(self.witnesses.iter().map(|witness| &witness.key)).cloned().collect();
        let checked = note.verify(&keys)?;
        if !checked.iter().any(|signature| signature.key == 0) {
            return Err(NoteError::MissingSignature { name: log.name().to_owned(), key_id: log.id() }.into());
        }
        let checkpoint = Checkpoint::parse(note.text())?;
        if checkpoint.origin != log.name() {
            let (expected, got) = (log.name().to_owned(), checkpoint.origin);
            return Err(CheckpointError::WrongOrigin { expected, got });
        }
        let mut latest = vec![None; self.witnesses.len()];
        for signature in checked.iter().filter(|signature| signature.key > 0) {
            let time: &mut Option<u64> = &mut latest[signature.key - 1];
            *time = (*time).max(signature.unix_seconds);
        }
        if !self.is_quorum(|witness| latest[witness].is_some()) {
            let signers = self.witnesses.iter().zip(&latest).filter(|(_, time)| time.is_some());
            return Err(CheckpointError::QuorumShort {
                quorum: self.quorum_name(),
                cosigned: signers.map(|(witness, _)| witness.name.clone()).collect(),
                known: self.witnesses.len(),
            });
        }
        let cosignatures = latest
            .iter()
            .enumerate()
            .filter_map(|(witness, &time)| time.map(|unix_seconds| Cosignature { witness, unix_seconds }));
        let cosignatures = cosignatures.collect();
        Ok(Witnessed { signed: SignedCheckpoint { checkpoint, note: note.to_string() }, cosignatures })
    }

    /// Checks a note against the policy alone, which has to list the log.
    ///
    /// # Errors
    ///
    /// As [`Self::verify`]; [`CheckpointError::LogNotListed`] with the origin that the note claims.
    pub fn verify_listed(&self, note: &[u8]) -> Result<Witnessed, CheckpointError> {
        let origin = Checkpoint::parse(Note::parse(note)?.text())?.origin;
        // several keys may stand under one origin: whichever has signed will do
        let mut refusal = CheckpointError::LogNotListed { origin: origin.clone() };
        for log in self.logs.iter().filter(|log| log.key.name() == origin) {
            match self.verify(note, &log.key) {
                Ok(witnessed) => return Ok(witnessed),
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }

    fn quorum_name(&self) -> String {
        self.quorum.map_or_else(
            || "none".to_owned(),
            |node| String::from_utf8_lossy(&self.nodes[node].name).into_owned(),
        )
    }
}

/// One spelling of the policy, which reads back as an equal one: logs, witnesses and groups in their order,
/// thresholds as numbers, single spaces, no comments.
impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = |url: &Option<String>| url.as_ref().map(|url| format!(" {url}")).unwrap_or_default();
        for log in &self.logs {
            writeln!(f, "log {}{}", log.key, url(&log.url))?;
        }
        let name = |node: usize| String::from_utf8_lossy(&self.nodes[node].name).into_owned();
        for node in &self.nodes {
            let own = String::from_utf8_lossy(&node.name);
            match &node.rule {
                Rule::Witness(place) => {
                    let witness = &self.witnesses[*place];
                    writeln!(f, "witness {own} {}{}", witness.key, url(&witness.url))?;
                }
                Rule::AtLeast(least, members) => {
                    let members: Vec<String> = members.iter().map(|&member| name(member)).collect();
                    writeln!(f, "group {own} {least} {}", members.join(" "))?;
                }
            }
        }
        writeln!(f, "quorum {}", self.quorum.map_or_else(|| "none".to_owned(), name))
    }
}

impl VerifierKey {
    /// Whether the key may stand on a line of this kind.
    const fn signs_as(&self, kind: KeyKind) -> bool {
        matches!((self.kind(), kind), (KeyKind::Log, KeyKind::Log) | (KeyKind::Cosigner, KeyKind::Cosigner))
    }
}

#[cfg(test)]
mod tests;

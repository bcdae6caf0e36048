//! Two histories under one key: evidence that needs nobody's word.
//!
//! ```text
//! smaller   a signed checkpoint: so many entries, this root
//! larger    another one, of as many entries or more
//! root      what the larger tree has at the smaller size; another than the smaller one says
//! proof     the hashes that lead `root` to the larger checkpoint's root
//! ```
//! Whoever has the log's verifier key can check it with a page of code: two signatures and a consistency proof. No honest log
//! can be accused with it, as its key never signs two such checkpoints.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use data_encoding::{BASE64, HEXLOWER};

use crate::{
    checkpoint::{CheckpointError, SignedCheckpoint},
    encoding,
    note::{MAX_NOTE_BYTES, VerifierKey},
    reader::{self, ReadError, TileSource},
    tree::{Hash, MAX_PROOF_HASHES, ProofError, verify_consistency},
};

/// Two checkpoints of a log that no one history has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    /// The note of the smaller tree.
    pub smaller: String,
    /// The note of the larger one.
    pub larger: String,
    /// The larger tree's root at the smaller size.
    pub root: Hash,
    /// The hashes from it to the larger root.
    pub proof: Vec<Hash>,
}

/// Why something is no evidence of two histories.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoFork {
    /// A note is malformed, or not the log's.
    #[error("one of the two checkpoints: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The smaller note has the larger tree.
    #[error("the two checkpoints stand the wrong way round")]
    WrongWay,
    /// The proof leads nowhere.
    #[error("the proof does not lead to the larger tree: {0}")]
    Proof(#[from] ProofError),
    /// One continues the other.
    #[error("the larger tree continues the smaller one: there is one history")]
    OneHistory,
    /// A file is no part of an evidence.
    #[error("{0} is missing, too long, or not what it has to be")]
    Malformed(&'static str),
}

impl Fork {
    /// Holds a note of somebody else against a log that is here, under `ours`. Nothing when one continues the other, or when the
    /// other is of a larger tree, as nothing can be said before that is here.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the note is not the log's, or a tile cannot be read.
    pub fn find<S: TileSource + ?Sized>(
        source: &S,
        vkey: &VerifierKey,
        ours: &SignedCheckpoint,
        theirs: &str,
    ) -> Result<Option<Self>, ReadError> {
        let other = SignedCheckpoint::verify(theirs.as_bytes(), vkey)
            .map_err(|source| ReadError::BadCheckpoint { path: "the other checkpoint".to_owned(), source })?;
        let size = other.checkpoint.size;
        if size > ours.checkpoint.size {
            return Ok(None);
        }
        let root = reader::root_at(source, &ours.checkpoint, size)?;
        if root == other.checkpoint.root {
            return Ok(None);
        }
        let proof = reader::consistency_proof(source, &ours.checkpoint, size)?;
        Ok(Some(Self { smaller: theirs.to_owned(), larger: ours.note.clone(), root, proof }))
    }

    /// Checks the evidence: whether the log with this key has signed two histories. Returns the size at which they part at the
    /// latest.
    ///
    /// # Errors
    ///
    /// [`NoFork`] when it shows nothing.
    pub fn verify(&self, vkey: &VerifierKey) -> Result<u64, NoFork> {
        let smaller = SignedCheckpoint::verify(self.smaller.as_bytes(), vkey)?.checkpoint;
        let larger = SignedCheckpoint::verify(self.larger.as_bytes(), vkey)?.checkpoint;
        if smaller.size > larger.size {
            return Err(NoFork::WrongWay);
        }
        verify_consistency(&self.proof, smaller.size, self.root, larger.size, larger.root)?;
        if self.root == smaller.root {
            return Err(NoFork::OneHistory);
        }
        Ok(smaller.size)
    }

    /// Writes the evidence into a folder of its own below `dir`, as the files `smaller`, `larger` and `proof`, the last with
    /// `root` and the hashes in base64, a line each. Returns that folder.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn keep(&self, dir: &Path) -> io::Result<PathBuf> {
        let name =
            crate::tree::leaf_hash([self.smaller.as_bytes(), self.larger.as_bytes()].concat().as_slice());
        let dir = dir.join(format!("fork-{}", HEXLOWER.encode(&name.0[..8])));
        fs::create_dir_all(&dir)?;
        let lines: String =
            [self.root].iter().chain(&self.proof).map(|hash| BASE64.encode(&hash.0) + "\n").collect();
        for (name, text) in [("smaller", &self.smaller), ("larger", &self.larger), ("proof", &lines)] {
            let temporary = dir.join(format!("{name}.tmp"));
            fs::write(&temporary, text)?;
            fs::File::open(&temporary)?.sync_all()?;
            fs::rename(&temporary, dir.join(name))?;
        }
        Ok(dir)
    }

    /// Reads evidence as [`Fork::keep`] wrote it.
    ///
    /// # Errors
    ///
    /// [`NoFork::Malformed`], which names the file.
    pub fn read(dir: &Path) -> Result<Self, NoFork> {
        let folder = reader::Folder::new(dir);
        let text = |name: &'static str| {
            let bytes = folder.read(name, MAX_NOTE_BYTES as u64 + 1).ok().flatten();
            bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or(NoFork::Malformed(name))
        };
        let lines = text("proof")?;
        let hashes = lines.lines().take(MAX_PROOF_HASHES + 2).map(encoding::hash);
        let hashes: Option<Vec<Hash>> = hashes.collect();
        let hashes = hashes.filter(|hashes| hashes.len() <= MAX_PROOF_HASHES + 1);
        let (root, proof) =
            hashes.as_deref().and_then(<[Hash]>::split_first).ok_or(NoFork::Malformed("proof"))?;
        Ok(Self { smaller: text("smaller")?, larger: text("larger")?, root: *root, proof: proof.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Log;

    const SEED: [u8; 32] = [5; 32];

    fn entries(what: &str, from: u64, to: u64) -> Vec<Vec<u8>> {
        (from..to).map(|index| format!("{what} {index}").into_bytes()).collect()
    }

    /// A log of `common` entries and then `more` of its own.
    fn log(dir: &Path, common: u64, own: &str, more: u64) -> Log {
        let mut log = Log::create(dir, "logs.example.org/run", &SEED).unwrap();
        log.append(&entries("common", 0, common)).unwrap();
        log.append(&entries(own, 0, more)).unwrap();
        log
    }

    fn find(ours: &Log, theirs: &Log) -> Option<Fork> {
        Fork::find(ours.folder(), &ours.vkey(), ours.checkpoint(), &theirs.checkpoint_note()).unwrap()
    }

    #[test]
    fn two_histories_are_shown_to_anybody_whatever_their_sizes() {
        let home = tempfile::tempdir().unwrap();
        // 8 entries are a whole subtree, whose root is in no proof
        for (case, (common, a, b)) in
            [(3, 2, 9), (4, 4, 300), (0, 1, 1), (250, 6, 7), (5, 3, 3)].into_iter().enumerate()
        {
            let smaller = log(&home.path().join(format!("{case}/a")), common, "a", a);
            let larger = log(&home.path().join(format!("{case}/b")), common, "b", b);
            let fork = find(&larger, &smaller).expect("a fork");
            assert_eq!(fork.verify(&larger.vkey()), Ok(common + a));
            let kept = fork.keep(&home.path().join("evidence")).unwrap();
            assert_eq!(Fork::read(&kept).unwrap(), fork);
        }
    }

    #[test]
    fn nobody_who_is_honest_can_be_accused() {
        let home = tempfile::tempdir().unwrap();
        let mut honest = log(&home.path().join("a"), 5, "a", 3);
        let old = honest.checkpoint_note();
        honest.append(&entries("later", 0, 100)).unwrap();
        let found = Fork::find(honest.folder(), &honest.vkey(), honest.checkpoint(), &old).unwrap();
        assert_eq!(found, None);
        let proof = reader::consistency_proof(honest.folder(), &honest.checkpoint().checkpoint, 8).unwrap();
        let root = honest.root_at(8).unwrap();
        let claim = Fork { smaller: old.clone(), larger: honest.checkpoint_note(), root, proof };
        assert_eq!(claim.verify(&honest.vkey()), Err(NoFork::OneHistory));
        // another root is one that the proof does not lead from
        let invented = Fork { root: Hash([9; 32]), ..claim.clone() };
        assert!(matches!(invented.verify(&honest.vkey()), Err(NoFork::Proof(_))));
        let turned = Fork { smaller: claim.larger.clone(), larger: old, ..claim.clone() };
        assert_eq!(turned.verify(&honest.vkey()), Err(NoFork::WrongWay));
        let forged = Fork { smaller: claim.smaller.replacen("8\n", "7\n", 1), ..claim };
        assert!(matches!(forged.verify(&honest.vkey()), Err(NoFork::Checkpoint(_))));
    }

    #[test]
    fn what_is_no_evidence_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Fork::read(dir.path()), Err(NoFork::Malformed("proof")));
        fs::write(dir.path().join("proof"), "not base64\n").unwrap();
        assert_eq!(Fork::read(dir.path()), Err(NoFork::Malformed("proof")));
        let many = (BASE64.encode(&[0; 32]) + "\n").repeat(MAX_PROOF_HASHES + 2);
        fs::write(dir.path().join("proof"), many).unwrap();
        assert_eq!(Fork::read(dir.path()), Err(NoFork::Malformed("proof")));
    }
}

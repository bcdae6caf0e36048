//! Checking a data set's files against its manifest.

use std::{
    fs::{self, File},
    io::{self, BufReader},
    path::{Path, PathBuf},
};

use serde::Serialize;
use talkoot_protocol::digest::Digest;

use crate::{
    index::{ShardEntry, Totals},
    manifest::DatasetManifest,
    progress::{Progress, Unit},
    reader::{PackReader, ReadError},
    shard::{OUTBOARD_SUFFIX, outboard},
};

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Files: every byte is hashed, hash trees are compared.
    Files,
    /// Packs too: every pack is read, and the totals are counted again.
    Packs,
    /// Pictures too: every picture is decoded.
    Pictures,
}

/// What was found to be in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Verified {
    /// Shards that are what their names say.
    pub shards: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Shards without a hash tree beside them; it can be made anew.
    pub without_tree: u64,
    /// Packs that were read.
    pub packs: u64,
}

/// What is not in order.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A shard's bytes are not those of its name.
    #[error("shard {shard} at {} is damaged: {reason}; get it again", path.display())]
    Damaged {
        /// Its digest.
        shard: Digest,
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The hash tree beside a shard is not the shard's.
    #[error("the hash tree {} is not that of its shard; delete it", path.display())]
    WrongTree {
        /// The file of the tree.
        path: PathBuf,
    },
    /// A pack cannot be read.
    #[error(transparent)]
    Pack(#[from] ReadError),
    /// The packs are not as many or as long as the manifest says.
    #[error("the packs hold {got:?}, the manifest says {said:?}")]
    Totals {
        /// What the manifest says.
        said: Box<Totals>,
        /// What was counted.
        got: Box<Totals>,
    },
}

/// Checks the shards in `folder`, each under its digest, against `manifest` (whose signature was checked when it was
/// read) and `bytes`, the manifest's own.
///
/// # Errors
///
/// [`VerifyError`] naming the first thing that is wrong.
pub fn verify(
    manifest: &DatasetManifest,
    bytes: &[u8],
    folder: &Path,
    depth: Depth,
    progress: &dyn Progress,
) -> Result<Verified, VerifyError> {
    let mut found = Verified::default();
    let total = manifest.index.shards.iter().map(|shard| shard.blob.bytes).sum();
    progress.begin("hashing", total, Unit::Bytes);
    for shard in &manifest.index.shards {
        found.without_tree += u64::from(!verify_file(shard, folder)?);
        found.shards += 1;
        found.bytes += shard.blob.bytes;
        progress.advance(shard.blob.bytes);
    }
    if depth != Depth::Files {
        found.packs = verify_packs(manifest, bytes, folder, depth, progress)?;
    }
    progress.end();
    Ok(found)
}

/// Tells whether there is a hash tree.
fn verify_file(shard: &ShardEntry, folder: &Path) -> Result<bool, VerifyError> {
    let digest = shard.blob.digest;
    let path = folder.join(digest.to_string());
    let io = |source| VerifyError::Io { path: path.clone(), source };
    let file = File::open(&path).map_err(io)?;
    let got = file.metadata().map_err(io)?.len();
    let damaged = |reason: String| VerifyError::Damaged { shard: digest, path: path.clone(), reason };
    if got != shard.blob.bytes {
        return Err(damaged(format!("{got} bytes instead of {}", shard.blob.bytes)));
    }
    let (found, tree) = outboard(BufReader::with_capacity(1 << 20, file), got).map_err(io)?;
    if found != digest {
        return Err(damaged(format!("its bytes hash to {found}")));
    }
    let tree_path = folder.join(format!("{digest}{OUTBOARD_SUFFIX}"));
    match fs::read(&tree_path) {
        Ok(there) if there == tree => Ok(true),
        Ok(_) => Err(VerifyError::WrongTree { path: tree_path }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(tree.is_empty()),
        Err(source) => Err(VerifyError::Io { path: tree_path, source }),
    }
}

fn verify_packs(
    manifest: &DatasetManifest,
    bytes: &[u8],
    folder: &Path,
    depth: Depth,
    progress: &dyn Progress,
) -> Result<u64, VerifyError> {
    use rayon::prelude::*;
    let reader = PackReader::in_folder(bytes, folder)?;
    let rules = manifest.index.rules();
    progress.begin("reading", reader.packs(), Unit::Packs);
    let got = (0..reader.packs())
        .into_par_iter()
        .map(|pack| {
            let totals = reader.with_parts(pack, |parts| {
                let totals = totals_of(&parts.samples);
                if depth == Depth::Pictures {
                    parts.decode(&rules)?;
                }
                Ok(totals)
            })?;
            progress.advance(1);
            Ok::<_, ReadError>(totals)
        })
        .try_reduce(Totals::default, |a, b| Ok(a.plus(b)))?;
    if got != manifest.index.totals {
        return Err(VerifyError::Totals { said: Box::new(manifest.index.totals), got: Box::new(got) });
    }
    Ok(got.packs)
}

fn totals_of(samples: &[crate::shard::PackedSample]) -> Totals {
    let mut totals = Totals { packs: 1, samples: samples.len() as u64, ..Totals::default() };
    for sample in samples {
        totals.tokens += sample.tokens.len() as u64;
        totals.learned_tokens += sample.learned.iter().map(|&(_, length)| u64::from(length)).sum::<u64>();
        totals.images += sample.pictures.len() as u64;
    }
    totals
}

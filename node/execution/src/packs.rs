//! Packed data as the trainer reads it.

use std::path::PathBuf;

use talkoot_dataset::{AheadOptions, PackReader, PackedSequence, ReadAhead, ReadError};
use talkoot_protocol::digest::Digest;
use talkoot_trainer::batch::{BatchError, BatchSource, Image, Pack};

/// The packs of one data set, out of shards that are on this machine. They are read ahead of the trainer.
#[derive(Debug)]
pub struct Packs {
    ahead: ReadAhead,
}

/// Opens the data set with a manifest; `resolve` tells where a shard lies.
///
/// # Errors
///
/// [`ReadError`] when the manifest is not one.
pub fn open_packs(
    manifest: &[u8],
    resolve: impl Fn(&Digest) -> Option<PathBuf> + Send + Sync + 'static,
) -> Result<Packs, ReadError> {
    let reader = PackReader::open(manifest, resolve)?;
    Ok(Packs { ahead: ReadAhead::new(reader, AheadOptions::default()) })
}

impl Packs {
    /// The reader underneath.
    pub fn reader(&self) -> &PackReader {
        self.ahead.reader()
    }
}

impl BatchSource for Packs {
    fn pack(&self, index: u64) -> Result<Pack, BatchError> {
        self.ahead
            .take(index)
            .map(pack_of)
            .map_err(|error| BatchError::Unreadable { index, reason: error.to_string() })
    }

    fn plan(&self, packs: &[u64]) {
        self.ahead.plan(packs);
    }
}

/// A packed sequence as the trainer takes it.
pub fn pack_of(sequence: PackedSequence) -> Pack {
    let images = sequence.images.into_iter();
    Pack {
        tokens: sequence.tokens,
        labels: sequence.labels,
        sample_lengths: sequence.sample_lengths,
        images: images
            .map(|image| Image { width: image.width, height: image.height, rgb: image.rgb })
            .collect(),
    }
}

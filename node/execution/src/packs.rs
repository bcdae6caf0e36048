//! Packed data as the trainer reads it.

use std::path::PathBuf;

use talkoot_dataset::{PackReader, ReadError};
use talkoot_protocol::digest::Digest;
use talkoot_trainer::batch::{BatchError, BatchSource, Image, Pack};

/// The packs of one data set, out of shards that are on this machine.
#[derive(Debug)]
pub struct Packs {
    reader: PackReader,
}

/// Opens the data set with an index; `resolve` tells where a shard lies.
///
/// # Errors
///
/// [`ReadError`] when the index is not one.
pub fn open_packs(
    index: &[u8],
    resolve: impl Fn(&Digest) -> Option<PathBuf> + Send + Sync + 'static,
) -> Result<Packs, ReadError> {
    Ok(Packs { reader: PackReader::open(index, resolve)? })
}

impl Packs {
    /// The reader underneath.
    pub const fn reader(&self) -> &PackReader {
        &self.reader
    }
}

impl BatchSource for Packs {
    fn pack(&self, index: u64) -> Result<Pack, BatchError> {
        let sequence = self
            .reader
            .read(index)
            .map_err(|error| BatchError::Unreadable { index, reason: error.to_string() })?;
        Ok(Pack {
            tokens: sequence.tokens,
            labels: sequence.labels,
            sample_lengths: sequence.sample_lengths,
            images: sequence
                .images
                .into_iter()
                .map(|image| Image { width: image.width, height: image.height, rgb: image.rgb })
                .collect(),
        })
    }
}

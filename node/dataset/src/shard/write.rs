//! Writing a shard: members one after another, then its name and its hash tree.

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
};

use talkoot_protocol::digest::BlobRef;

use super::{
    body::{StoredPicture, join},
    member::{BLOCK, header, json_name, padded, picture_name},
    outboard::{OUTBOARD_SUFFIX, outboard},
    walk::END_BYTES,
};

/// A pack ready to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackBytes {
    /// Its number in the data set.
    pub number: u64,
    /// The JSON of its samples, from [`super::fragment`].
    pub fragments: Vec<Vec<u8>>,
    /// Its pictures as encoded files, in order.
    pub pictures: Vec<(StoredPicture, Vec<u8>)>,
}

/// Bytes that a sample adds to its pack at most: its part of the JSON and its pictures with their headers.
pub fn sample_bytes(fragment_bytes: u64, pictures: impl IntoIterator<Item = u64>) -> u64 {
    fragment_bytes + 1 + pictures.into_iter().map(|bytes| BLOCK + padded(bytes)).sum::<u64>()
}

/// Bytes that a pack takes at most, of samples that add `samples` bytes together.
pub fn pack_bytes_at_most(samples: u64) -> u64 {
    // The header, the JSON's frame (at most 42 characters) and what pads it.
    BLOCK + samples + 42 + BLOCK
}

/// A shard on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrittenShard {
    /// Name and length of its file.
    pub blob: BlobRef,
    /// Packs in it.
    pub packs: u32,
}

/// Writes one shard, first under the name `part`.
#[derive(Debug)]
pub struct ShardWriter {
    part: PathBuf,
    file: BufWriter<File>,
    bytes: u64,
    packs: u32,
}

impl ShardWriter {
    /// Bytes of a shard without packs.
    pub const EMPTY_BYTES: u64 = END_BYTES;

    /// Begins a shard in the file `part`, over what an earlier try may have left there.
    ///
    /// # Errors
    ///
    /// When the file cannot be made.
    pub fn create(part: PathBuf) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&part)?;
        Ok(Self { part, file: BufWriter::with_capacity(1 << 20, file), bytes: 0, packs: 0 })
    }

    /// Adds a pack.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn add(&mut self, pack: &PackBytes) -> io::Result<()> {
        self.member(&json_name(pack.number), &join(pack.number, &pack.fragments))?;
        for (at, (stored, bytes)) in pack.pictures.iter().enumerate() {
            self.member(&picture_name(pack.number, at, stored.format), bytes)?;
        }
        self.packs += 1;
        Ok(())
    }

    fn member(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let bytes = content.len() as u64;
        self.file.write_all(&header(name, bytes))?;
        self.file.write_all(content)?;
        let padding = (padded(bytes) - bytes) as usize;
        self.file.write_all(&[0; BLOCK as usize][..padding])?;
        self.bytes += BLOCK + padded(bytes);
        Ok(())
    }

    /// Ends the shard and moves it into `folder` under its digest, its hash tree beside it. Both are durable and whole
    /// when their names appear.
    ///
    /// # Errors
    ///
    /// When a file cannot be written.
    pub fn finish(mut self, folder: &Path) -> io::Result<WrittenShard> {
        self.file.write_all(&[0; END_BYTES as usize])?;
        self.bytes += END_BYTES;
        let mut file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        io::Seek::rewind(&mut file)?;
        let (digest, tree) = outboard(BufReader::with_capacity(1 << 20, &file), self.bytes)?;
        file.sync_all()?;
        let path = folder.join(digest.to_string());
        // A file of one group has no tree.
        if !tree.is_empty() {
            let part = with_suffix(&self.part);
            let mut tree_file = File::create(&part)?;
            tree_file.write_all(&tree)?;
            tree_file.sync_all()?;
            fs::rename(&part, with_suffix(&path))?;
        }
        fs::rename(&self.part, &path)?;
        Ok(WrittenShard { blob: BlobRef { digest, bytes: self.bytes }, packs: self.packs })
    }
}

fn with_suffix(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(OUTBOARD_SUFFIX);
    PathBuf::from(name)
}

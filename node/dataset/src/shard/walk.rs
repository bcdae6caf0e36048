//! Where the packs of a shard are, from its headers alone.

use std::io::{self, Read, Seek, SeekFrom};

use super::{
    MAX_PACK_BYTES, ShardFault, at_most,
    member::{BLOCK, PictureFormat, json_name, padded, picture_name, read_header},
};

/// Two empty blocks end a tar.
pub(super) const END_BYTES: u64 = 2 * BLOCK;

/// Where each of `packs` packs begins, numbered from `first_pack` on, and where the last ends, in bytes.
///
/// Pictures are stepped over. The memory that it takes does not depend on the shard's content.
///
/// # Errors
///
/// The outer one when the file cannot be read; [`ShardFault`] when it is not `packs` packs, from the first byte to the
/// last.
pub fn walk(
    file: &mut (impl Read + Seek),
    file_bytes: u64,
    first_pack: u64,
    packs: u32,
) -> io::Result<Result<Vec<u64>, ShardFault>> {
    let mut walk = Walk { at: 0, first_pack, packs, starts: Vec::new(), pictures: 0 };
    let mut block = [0; BLOCK as usize];
    while walk.at + END_BYTES < file_bytes {
        file.seek(SeekFrom::Start(walk.at))?;
        file.read_exact(&mut block)?;
        if let Err(fault) = walk.member(&block, file_bytes) {
            return Ok(Err(fault));
        }
    }
    let needed = walk.at + END_BYTES;
    if needed != file_bytes {
        return Ok(Err(ShardFault::WrongLength { what: "members and end", needed, got: file_bytes }));
    }
    let mut end = [0; END_BYTES as usize];
    file.seek(SeekFrom::Start(walk.at))?;
    file.read_exact(&mut end)?;
    Ok(walk.finish(&end))
}

struct Walk {
    at: u64,
    first_pack: u64,
    packs: u32,
    starts: Vec<u64>,
    /// Pictures of the last pack so far.
    pictures: usize,
}

impl Walk {
    fn member(&mut self, block: &[u8; BLOCK as usize], file_bytes: u64) -> Result<(), ShardFault> {
        let (name, bytes) = read_header(block, self.at)?;
        let next = self.first_pack + self.starts.len() as u64;
        if name == json_name(next) {
            self.close_pack()?;
            if self.starts.len() as u64 == u64::from(self.packs) {
                let got = u64::from(self.packs) + 1;
                return Err(ShardFault::OutOfBounds { what: "packs", got, limit: self.packs.into() });
            }
            self.starts.push(self.at);
            self.pictures = 0;
        } else if !self.starts.is_empty() && self.is_picture(&name, next - 1) {
            self.pictures += 1;
        } else {
            return Err(ShardFault::WrongMember { expected: json_name(next), got: name });
        }
        let left = (file_bytes - END_BYTES - self.at).saturating_sub(BLOCK);
        if bytes > left || padded(bytes) > left {
            return Err(ShardFault::WrongLength { what: "a member", needed: bytes, got: left });
        }
        self.at += BLOCK + padded(bytes);
        Ok(())
    }

    fn is_picture(&self, name: &str, pack: u64) -> bool {
        [PictureFormat::Jpg, PictureFormat::Png, PictureFormat::Webp]
            .into_iter()
            .any(|format| name == picture_name(pack, self.pictures, format))
    }

    fn close_pack(&self) -> Result<(), ShardFault> {
        let Some(start) = self.starts.last() else { return Ok(()) };
        at_most("bytes of a pack", self.at - start, MAX_PACK_BYTES)
    }

    fn finish(mut self, end: &[u8]) -> Result<Vec<u64>, ShardFault> {
        self.close_pack()?;
        if end.iter().any(|&byte| byte != 0) {
            return Err(ShardFault::Header { offset: self.at, reason: "the end of a tar is empty".into() });
        }
        if self.starts.len() as u64 != u64::from(self.packs) {
            let (got, limit) = (self.starts.len() as u64, self.packs.into());
            return Err(ShardFault::OutOfBounds { what: "packs", got, limit });
        }
        self.starts.push(self.at);
        Ok(self.starts)
    }
}

//! Members of the tar: their names and their headers.

use serde::{Deserialize, Serialize};
use tar::{EntryType, Header};

use super::ShardFault;

/// Bytes of a header, and what everything is padded to.
pub const BLOCK: u64 = 512;

/// What an encoded picture is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PictureFormat {
    /// `.jpg`
    Jpg,
    /// `.png`
    Png,
    /// `.webp`
    Webp,
}

impl PictureFormat {
    /// What the first bytes of a file say.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        match image::guess_format(bytes).ok()? {
            image::ImageFormat::Jpeg => Some(Self::Jpg),
            image::ImageFormat::Png => Some(Self::Png),
            image::ImageFormat::WebP => Some(Self::Webp),
            _ => None,
        }
    }

    /// The ending of a member's name.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Jpg => "jpg",
            Self::Png => "png",
            Self::Webp => "webp",
        }
    }

    /// The media type, for pages.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Jpg => "image/jpeg",
            Self::Png => "image/png",
            Self::Webp => "image/webp",
        }
    }
}

/// The name of a pack's JSON.
pub(super) fn json_name(pack: u64) -> String {
    format!("{pack:09}.json")
}

/// The name of a picture of a pack.
pub(super) fn picture_name(pack: u64, picture: usize, format: PictureFormat) -> String {
    format!("{pack:09}.img{picture}.{}", format.extension())
}

/// `bytes` and what pads them to whole blocks of a tar.
pub const fn padded(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK)
}

/// The one header of a member: plain ustar, mode 644, owner 0, time 0. Names are short ASCII; what is beyond 100 bytes
/// of one is cut off.
pub fn header(name: &str, bytes: u64) -> [u8; BLOCK as usize] {
    let mut header = Header::new_ustar();
    let field = &mut header.as_old_mut().name;
    let length = name.len().min(field.len());
    field[..length].copy_from_slice(&name.as_bytes()[..length]);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(bytes);
    header.set_mtime(0);
    header.set_entry_type(EntryType::Regular);
    header.set_cksum();
    *header.as_bytes()
}

/// Name and length of the member whose header stands at `offset`; a header with any other spelling is refused.
pub(super) fn read_header(block: &[u8; BLOCK as usize], offset: u64) -> Result<(String, u64), ShardFault> {
    let wrong = |reason: &str| ShardFault::Header { offset, reason: reason.to_owned() };
    let parsed = Header::from_byte_slice(block);
    let bytes = parsed.entry_size().map_err(|error| wrong(&error.to_string()))?;
    let name = &parsed.as_old().name;
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    let name = std::str::from_utf8(&name[..end]).map_err(|_| wrong("its name is not text"))?;
    if header(name, bytes) != *block {
        return Err(wrong("it is not plain ustar with mode 644, owner 0 and time 0, or it is damaged"));
    }
    Ok((name.to_owned(), bytes))
}

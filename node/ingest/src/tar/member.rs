//! Headers of a tar's members.

use ::tar::{Header, PaxExtensions};

use super::{BLOCK, MAX_NAME_BYTES};

/// Why a tar cannot be walked further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TarFault {
    /// It stops within a member.
    #[error(
        "the archive stops in the member at byte {offset}: {needed} bytes should follow, there are {got}"
    )]
    CutOff {
        /// Where the member's header stands.
        offset: u64,
        /// How many bytes it should have.
        needed: u64,
        /// How many there are.
        got: u64,
    },
    /// A header is damaged.
    #[error("no member begins at byte {offset} of the archive: {reason}")]
    Header {
        /// Where it stands.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// A name, or what else stands before a member, is too long.
    #[error(
        "what stands before the member at byte {offset} of the archive has {bytes} bytes, at most {limit} are taken"
    )]
    TooLong {
        /// Where it stands.
        offset: u64,
        /// Its length.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
}

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    File,
    Folder,
    /// The name of the next member.
    LongName,
    /// More about the next member.
    Pax,
    /// About all members; nothing that matters here.
    Global,
    /// Nothing whose content lies here.
    Foreign(&'static str),
}

impl Sort {
    pub(super) const fn is_file(self) -> bool {
        matches!(self, Self::File)
    }

    const fn of(flag: u8) -> Self {
        match flag {
            b'0' | 0 | b'7' => Self::File,
            b'1' => Self::Foreign("a link"),
            b'2' => Self::Foreign("a symbolic link"),
            b'5' => Self::Folder,
            b'x' => Self::Pax,
            b'g' => Self::Global,
            b'L' => Self::LongName,
            b'S' => Self::Foreign("a sparse file"),
            _ => Self::Foreign("no plain file"),
        }
    }
}

/// What a header says: the sort, the name and the length of its member.
pub(super) fn read_header(
    block: &[u8; BLOCK as usize],
    offset: u64,
) -> Result<(Sort, String, u64), TarFault> {
    let wrong = |reason: String| TarFault::Header { offset, reason };
    let header = Header::from_byte_slice(block);
    let said = header.cksum().map_err(|error| wrong(error.to_string()))?;
    let sum: u32 =
        block[..148].iter().chain(&block[156..]).map(|&byte| u32::from(byte)).sum::<u32>() + 8 * 32;
    if said != sum {
        return Err(wrong(format!("its checksum is {sum}, it says {said}")));
    }
    let bytes = header.entry_size().map_err(|error| wrong(error.to_string()))?;
    let sort = Sort::of(header.as_old().linkflag[0]);
    let name = header.path_bytes();
    let sort = if sort.is_file() && name.ends_with(b"/") { Sort::Folder } else { sort };
    Ok((sort, text(&name, offset)?, bytes))
}

/// A name, which has to be text.
pub(super) fn text(bytes: &[u8], offset: u64) -> Result<String, TarFault> {
    std::str::from_utf8(bytes)
        .map(str::to_owned)
        .map_err(|_| TarFault::Header { offset, reason: "its name is not UTF-8".into() })
}

/// What pax records say of the next member.
pub(super) struct Pax {
    pub(super) name: Option<String>,
    pub(super) bytes: Option<u64>,
    pub(super) sparse: bool,
}

pub(super) fn pax_of(content: &[u8], offset: u64) -> Result<Pax, TarFault> {
    let wrong = |reason: String| TarFault::Header { offset, reason };
    let mut pax = Pax { name: None, bytes: None, sparse: false };
    for record in PaxExtensions::new(content) {
        let record = record.map_err(|error| wrong(error.to_string()))?;
        let value = record.value_bytes();
        match record.key_bytes() {
            b"path" if value.len() as u64 > MAX_NAME_BYTES => {
                return Err(TarFault::TooLong { offset, bytes: value.len() as u64, limit: MAX_NAME_BYTES });
            }
            b"path" => pax.name = Some(text(value, offset)?),
            b"size" => {
                let bytes = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                pax.bytes = Some(bytes.ok_or_else(|| wrong("its length is no number".into()))?);
            }
            key if key.starts_with(b"GNU.sparse") => pax.sparse = true,
            _ => {}
        }
    }
    Ok(pax)
}

//! A blob's first bytes: whose it is, of which round, and how to read the rest.

use talkoot_protocol::digest::Digest;

use super::{CodecSettings, Geometry, Layout, SettingsError, positions::GapCode};

const MAGIC: &[u8; 8] = b"TKCONTRB";

/// Whose contribution it is, and to what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The round.
    pub round: u64,
    /// The member's public key.
    pub member: [u8; 32],
    /// Inner steps done.
    pub steps: u32,
    /// Tokens trained on.
    pub tokens: u64,
}

/// A blob's header.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Header {
    /// Version of the format: [`Header::PLAIN`] or [`Header::WITH_FACTORS`].
    pub version: u16,
    /// The codec's settings, within their bounds.
    pub settings: CodecSettings,
    /// Digest of the layout.
    pub layout: Digest,
    /// Whose contribution it is, and to what.
    pub origin: Origin,
}

/// Why bytes do not start with a contribution's header.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// Fewer bytes than a header has.
    #[error("a contribution's header has {} bytes, got {got}", Header::BYTES)]
    Truncated {
        /// Bytes given.
        got: usize,
    },
    /// The first bytes are not those of a contribution.
    #[error("not a contribution: it starts with {got:02x?}")]
    Magic {
        /// The first eight bytes.
        got: [u8; 8],
    },
    /// A version that this program does not know.
    #[error(
        "contribution of version {got}; this program reads versions {} and {}: update it",
        Header::PLAIN,
        Header::WITH_FACTORS
    )]
    Version {
        /// The version found.
        got: u16,
    },
    /// The reserved byte is not zero.
    #[error("the reserved byte is {got}, must be 0")]
    Reserved {
        /// The byte found.
        got: u8,
    },
    /// Settings out of bounds.
    #[error("the contribution's settings are out of bounds")]
    Settings(#[from] SettingsError),
}

impl Header {
    /// The version of a blob that is a pseudo-gradient alone.
    pub const PLAIN: u16 = 1;
    /// The version of a blob that ends with the member's second moments in brief.
    pub const WITH_FACTORS: u16 = 2;
    /// Length in bytes.
    pub const BYTES: usize = 8 + 2 + 1 + 1 + 4 + 4 + 4 + 32 + 8 + 32 + 4 + 8;

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let Self { version, settings, layout, origin } = self;
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&version.to_le_bytes());
        out.extend_from_slice(&[settings.bits, 0]);
        out.extend_from_slice(&settings.chunk.to_le_bytes());
        out.extend_from_slice(&settings.k.to_le_bytes());
        out.extend_from_slice(&settings.error_feedback.to_le_bytes());
        out.extend_from_slice(layout.as_bytes());
        out.extend_from_slice(&origin.round.to_le_bytes());
        out.extend_from_slice(&origin.member);
        out.extend_from_slice(&origin.steps.to_le_bytes());
        out.extend_from_slice(&origin.tokens.to_le_bytes());
    }
}

/// Cuts fixed-size fields off the front; a header's length is checked before.
struct Fields<'a>(&'a [u8; Header::BYTES], usize);

impl Fields<'_> {
    fn next<const N: usize>(&mut self) -> [u8; N] {
        let mut field = [0; N];
        field.copy_from_slice(&self.0[self.1..self.1 + N]);
        self.1 += N;
        field
    }
}

/// Reads a blob's header; nothing after it is looked at.
///
/// # Errors
///
/// [`HeaderError`] when these are not the first bytes of a contribution of a known version.
pub fn decode_header(bytes: &[u8]) -> Result<Header, HeaderError> {
    let header = bytes.first_chunk().ok_or(HeaderError::Truncated { got: bytes.len() })?;
    let mut fields = Fields(header, 0);
    let magic = fields.next::<8>();
    if &magic != MAGIC {
        return Err(HeaderError::Magic { got: magic });
    }
    let version = u16::from_le_bytes(fields.next());
    if !matches!(version, Header::PLAIN | Header::WITH_FACTORS) {
        return Err(HeaderError::Version { got: version });
    }
    let [bits, reserved] = fields.next();
    if reserved != 0 {
        return Err(HeaderError::Reserved { got: reserved });
    }
    let settings = CodecSettings {
        chunk: u32::from_le_bytes(fields.next()),
        k: u32::from_le_bytes(fields.next()),
        bits,
        error_feedback: f32::from_le_bytes(fields.next()),
    };
    settings.validate()?;
    let layout = Digest::from_bytes(fields.next());
    let origin = Origin {
        round: u64::from_le_bytes(fields.next()),
        member: fields.next(),
        steps: u32::from_le_bytes(fields.next()),
        tokens: u64::from_le_bytes(fields.next()),
    };
    Ok(Header { version, settings, layout, origin })
}

/// Bits that say how many entries a chunk with fewer than `k` holds: enough for `k - 1`.
pub(super) fn count_width(k: usize) -> u32 {
    usize::BITS - (k - 1).leading_zeros()
}

/// Upper bound of a blob's length in bytes.
pub(super) fn max_bytes(settings: &CodecSettings, layout: &Layout) -> u64 {
    let geometry = layout.geometry(settings.chunk);
    let mut bits = 0u64;
    for (_, elements) in layout.tensors() {
        let full = elements / u64::from(settings.chunk);
        let rest = (elements % u64::from(settings.chunk)) as usize;
        bits = bits.saturating_add(full.saturating_mul(max_chunk_bits(settings, settings.chunk as usize)));
        if rest > 0 {
            bits = bits.saturating_add(max_chunk_bits(settings, rest));
        }
    }
    // each segment has its length in the table, and may pad its last byte
    (Header::BYTES as u64 + 5 * geometry.segments()).saturating_add(bits / 8)
}

fn max_chunk_bits(settings: &CodecSettings, len: usize) -> u64 {
    let k = settings.k_of(len);
    // fewer entries have longer gaps, but never more bits in all than k of them and the worst quotients
    let gaps = (1..=k).map(|count| GapCode::most_bits(len, count) + count as u64 * u64::from(settings.bits));
    16 + u64::from(count_width(k)) + gaps.max().unwrap_or(0)
}

impl Header {
    /// Parts in the table of lengths: the segments, and the factors where there are any.
    pub(super) fn parts(&self, geometry: &Geometry) -> u64 {
        geometry.segments() + u64::from(self.version == Self::WITH_FACTORS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            version: 1,
            settings: CodecSettings::default(),
            layout: Digest::of(b"layout"),
            origin: Origin { round: 9, member: [3; 32], steps: 30, tokens: 1 << 40 },
        }
    }

    fn bytes() -> Vec<u8> {
        let mut bytes = Vec::new();
        header().write(&mut bytes);
        bytes
    }

    #[test]
    fn a_header_comes_back_and_has_the_stated_length() {
        assert_eq!(bytes().len(), Header::BYTES);
        assert_eq!(decode_header(&bytes()), Ok(header()));
    }

    #[test]
    fn each_field_is_checked() {
        let with = |at: usize, value: u8| {
            let mut bytes = bytes();
            bytes[at] = value;
            decode_header(&bytes).unwrap_err()
        };
        assert!(matches!(with(0, b'X'), HeaderError::Magic { .. }));
        assert_eq!(with(8, 3), HeaderError::Version { got: 3 });
        assert_eq!(with(8, 0), HeaderError::Version { got: 0 });
        assert_eq!(with(10, 3), HeaderError::Settings(SettingsError::Bits { got: 3 }));
        assert_eq!(with(11, 1), HeaderError::Reserved { got: 1 });
        assert!(matches!(with(15, 9), HeaderError::Settings(SettingsError::Chunk { .. })));
        assert_eq!(
            decode_header(&bytes()[..Header::BYTES - 1]),
            Err(HeaderError::Truncated { got: Header::BYTES - 1 })
        );
    }
}

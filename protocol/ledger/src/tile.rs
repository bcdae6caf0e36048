//! Tiles and entry bundles (`tlog-tiles` at c2sp.org): the files a log consists of.

mod bundle;
mod path;

pub use bundle::{BundleError, MAX_BUNDLE_BYTES, MAX_ENTRY_BYTES, decode_bundle, encode_bundle, push_entry};
pub use path::{PathError, TilePath};

use crate::tree::Hash;

/// Hashes in a full tile, entries in a full bundle.
pub const TILE_WIDTH: u16 = 256;

/// How many tree levels one tile spans.
pub(crate) const TILE_HEIGHT: u8 = 8;

/// Why the bytes of a tile aren't one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{got_bytes} bytes, expected {expected_bytes}")]
pub struct TileLengthError {
    /// 32 bytes for each hash.
    pub expected_bytes: usize,
    /// Bytes found.
    pub got_bytes: usize,
}

/// The bytes of a tile: its hashes in order.
#[must_use]
pub fn encode_tile(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// The hashes of a tile that must hold `width` of them. Pure, and safe on any bytes.
///
/// # Errors
///
/// [`TileLengthError`] when there are more or fewer bytes.
pub fn decode_tile(bytes: &[u8], width: u16) -> Result<Vec<Hash>, TileLengthError> {
    let expected_bytes = usize::from(width) * Hash::LEN;
    if bytes.len() != expected_bytes {
        return Err(TileLengthError { expected_bytes, got_bytes: bytes.len() });
    }
    let (hashes, _) = bytes.as_chunks::<{ Hash::LEN }>();
    Ok(hashes.iter().map(|&bytes| Hash(bytes)).collect())
}

/// How many hashes tile `index` at tile level `level` holds in a tree of `size` leaves; 0 when there
/// is no such tile.
#[must_use]
pub const fn width_at(size: u64, level: u8, index: u64) -> u16 {
    let shift = TILE_HEIGHT as u32 * level as u32;
    let hashes = if shift < u64::BITS { size >> shift } else { 0 };
    let full = hashes / TILE_WIDTH as u64;
    if index < full {
        TILE_WIDTH
    } else if index == full {
        (hashes % TILE_WIDTH as u64) as u16
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_follow_the_example_of_the_spec() {
        let size = 70_000;
        assert_eq!(width_at(size, 0, 272), 256);
        assert_eq!(width_at(size, 0, 273), 112);
        assert_eq!(width_at(size, 0, 274), 0);
        assert_eq!(width_at(size, 1, 0), 256);
        assert_eq!(width_at(size, 1, 1), 17);
        assert_eq!(width_at(size, 2, 0), 1);
        assert_eq!(width_at(size, 3, 0), 0);
        assert_eq!(width_at(256, 0, 1), 0, "an empty tile is no tile");
        assert_eq!(width_at(256, 1, 0), 1);
        assert_eq!(width_at(u64::MAX, 63, 0), 0);
    }

    #[test]
    fn a_tile_has_its_exact_length() {
        let hashes = [Hash([1; 32]), Hash([2; 32])];
        let bytes = encode_tile(&hashes);
        assert_eq!(decode_tile(&bytes, 2).unwrap(), hashes);
        assert_eq!(decode_tile(&bytes[1..], 2), Err(TileLengthError { expected_bytes: 64, got_bytes: 63 }));
        assert_eq!(decode_tile(&bytes, 1), Err(TileLengthError { expected_bytes: 32, got_bytes: 64 }));
    }
}

//! Entry bundles: up to 256 entries, each behind its length as a big-endian u16.

use super::TILE_WIDTH;

/// The longest entry, in bytes. Whatever is larger is named by its hash.
pub const MAX_ENTRY_BYTES: usize = u16::MAX as usize;

/// The longest bundle, in bytes.
pub const MAX_BUNDLE_BYTES: usize = TILE_WIDTH as usize * (MAX_ENTRY_BYTES + 2);

/// Why bytes aren't a bundle, or entries don't fit one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The bytes end within a length or an entry.
    #[error("entry {entry} is cut off: {missing_bytes} bytes are missing")]
    CutOff {
        /// Which entry of the bundle, from 0.
        entry: u16,
        /// How many bytes are missing at least.
        missing_bytes: usize,
    },
    /// All entries are there, and more bytes follow.
    #[error("{extra_bytes} bytes follow the last of {width} entries")]
    TrailingBytes {
        /// Entries expected.
        width: u16,
        /// Bytes left over.
        extra_bytes: usize,
    },
    /// An entry is longer than [`MAX_ENTRY_BYTES`].
    #[error("an entry of {got} bytes: at most {MAX_ENTRY_BYTES} fit; log the hash of the data instead")]
    EntryTooLong {
        /// Bytes of the entry.
        got: usize,
    },
}

/// The bytes of a bundle.
///
/// # Errors
///
/// [`BundleError::EntryTooLong`].
pub fn encode_bundle<E: AsRef<[u8]>>(entries: &[E]) -> Result<Vec<u8>, BundleError> {
    let mut bundle = Vec::new();
    entries.iter().try_for_each(|entry| push_entry(&mut bundle, entry.as_ref()))?;
    Ok(bundle)
}

/// Adds one entry to the bytes of a bundle.
///
/// # Errors
///
/// [`BundleError::EntryTooLong`]; the bundle is then as it was.
pub fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> Result<(), BundleError> {
    let length = u16::try_from(entry.len()).map_err(|_| BundleError::EntryTooLong { got: entry.len() })?;
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    Ok(())
}

/// The entries of a bundle that must hold exactly `width` of them. Pure, and safe on any bytes.
///
/// # Errors
///
/// [`BundleError`], saying where the bytes end too early or too late.
pub fn decode_bundle(bytes: &[u8], width: u16) -> Result<Vec<&[u8]>, BundleError> {
    let mut entries = Vec::new();
    let mut rest = bytes;
    for entry in 0..width {
        let Some((length, tail)) = rest.split_first_chunk::<2>() else {
            return Err(BundleError::CutOff { entry, missing_bytes: 2 - rest.len() });
        };
        let length = usize::from(u16::from_be_bytes(*length));
        let Some((body, tail)) = tail.split_at_checked(length) else {
            return Err(BundleError::CutOff { entry, missing_bytes: length - tail.len() });
        };
        entries.push(body);
        rest = tail;
    }
    if !rest.is_empty() {
        return Err(BundleError::TrailingBytes { width, extra_bytes: rest.len() });
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_cut_and_every_extra_byte_is_named() {
        let bundle = encode_bundle(&[&b"one"[..], b"", b"three"]).unwrap();
        for end in 0..bundle.len() {
            assert!(matches!(decode_bundle(&bundle[..end], 3), Err(BundleError::CutOff { .. })), "{end}");
        }
        let longer = [&bundle[..], &[0]].concat();
        assert_eq!(decode_bundle(&longer, 3), Err(BundleError::TrailingBytes { width: 3, extra_bytes: 1 }));
        assert_eq!(decode_bundle(&bundle, 2), Err(BundleError::TrailingBytes { width: 2, extra_bytes: 7 }));
        assert_eq!(decode_bundle(&bundle, 4), Err(BundleError::CutOff { entry: 3, missing_bytes: 2 }));
    }

    #[test]
    fn the_longest_entry_fits_and_the_next_does_not() {
        let longest = vec![7; MAX_ENTRY_BYTES];
        let bundle = encode_bundle(&[&longest]).unwrap();
        assert_eq!(decode_bundle(&bundle, 1).unwrap(), [&longest[..]]);
        assert_eq!(
            encode_bundle(&[vec![7; MAX_ENTRY_BYTES + 1]]),
            Err(BundleError::EntryTooLong { got: 65_536 })
        );
    }

    proptest! {
        #[test]
        fn bundles_come_back(entries in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..=256)) {
            let bundle = encode_bundle(&entries).unwrap();
            let width = u16::try_from(entries.len()).unwrap();
            prop_assert_eq!(decode_bundle(&bundle, width).unwrap(), entries);
        }

        #[test]
        fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), width in 0_u16..=256) {
            if let Ok(entries) = decode_bundle(&bytes, width) {
                prop_assert_eq!(encode_bundle(&entries).unwrap(), bytes);
            }
        }
    }
}

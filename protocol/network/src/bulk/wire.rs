//! What is said on a bulk stream before raw bytes flow: one request, one answer, both bounded.
//!
//! A frame is a little-endian `u16` length and that many bytes of postcard. The protocol's version is in the ALPN.

use std::net::SocketAddr;

use bao_tree::ChunkRanges;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use talkoot_protocol::digest::Digest;

use crate::store::tree;

/// The application protocol that both ends name in TLS.
pub(crate) const ALPN: &[u8] = b"talkoot-bulk/1";
/// Longest frame in bytes: 64 ranges of two ten-byte integers, and room.
pub(crate) const MAX_FRAME_BYTES: usize = 2048;
/// Most ranges in one request.
pub(crate) const MAX_RANGES: usize = 64;
/// A download is cut into pieces of this many bytes.
pub(crate) const PIECE_BYTES: u64 = 4 << 20;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Send the slice of a blob.
    Slice {
        /// Its BLAKE3 hash.
        digest: [u8; 32],
        /// Its length in bytes, as the asker knows it.
        bytes: u64,
        /// Byte ranges `start..end`, rising, apart from one another; widened to whole groups by the server.
        ranges: Vec<(u64, u64)>,
    },
    /// Say whether you have it.
    Has {
        /// Its BLAKE3 hash.
        digest: [u8; 32],
    },
    /// Say at which address you see me.
    WhereAmI,
}

/// What is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Response {
    /// It is here, this long; after a `Slice` request the encoded slice follows.
    Have {
        /// Length of the blob in bytes.
        bytes: u64,
    },
    /// It is not here, or not for others yet.
    NotFound,
    /// Ask again later.
    Busy,
    /// It is here but has another length; the slice of its last group follows, which proves it.
    OtherSize {
        /// Length of the blob in bytes.
        bytes: u64,
    },
    /// The request breaks a bound.
    Refused,
    /// Where the asker is, as the connection shows it.
    YouAre {
        /// Its address.
        address: SocketAddr,
    },
}

/// Why a frame or a request is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    #[error("a frame of {got} bytes is over the limit of {MAX_FRAME_BYTES}")]
    TooLong { got: usize },
    #[error("the frame is not a message of this protocol")]
    Malformed,
    #[error("{got} ranges, one to {MAX_RANGES} are allowed")]
    RangeCount { got: usize },
    #[error("range {start}..{end} is empty, out of order or beyond the {bytes} bytes of the blob")]
    BadRange { start: u64, end: u64, bytes: u64 },
    #[error("the ranges hold {got} bytes, more than a piece of {PIECE_BYTES}")]
    TooMuch { got: u64 },
}

/// Frames a message.
pub(crate) fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, WireError> {
    let body = postcard::to_stdvec(message).map_err(|_| WireError::Malformed)?;
    let length = check_length(body.len())?;
    Ok([&length.to_le_bytes()[..], &body].concat())
}

/// Refuses a frame length above the limit.
pub(crate) fn check_length(length: usize) -> Result<u16, WireError> {
    u16::try_from(length).ok().filter(|_| length <= MAX_FRAME_BYTES).ok_or(WireError::TooLong { got: length })
}

/// Decodes the body of a frame; nothing may be left over.
pub(crate) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, WireError> {
    check_length(body.len())?;
    match postcard::take_from_bytes(body) {
        Ok((message, [])) => Ok(message),
        _ => Err(WireError::Malformed),
    }
}

/// Checks byte ranges against a blob's length and turns them into whole groups.
pub(crate) fn checked_ranges(bytes: u64, ranges: &[(u64, u64)]) -> Result<ChunkRanges, WireError> {
    if ranges.is_empty() || ranges.len() > MAX_RANGES {
        return Err(WireError::RangeCount { got: ranges.len() });
    }
    let (mut from, mut total) = (0, 0_u64);
    let mut chunks = ChunkRanges::empty();
    for &(start, end) in ranges {
        if start < from || end <= start || end > bytes {
            return Err(WireError::BadRange { start, end, bytes });
        }
        (from, total) = (end, total.saturating_add(end - start));
        if total > PIECE_BYTES {
            return Err(WireError::TooMuch { got: total });
        }
        chunks |= tree::groups(start, end);
    }
    Ok(chunks)
}

impl Request {
    /// Which blob it is about; the empty one if it is about none.
    pub(crate) fn digest(&self) -> Digest {
        match self {
            Self::WhereAmI => Digest::of(&[]),
            Self::Slice { digest, .. } | Self::Has { digest } => Digest::from_bytes(*digest),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request() -> impl Strategy<Value = Request> {
        prop_oneof![
            Just(Request::WhereAmI),
            any::<[u8; 32]>().prop_map(|digest| Request::Has { digest }),
            (any::<[u8; 32]>(), any::<u64>(), prop::collection::vec(any::<(u64, u64)>(), 0..MAX_RANGES))
                .prop_map(|(digest, bytes, ranges)| Request::Slice { digest, bytes, ranges }),
        ]
    }

    proptest! {
        #[test]
        fn requests_survive_the_wire(request in request()) {
            let frame = encode(&request).unwrap();
            prop_assert_eq!(usize::from(u16::from_le_bytes([frame[0], frame[1]])), frame.len() - 2);
            prop_assert_eq!(decode::<Request>(&frame[2..]), Ok(request));
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            match decode::<Request>(&bytes) {
                Ok(request) => prop_assert_eq!(postcard::to_stdvec(&request).unwrap().len(), bytes.len()),
                Err(WireError::TooLong { got }) => prop_assert!(got == bytes.len() && got > MAX_FRAME_BYTES),
                Err(error) => prop_assert_eq!(error, WireError::Malformed),
            }
            let _ = decode::<Response>(&bytes);
        }

        #[test]
        fn perturbed_requests_do_no_harm(request in request(), at in any::<prop::sample::Index>(), with in 1_u8..) {
            let mut body = postcard::to_stdvec(&request).unwrap();
            let at = at.index(body.len());
            body[at] ^= with;
            if let Ok(Request::Slice { bytes, ranges, .. }) = decode(&body) {
                let _ = checked_ranges(bytes, &ranges);
            }
            let mut longer = postcard::to_stdvec(&request).unwrap();
            longer.push(0);
            prop_assert_eq!(decode::<Request>(&longer), Err(if longer.len() > MAX_FRAME_BYTES { WireError::TooLong { got: longer.len() } } else { WireError::Malformed }));
        }

        #[test]
        fn accepted_ranges_are_bounded(bytes in any::<u64>(), ranges in prop::collection::vec((any::<u64>(), 0_u64..PIECE_BYTES * 2), 0..70)) {
            let ranges: Vec<_> = ranges.into_iter().map(|(start, length)| (start, start.saturating_add(length))).collect();
            match checked_ranges(bytes, &ranges) {
                Ok(_) => prop_assert!(ranges.iter().all(|(start, end)| start < end && *end <= bytes)),
                Err(WireError::RangeCount { got }) => prop_assert!(got == 0 || got > MAX_RANGES),
                Err(WireError::TooMuch { got }) => prop_assert!(got > PIECE_BYTES),
                Err(error) => prop_assert!(matches!(error, WireError::BadRange { .. }), "{error:?}"),
            }
        }
    }

    #[test]
    fn ranges_are_refused_for_the_right_reason() {
        assert_eq!(checked_ranges(10, &[]), Err(WireError::RangeCount { got: 0 }));
        assert_eq!(checked_ranges(10, &[(0, 11)]), Err(WireError::BadRange { start: 0, end: 11, bytes: 10 }));
        assert_eq!(
            checked_ranges(10, &[(5, 6), (0, 1)]),
            Err(WireError::BadRange { start: 0, end: 1, bytes: 10 })
        );
        assert_eq!(
            checked_ranges(1 << 40, &[(0, PIECE_BYTES + 1)]),
            Err(WireError::TooMuch { got: PIECE_BYTES + 1 })
        );
    }
}

//! What is said on a bulk stream: one request, and one answer before raw bytes flow; or, after [`Request::Follow`], wishes one
//! way and news the other. All of it is bounded.
//!
//! A frame is a little-endian `u16` length and that many bytes of postcard. The protocol's version is in the ALPN.

use std::net::SocketAddr;

use bao_tree::ChunkRanges;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use talkoot_protocol::digest::Digest;

use super::urgency::Urgency;
use crate::store::tree;

/// The application protocol that both ends name in TLS.
pub(crate) const ALPN: &[u8] = b"talkoot-bulk/3";
/// Longest frame in bytes: 64 ranges of two ten-byte integers, and room.
pub(crate) const MAX_FRAME_BYTES: usize = 2048;
/// Most ranges in one request.
pub(crate) const MAX_RANGES: usize = 64;
/// Longest piece that a download is cut into, and most that one request may ask for.
pub(crate) const PIECE_BYTES: u64 = 4 << 20;
/// Shortest piece, but for the last one of a blob.
pub(crate) const LEAST_PIECE_BYTES: u64 = 256 << 10;
/// Pieces that a blob is cut into where their bounds allow it: enough for many members to hold different ones.
const PIECES: u64 = 32;
/// Most blobs that may be followed at once over one stream.
pub(crate) const MAX_FOLLOWED: usize = 256;
/// Most pieces that one piece of news tells of.
pub(crate) const MAX_PIECES: u64 = 8 * MAX_BITMAP_BYTES as u64;
/// Longest bitmap.
const MAX_BITMAP_BYTES: usize = 1024;

/// Length of the pieces of a blob, the same for everybody: a power of two.
pub(crate) fn piece_bytes(blob_bytes: u64) -> u64 {
    (blob_bytes / PIECES)
        .checked_next_power_of_two()
        .unwrap_or(PIECE_BYTES)
        .clamp(LEAST_PIECE_BYTES, PIECE_BYTES)
}

/// Pieces of a blob of this length.
pub(crate) fn piece_count(blob_bytes: u64) -> u64 {
    blob_bytes.div_ceil(piece_bytes(blob_bytes))
}

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
        /// How urgent it is; goes first on the way, too.
        urgency: Urgency,
        /// The asker could not have it from anybody else.
        insists: bool,
    },
    /// Say whether you have it.
    Has {
        /// Its BLAKE3 hash.
        digest: [u8; 32],
    },
    /// Say at which address you see me.
    WhereAmI,
    /// Say what you have of the blobs that [`Wish`]es on this stream will name, now and whenever it changes.
    Follow,
}

/// What is said after [`Request::Follow`], any number of times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Wish {
    /// Say which pieces of it you have, and say it again when you have others.
    Tell {
        /// Its BLAKE3 hash.
        digest: [u8; 32],
        /// Its length in bytes, as the asker knows it; says what a piece is.
        bytes: u64,
        /// The first piece that is asked for.
        first: u64,
    },
    /// Say no more of it.
    Enough {
        /// Its BLAKE3 hash.
        digest: [u8; 32],
    },
}

/// What is answered on a stream that began with [`Request::Follow`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum News {
    /// The first word: whether this member has a line that is there for others.
    Seeder(bool),
    /// What is here of a blob.
    Held {
        /// Its BLAKE3 hash.
        digest: [u8; 32],
        /// Which pieces, from the one that the wish named.
        held: Held,
    },
    /// The last word: a wish broke a bound.
    Refused,
}

/// What a member has of a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Held {
    /// Nothing, or nothing for others yet.
    Nothing,
    /// All of it.
    Whole,
    /// Of the pieces from the first one asked for: bit `i % 8` of byte `i / 8`, lowest first. Missing bits are zero.
    Some(Vec<u8>),
}

impl Held {
    /// Whether the `index`-th piece from the first one asked for is held.
    pub(crate) fn has(&self, index: u64) -> bool {
        match self {
            Self::Nothing => false,
            Self::Whole => true,
            Self::Some(bits) => {
                let byte = usize::try_from(index / 8).ok().and_then(|byte| bits.get(byte));
                byte.is_some_and(|byte| byte >> (index % 8) & 1 == 1)
            }
        }
    }

    /// The pieces, one after the other, that are held.
    pub(crate) fn of(pieces: impl Iterator<Item = bool>) -> Self {
        let mut bits = Vec::new();
        for (index, held) in pieces.take(8 * MAX_BITMAP_BYTES).enumerate() {
            if index % 8 == 0 {
                bits.push(0);
            }
            if held && let Some(byte) = bits.last_mut() {
                *byte |= 1 << (index % 8);
            }
        }
        if bits.iter().all(|byte| *byte == 0) { Self::Nothing } else { Self::Some(bits) }
    }
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Somebody else was given it a moment ago and has it, or soon will; who cannot have it from there insists.
    Elsewhere,
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
    #[error("pieces from {first} on, the blob has {pieces}")]
    BadPiece { first: u64, pieces: u64 },
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

/// Checks a question for pieces; the pieces it is about.
pub(crate) fn checked_pieces(bytes: u64, first: u64) -> Result<std::ops::Range<u64>, WireError> {
    let pieces = piece_count(bytes);
    if first >= pieces {
        return Err(WireError::BadPiece { first, pieces });
    }
    Ok(first..pieces.min(first.saturating_add(MAX_PIECES)))
}

impl Request {
    /// Which blob it is about; the empty one if it is about none.
    pub(crate) fn digest(&self) -> Digest {
        match self {
            Self::WhereAmI | Self::Follow => Digest::of(&[]),
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
            Just(Request::Follow),
            any::<[u8; 32]>().prop_map(|digest| Request::Has { digest }),
            (
                any::<[u8; 32]>(),
                any::<u64>(),
                prop::collection::vec(any::<(u64, u64)>(), 0..MAX_RANGES),
                prop::sample::select(Urgency::ALL.to_vec()),
                any::<bool>()
            )
                .prop_map(|(digest, bytes, ranges, urgency, insists)| Request::Slice {
                    digest,
                    bytes,
                    ranges,
                    urgency,
                    insists
                }),
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
            let _ = (decode::<Response>(&bytes), decode::<Wish>(&bytes), decode::<News>(&bytes));
        }

        #[test]
        fn wishes_survive_the_wire(digest in any::<[u8; 32]>(), bytes in any::<u64>(), first in any::<u64>()) {
            for wish in [Wish::Tell { digest, bytes, first }, Wish::Enough { digest }] {
                let frame = encode(&wish).unwrap();
                prop_assert_eq!(decode::<Wish>(&frame[2..]), Ok(wish));
            }
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
        fn responses_survive_the_wire(bytes in any::<u64>(), digest in any::<[u8; 32]>(), held in prop::collection::vec(any::<bool>(), 0..9000), seeder in any::<bool>()) {
            let told = Held::of(held.iter().copied());
            for (index, held) in held.iter().take(8192).enumerate() {
                prop_assert_eq!(told.has(index as u64), *held);
            }
            prop_assert!(!told.has(8192));
            for response in [Response::Have { bytes }, Response::OtherSize { bytes }, Response::Elsewhere] {
                let frame = encode(&response).unwrap();
                prop_assert_eq!(decode::<Response>(&frame[2..]), Ok(response));
            }
            for news in [News::Seeder(seeder), News::Held { digest, held: told }, News::Refused] {
                let frame = encode(&news).unwrap();
                prop_assert_eq!(decode::<News>(&frame[2..]), Ok(news));
            }
        }

        #[test]
        fn pieces_cover_the_blob(bytes in 1_u64..=1 << 40, first in any::<u64>()) {
            let (piece, count) = (piece_bytes(bytes), piece_count(bytes));
            prop_assert!(piece.is_power_of_two() && (LEAST_PIECE_BYTES..=PIECE_BYTES).contains(&piece));
            prop_assert!((count - 1) * piece < bytes && bytes <= count * piece);
            match checked_pieces(bytes, first) {
                Ok(pieces) => prop_assert!(pieces.start == first && pieces.end <= count && pieces.end - first <= MAX_PIECES),
                Err(error) => prop_assert_eq!(error, WireError::BadPiece { first, pieces: count }),
            }
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

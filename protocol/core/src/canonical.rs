//! One value, one byte string: CBOR that is accepted only when encoding it again gives the same bytes.
//!
//! The encoding is deterministic CBOR (RFC 8949, 4.2.1): definite lengths, shortest integers, no floats, maps
//! with ascending integer keys. Two decoders can then never read one entry differently.

use minicbor::{Decode, Encode};

/// Why bytes are not a canonical encoding.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CanonicalError {
    /// More bytes than this kind of value may have.
    #[error("{what} has {got} bytes, more than the {limit} allowed")]
    TooLong {
        /// The kind of value.
        what: &'static str,
        /// Length of the input in bytes.
        got: usize,
        /// Greatest length in bytes.
        limit: usize,
    },
    /// The bytes are not CBOR of the expected shape.
    #[error("{what} cannot be decoded: {reason}")]
    Malformed {
        /// The kind of value.
        what: &'static str,
        /// What the decoder met, and where.
        reason: String,
    },
    /// The bytes say the same value in another way than the encoder would.
    #[error("{what} is not in canonical form: byte {at} differs from its own encoding")]
    NotCanonical {
        /// The kind of value.
        what: &'static str,
        /// Offset of the first byte that differs.
        at: usize,
    },
}

/// Canonical bytes of `value`.
///
/// # Panics
///
/// Never: writing into memory does not fail.
pub fn to_bytes<T: Encode<()>>(value: &T) -> Vec<u8> {
    minicbor::to_vec(value)
        .expect("writing into memory does not fail, and no encoder of ours raises an error")
}

/// Reads a byte string of exactly `N` bytes; `wrong` says what it should have been.
pub(crate) fn decode_array<const N: usize>(
    d: &mut minicbor::Decoder<'_>,
    wrong: &'static str,
) -> Result<[u8; N], minicbor::decode::Error> {
    let at = d.position();
    d.bytes()?.try_into().map_err(|_| minicbor::decode::Error::message(wrong).at(at))
}

/// Reads a value of at most `limit` bytes.
///
/// # Errors
///
/// [`CanonicalError`] when the input is too long, is not such a value, or is another spelling of it.
pub fn from_bytes<T>(what: &'static str, bytes: &[u8], limit: usize) -> Result<T, CanonicalError>
where
    T: Encode<()> + for<'b> Decode<'b, ()>,
{
    if bytes.len() > limit {
        return Err(CanonicalError::TooLong { what, got: bytes.len(), limit });
    }
    let value: T = minicbor::decode(bytes)
        .map_err(|error| CanonicalError::Malformed { what, reason: error.to_string() })?;
    let again = to_bytes(&value);
    if again == bytes {
        return Ok(value);
    }
    let at = again.iter().zip(bytes).position(|(a, b)| a != b).unwrap_or(again.len().min(bytes.len()));
    Err(CanonicalError::NotCanonical { what, at })
}

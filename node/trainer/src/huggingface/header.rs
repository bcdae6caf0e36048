//! The first bytes of a safetensors file: which tensor is where.
//!
//! ```text
//! 8 bytes   length n of the description, little-endian
//! n bytes   JSON: {"__metadata__": {...}, "<name>": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}
//! the rest  the tensors' bytes, without gaps; offsets count from here
//! ```
//!
//! The safetensors crate reads files that are in memory as a whole. This reader needs the description alone, bounds
//! it before anything is allocated, and names the tensor that is wrong; tests hold it to the crate.

use std::collections::{BTreeMap, HashMap};

use safetensors::{
    Dtype, SafeTensorError,
    tensor::{Metadata, TensorInfo},
};
use serde::{
    Deserialize,
    de::{IntoDeserializer, value},
};

use self::entries::{Entry, entries};
use super::names::shown;

mod entries;

/// Longest description that is read, in bytes. The released 8.5 B model's has 80 thousand.
pub const MAX_HEADER_BYTES: u64 = 16 << 20;

/// Bytes in front of the description.
const LENGTH_BYTES: u64 = 8;

/// A weights file whose description is wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The file is shorter than the length that it says its description has.
    #[error(
        "its description has {header} bytes, but the file has {file}: it was cut off, or is something else"
    )]
    Cut {
        /// Bytes that the description is said to have.
        header: u64,
        /// Bytes of the whole file.
        file: u64,
    },
    /// A description that is longer than any that is meant.
    #[error("its description has {got} bytes, more than the {MAX_HEADER_BYTES} that are read")]
    TooLong {
        /// Bytes that the description is said to have.
        got: u64,
    },
    /// The description is no JSON of the right form.
    #[error("its description does not parse")]
    Json(#[from] serde_json::Error),
    /// A number type that the format doesn't know.
    #[error("tensor {name} has the unknown number type {got:?}")]
    Dtype {
        /// Name as it stands, cut to 200 characters.
        name: String,
        /// The number type, cut to 200 characters.
        got: String,
    },
    /// A tensor whose place is not as long as its shape and number type say.
    #[error("tensor {name} has shape {shape:?} of {dtype:?}, but {got} bytes")]
    Size {
        /// Name as it stands, cut to 200 characters.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Its number type.
        dtype: Dtype,
        /// Length of its place in bytes; negative when it ends before it starts.
        got: i128,
    },
    /// A tensor that does not start where the one before it ends.
    #[error("tensor {name} starts at byte {got} of the data, but the tensor before it ends at {expected}")]
    Place {
        /// Name as it stands, cut to 200 characters.
        name: String,
        /// End of the tensor before.
        expected: u64,
        /// Start of this one.
        got: u64,
    },
    /// The file is shorter or longer than its tensors.
    #[error(
        "its tensors end at byte {expected}, but the file has {got}: it was cut off, or bytes were added"
    )]
    Length {
        /// Where the last tensor ends.
        expected: u64,
        /// Length of the file.
        got: u64,
    },
}

/// Where a tensor is in its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorPlace {
    /// Number type.
    pub dtype: Dtype,
    /// Length of every axis, outermost first.
    pub shape: Vec<usize>,
    /// First byte, counted from the start of the file.
    pub start: u64,
    /// Length in bytes; what shape and number type ask for.
    pub bytes: u64,
}

/// What a weights file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Every tensor, by the name that stands in the file.
    pub tensors: BTreeMap<String, TensorPlace>,
}

impl Header {
    /// Length of the description, from the file's first 8 bytes.
    ///
    /// # Errors
    ///
    /// [`HeaderError`] when it cannot be, so that nobody allocates for it.
    pub fn length(first: [u8; 8], file_bytes: u64) -> Result<usize, HeaderError> {
        let header = u64::from_le_bytes(first);
        if header.saturating_add(LENGTH_BYTES) > file_bytes {
            return Err(HeaderError::Cut { header, file: file_bytes });
        }
        match usize::try_from(header) {
            Ok(length) if header <= MAX_HEADER_BYTES => Ok(length),
            _ => Err(HeaderError::TooLong { got: header }),
        }
    }

    /// Reads the description `json` of a file of `file_bytes` bytes.
    ///
    /// # Errors
    ///
    /// [`HeaderError`] names the tensor that is wrong.
    pub fn parse(json: &[u8], file_bytes: u64) -> Result<Self, HeaderError> {
        let described = entries(json)?.into_iter().map(|(name, entry)| place(name, entry));
        let mut places = described.collect::<Result<Vec<_>, _>>()?;
        places.sort_by_key(|(_, place)| (place.start, place.bytes));
        let mut end = 0;
        for (name, place) in &places {
            if place.start != end {
                return Err(HeaderError::Place { name: shown(name), expected: end, got: place.start });
            }
            end += place.bytes;
        }
        let data = LENGTH_BYTES + json.len() as u64;
        let expected = data.saturating_add(end);
        if expected != file_bytes {
            return Err(HeaderError::Length { expected, got: file_bytes });
        }
        places.iter_mut().for_each(|(_, place)| place.start += data);
        Ok(Self { tensors: places.into_iter().collect() })
    }
}

/// Checks one tensor for itself; its start still counts from the data.
fn place(name: String, entry: Entry) -> Result<(String, TensorPlace), HeaderError> {
    let word: value::StrDeserializer<'_, value::Error> = entry.dtype.as_str().into_deserializer();
    let Ok(dtype) = Dtype::deserialize(word) else {
        return Err(HeaderError::Dtype { name: shown(&name), got: shown(&entry.dtype) });
    };
    let (start, end) = entry.data_offsets;
    let numbers = entry.shape.iter().try_fold(1u64, |product, &axis| product.checked_mul(axis as u64));
    let bits = numbers.and_then(|numbers| numbers.checked_mul(dtype.bitsize() as u64));
    match bits {
        Some(bits) if bits.is_multiple_of(8) && start.checked_add(bits / 8) == Some(end) => {
            Ok((name, TensorPlace { dtype, shape: entry.shape, start, bytes: bits / 8 }))
        }
        _ => Err(HeaderError::Size {
            name: shown(&name),
            shape: entry.shape.into_iter().take(16).collect(),
            dtype,
            got: i128::from(end) - i128::from(start),
        }),
    }
}

/// The first bytes of a file with these tensors, in this order: length and description, padded to 8 bytes.
///
/// # Errors
///
/// The safetensors crate's, when the lengths overflow.
pub(super) fn first_bytes<'a>(
    tensors: impl Iterator<Item = (&'a str, Dtype, &'a [usize])>,
) -> Result<Vec<u8>, SafeTensorError> {
    let mut start = 0;
    let described = tensors.map(|(name, dtype, shape)| {
        let end = start + shape.iter().product::<usize>() * dtype.bitsize() / 8;
        let info = TensorInfo { dtype, shape: shape.to_vec(), data_offsets: (start, end) };
        start = end;
        (name.to_owned(), info)
    });
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let mut json = serde_json::to_vec(&Metadata::new(Some(metadata), described.collect())?)?;
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut json);
    Ok(bytes)
}

#[cfg(test)]
mod tests;

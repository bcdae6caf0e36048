//! Embeddings in a safetensors file.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use safetensors::Dtype;
use talkoot_trainer::huggingface::{FloatType, Header, HeaderError, TensorPlace};

use super::{EmbeddingError, Ids, Layout, read_error, shape};

/// Name of the tensor with the rows.
pub(super) const EMBEDDINGS: &str = "embeddings";
/// Name of the tensor with their ids.
pub(super) const IDS: &str = "ids";
/// Names that are listed in an error.
const NAMES: usize = 8;

/// Finds the rows and their ids in a file.
pub(super) fn layout(path: &Path, file: &mut File) -> Result<Layout, EmbeddingError> {
    let header = header(path, file)?;
    let place = rows_of(path, &header)?;
    let float = FloatType::of(place.dtype).ok_or_else(|| EmbeddingError::Type {
        path: path.to_path_buf(),
        what: "the tensor of embeddings",
        got: format!("{:?}", place.dtype),
        must: "F32, F16 or BF16",
    })?;
    let [rows, width] = axes(place)[..] else {
        let must = "it must be (rows, width)".into();
        return Err(shape(path, "the tensor of embeddings", axes(place), must));
    };
    let ids = header.tensors.get(IDS).map(|ids| ids_of(path, ids, rows)).transpose()?;
    Ok(Layout { rows, width, float, start: place.start, ids })
}

fn header(path: &Path, file: &mut File) -> Result<Header, EmbeddingError> {
    let wrong = |source| EmbeddingError::Tensors { path: path.to_path_buf(), source };
    let bytes = file.metadata().map_err(read_error(path))?.len();
    let mut first = [0; 8];
    file.read_exact(&mut first).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => wrong(HeaderError::Cut { header: 8, file: bytes }),
        _ => read_error(path)(error),
    })?;
    let mut json = vec![0; Header::length(first, bytes).map_err(wrong)?];
    file.read_exact(&mut json).map_err(read_error(path))?;
    Header::parse(&json, bytes).map_err(wrong)
}

/// The tensor that is called so, or the only one that could be meant.
fn rows_of<'a>(path: &Path, header: &'a Header) -> Result<&'a TensorPlace, EmbeddingError> {
    if let Some(place) = header.tensors.get(EMBEDDINGS) {
        return Ok(place);
    }
    let mut matrices = header.tensors.iter().filter(|(name, place)| *name != IDS && place.shape.len() == 2);
    match (matrices.next(), matrices.next()) {
        (Some((_, place)), None) => Ok(place),
        _ => {
            let names: Vec<&str> = header.tensors.keys().map(String::as_str).take(NAMES).collect();
            let names = if names.is_empty() { "(none)".to_owned() } else { names.join(", ") };
            Err(EmbeddingError::WhichTensor {
                path: path.to_path_buf(),
                names: names.chars().take(400).collect(),
            })
        }
    }
}

fn ids_of(path: &Path, place: &TensorPlace, rows: u64) -> Result<Ids, EmbeddingError> {
    if place.dtype != Dtype::U8 {
        return Err(EmbeddingError::Type {
            path: path.to_path_buf(),
            what: "the tensor of ids",
            got: format!("{:?}", place.dtype),
            must: "U8",
        });
    }
    if axes(place) != [rows, 16] {
        return Err(shape(path, "the tensor of ids", axes(place), format!("it must be ({rows}, 16)")));
    }
    Ok(Ids::Inside { start: place.start })
}

fn axes(place: &TensorPlace) -> Vec<u64> {
    place.shape.iter().take(8).map(|&axis| axis as u64).collect()
}

/// The first bytes of a file with rows in f32 and, behind them, their ids.
pub(super) fn head(rows: u64, width: usize, with_ids: bool) -> Vec<u8> {
    let numbers = rows * width as u64 * 4;
    let mut described = serde_json::json!({
        EMBEDDINGS: {"dtype": "F32", "shape": [rows, width], "data_offsets": [0, numbers]},
    });
    if with_ids {
        described[IDS] = serde_json::json!({"dtype": "U8", "shape": [rows, 16], "data_offsets": [numbers, numbers + rows * 16]});
    }
    let mut json = described.to_string().into_bytes();
    json.resize(json.len().next_multiple_of(8), b' ');
    [(json.len() as u64).to_le_bytes().as_slice(), &json].concat()
}

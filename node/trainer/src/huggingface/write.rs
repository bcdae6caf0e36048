//! Writing a checkpoint tensor by tensor.
//!
//! Nothing larger than a piece of a tensor is ever held: a tensor comes from where it is stored, or from the generator
//! of fresh weights, and goes into the file at once.

use std::{cmp::Reverse, collections::BTreeMap, path::Path};

use super::{
    FloatType, FolderError, INDEX_FILE, PIECE_BYTES, ShardIndex, ShardSize, StoredTensor,
    carry::Carried,
    files::{Draft, NewFolder},
    header::first_bytes,
    names::shard_name,
    shards::cut,
};
use crate::state::{FreshValues, StateError};

/// A tensor to be written.
#[derive(Debug)]
pub(super) struct Output {
    /// Name on disk.
    pub(super) name: String,
    /// Length of every axis, outermost first.
    pub(super) shape: Vec<usize>,
    /// Number type in the new file.
    pub(super) dtype: FloatType,
    /// Where its numbers come from.
    pub(super) content: Content,
}

/// Where the numbers of a tensor come from.
#[derive(Debug)]
pub(super) enum Content {
    /// Stored tensors, one behind another along the first axis.
    Stored(Vec<StoredTensor>),
    /// Fresh weights.
    Fresh(FreshValues),
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The weights files and their bytes of tensors.
    pub files: Vec<(String, u64)>,
    /// The other files, `config.json` among them, last.
    pub others: Vec<String>,
    /// Number of tensors.
    pub tensors: usize,
    /// Number of parameters.
    pub parameters: u64,
}

impl Output {
    fn parameters(&self) -> u64 {
        self.shape.iter().map(|&axis| axis as u64).product()
    }

    fn bytes(&self) -> u64 {
        self.parameters() * self.dtype.bytes() as u64
    }

    /// Writes all numbers to `draft`.
    fn write(&self, draft: &mut Draft) -> Result<(), FolderError> {
        match &self.content {
            Content::Stored(parts) => {
                let mut first = 0;
                for part in parts {
                    self.write_stored(part, first, draft)?;
                    first += part.parameters() as usize;
                }
                Ok(())
            }
            Content::Fresh(values) => self.write_fresh(values.clone(), draft),
        }
    }

    /// Writes a stored tensor whose first number is number `first` of this one. Where the number type stays, so do the
    /// bytes.
    fn write_stored(
        &self,
        part: &StoredTensor,
        mut first: usize,
        draft: &mut Draft,
    ) -> Result<(), FolderError> {
        let same = part.float()? == self.dtype;
        let mut encoded = Vec::new();
        part.pieces(|bytes, values| {
            if same {
                return draft.write(bytes);
            }
            self.encode(values, first, &mut encoded)?;
            first += values.len();
            draft.write(&encoded)
        })
    }

    fn write_fresh(&self, mut fresh: FreshValues, draft: &mut Draft) -> Result<(), FolderError> {
        let (mut left, mut encoded) = (self.parameters() as usize, Vec::new());
        while left > 0 {
            let count = left.min(PIECE_BYTES / size_of::<f32>());
            let values: Vec<f32> = fresh.by_ref().take(count).collect();
            self.encode(&values, self.parameters() as usize - left, &mut encoded)?;
            draft.write(&encoded)?;
            left -= count;
        }
        Ok(())
    }

    fn encode(&self, values: &[f32], first: usize, encoded: &mut Vec<u8>) -> Result<(), FolderError> {
        encoded.clear();
        self.dtype.encode(values, encoded).map_err(|at| FolderError::Overflow {
            name: self.name.clone(),
            index: first + at,
            value: values[at],
            dtype: self.dtype,
        })
    }
}

/// Writes weights, index, carried files, and `config` as `config.json`, in this order. `told` hears of every weights
/// file when it is finished.
pub(super) fn write_checkpoint(
    folder: &Path,
    mut outputs: Vec<Output>,
    size: ShardSize,
    carried: &[Carried],
    config: &[u8],
    told: &mut dyn FnMut(&str, u64),
) -> Result<Written, FolderError> {
    let mut new = NewFolder::claim(folder)?;
    // wide numbers first, so that all stay aligned; by name within a type. One type alone: the canonical order.
    outputs.sort_by(|a, b| {
        Reverse(a.dtype.dtype()).cmp(&Reverse(b.dtype.dtype())).then_with(|| a.name.cmp(&b.name))
    });
    let runs = cut(&outputs.iter().map(Output::bytes).collect::<Vec<_>>(), size);
    let mut written = Written {
        files: Vec::new(),
        others: Vec::new(),
        tensors: outputs.len(),
        parameters: outputs.iter().map(Output::parameters).sum(),
    };
    let mut map = BTreeMap::new();
    for (at, run) in runs.iter().enumerate() {
        let name = shard_name(at, runs.len());
        let tensors = &outputs[run.clone()];
        new.add(&name, |draft| write_shard(draft, folder, tensors))?;
        let bytes = tensors.iter().map(Output::bytes).sum();
        told(&name, bytes);
        map.extend(tensors.iter().map(|output| (output.name.clone(), name.clone())));
        written.files.push((name, bytes));
    }
    for file in carried {
        new.add(&file.name, |draft| file.write(draft))?;
        written.others.push(file.name.clone());
    }
    if runs.len() > 1 {
        let index = ShardIndex::new(map, outputs.iter().map(Output::bytes).sum());
        let json = serde_json::to_vec_pretty(&index)
            .map_err(|source| FolderError::Json { path: folder.join(INDEX_FILE), source })?;
        new.add(INDEX_FILE, |draft| draft.write(&json))?;
        written.others.push(INDEX_FILE.to_owned());
    }
    new.finish(config)?;
    written.others.push(super::CONFIG_FILE.to_owned());
    Ok(written)
}

fn write_shard(draft: &mut Draft, folder: &Path, tensors: &[Output]) -> Result<(), FolderError> {
    let described =
        tensors.iter().map(|output| (output.name.as_str(), output.dtype.dtype(), output.shape.as_slice()));
    let first = first_bytes(described).map_err(|source| FolderError::Weights {
        path: folder.to_owned(),
        source: StateError::NotSafetensors(source),
    })?;
    draft.write(&first)?;
    tensors.iter().try_for_each(|output| output.write(draft))
}

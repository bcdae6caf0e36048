//! The same model in another number type, in other files.

use std::path::Path;

use super::{
    Checkpoint, FloatType, FolderError, ShardSize, Written,
    carry::companions,
    config::{read_model, with_dtype},
    parameters::model_tensors,
    write::{Content, Output, write_checkpoint},
};

/// What a conversion changes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Conversion {
    /// Number type of all tensors; each keeps its own where this is `None`.
    pub dtype: Option<FloatType>,
    /// Most bytes of tensors in a file.
    pub shard_size: ShardSize,
}

impl Conversion {
    /// Reads the checkpoint in `from` and writes it to `to`, which must hold none.
    ///
    /// Names become those on disk, a head that is left out though it is not tied is written, the files beside the
    /// weights go along, and `config.json` changes in its number type alone. Tensors that keep their type keep their
    /// bytes; others are rounded to nearest, ties to even. All numbers are read, so damaged ones are found. `told`
    /// hears the name of every weights file and its bytes of tensors when it is finished.
    ///
    /// # Errors
    ///
    /// [`FolderError`] names the file or tensor that is wrong; what was written of `to` goes away again.
    pub fn run(
        &self,
        from: &Path,
        to: &Path,
        told: &mut dyn FnMut(&str, u64),
    ) -> Result<Written, FolderError> {
        let (config, mut json) = read_model(from)?;
        if let Some(dtype) = self.dtype {
            json = with_dtype(from, &json, dtype)?;
        }
        let mut outputs = Vec::new();
        for (name, tensor) in model_tensors(&Checkpoint::open(from)?, &config)? {
            let dtype = self.dtype.map_or_else(|| tensor.float(), Ok)?;
            let shape = tensor.shape.clone();
            outputs.push(Output { name, shape, dtype, content: Content::Stored(vec![tensor]) });
        }
        write_checkpoint(to, outputs, self.shard_size, &companions(from)?, &json, told)
    }
}

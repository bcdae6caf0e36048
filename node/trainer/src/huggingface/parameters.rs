//! Which stored tensor is which parameter of a model.

use std::collections::BTreeMap;

use super::{
    Checkpoint, FloatType, FolderError, StoredTensor,
    names::{EMBEDDING, HEAD, shown},
    write::{Content, Output},
};
use crate::{config::ModelConfig, state::StateError};

/// The parameters of a model in canonical order, every one with the right shape and a number type that is read.
///
/// # Errors
///
/// [`FolderError`] names the tensor that is missing, surplus or misshapen.
pub(super) fn model_tensors(
    checkpoint: &Checkpoint,
    config: &ModelConfig,
) -> Result<BTreeMap<String, StoredTensor>, FolderError> {
    let mut stock = Stock::of(checkpoint);
    stock.settle_head(config.text.tie_word_embeddings)?;
    let shapes = config.parameter_shapes().into_iter();
    let take = |(name, shape): (String, Vec<usize>)| Ok((name.clone(), stock.take(&name, &shape)?));
    let tensors = shapes.map(take).collect::<Result<_, FolderError>>()?;
    stock.finish()?;
    Ok(tensors)
}

/// The parameters of `config` alone, whatever else the checkpoint holds.
///
/// # Errors
///
/// [`FolderError`] names the tensor that is missing or misshapen.
pub(super) fn some_tensors(
    checkpoint: &Checkpoint,
    config: &ModelConfig,
) -> Result<BTreeMap<String, StoredTensor>, FolderError> {
    let mut stock = Stock::of(checkpoint);
    let shapes = config.parameter_shapes().into_iter();
    shapes.map(|(name, shape)| Ok((name.clone(), stock.take(&name, &shape)?))).collect()
}

/// The tensors of a checkpoint that nobody has taken yet.
#[derive(Debug)]
pub(super) struct Stock<'a> {
    checkpoint: &'a Checkpoint,
    left: BTreeMap<&'a str, &'a StoredTensor>,
}

impl<'a> Stock<'a> {
    pub(super) fn of(checkpoint: &'a Checkpoint) -> Self {
        let left = checkpoint.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        Self { checkpoint, left }
    }

    /// Takes a tensor that has to be there, with this shape and a number type that is read.
    pub(super) fn take(&mut self, name: &str, shape: &[usize]) -> Result<StoredTensor, FolderError> {
        let Some(tensor) = self.left.remove(name) else {
            let (path, name) = (self.checkpoint.path.clone(), name.to_owned());
            return Err(FolderError::Weights { path, source: StateError::Missing { name } });
        };
        tensor.check(shape)?;
        Ok(tensor.clone())
    }

    /// Takes tensors that keep name and shape, to be written in one number type.
    pub(super) fn take_all(
        &mut self,
        shapes: impl Iterator<Item = (String, Vec<usize>)>,
        dtype: FloatType,
    ) -> Result<Vec<Output>, FolderError> {
        shapes
            .map(|(name, shape)| {
                let content = Content::Stored(vec![self.take(&name, &shape)?]);
                Ok(Output { name, shape, dtype, content })
            })
            .collect()
    }

    /// Leaves out what is known to be of no use.
    pub(super) fn discard(&mut self, useless: impl Fn(&str) -> bool) {
        self.left.retain(|name, _| !useless(name));
    }

    /// Refuses what nobody has taken.
    pub(super) fn finish(self) -> Result<(), FolderError> {
        match self.left.into_iter().next() {
            None => Ok(()),
            Some((name, tensor)) => {
                let source = StateError::Surplus { name: shown(name) };
                Err(FolderError::Weights { path: tensor.path().to_owned(), source })
            }
        }
    }

    /// A tied head is not kept twice; an untied one that is missing is a copy of the embedding.
    pub(super) fn settle_head(&mut self, tied: bool) -> Result<(), FolderError> {
        let embedding = self.left.get(EMBEDDING).copied();
        match (tied, self.left.get(HEAD).copied(), embedding) {
            (true, Some(head), Some(embedding)) => {
                if !head.same_values(embedding)? {
                    return Err(FolderError::TiedButDifferent);
                }
                self.left.remove(HEAD);
            }
            (false, None, Some(embedding)) => drop(self.left.insert(HEAD, embedding)),
            _ => {}
        }
        Ok(())
    }
}

//! A merger that was trained before.

use std::collections::BTreeMap;

use super::{Output, shapes_of};
use crate::{
    config::ModelConfig,
    huggingface::{Checkpoint, FloatType, FolderError, names::shown, parameters::Stock},
    modules::Module,
};

/// What the merger's parameters are called: in LLaVA's adapter files, there without the class, and by us.
const PREFIXES: [&str; 3] = ["model.mm_projector.", "mm_projector.", "visual.merger."];

/// Every parameter of the merger, and where it comes from.
pub(super) fn outputs(
    checkpoint: &Checkpoint,
    config: &ModelConfig,
    dtype: FloatType,
) -> Result<Vec<Output>, FolderError> {
    let renamed = renamed(checkpoint)?;
    let mut stock = Stock::of(&renamed);
    let outputs = stock.take_all(shapes_of(config, Module::Merger), dtype)?;
    stock.finish()?;
    Ok(outputs)
}

/// The same tensors under our names. What is no merger's keeps its name, to be refused by it.
fn renamed(checkpoint: &Checkpoint) -> Result<Checkpoint, FolderError> {
    let mut tensors = BTreeMap::new();
    for (name, tensor) in &checkpoint.tensors {
        let rest = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix));
        let name = rest.map_or_else(|| name.clone(), |rest| format!("visual.merger.{rest}"));
        if tensors.contains_key(&name) {
            return Err(FolderError::Twice { name: shown(&name), path: tensor.path().to_owned() });
        }
        tensors.insert(name, tensor.clone());
    }
    Ok(Checkpoint { path: checkpoint.path.clone(), tensors, files: checkpoint.files.clone() })
}

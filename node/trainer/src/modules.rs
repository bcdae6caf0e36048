//! Which parts of the model a stage trains.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::ModelConfig;

/// A part of the model that a stage trains or leaves frozen, as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Module {
    /// The vision tower, its class token included.
    Vision,
    /// The 2x2 merger between tower and language model.
    Merger,
    /// The language model with embedding and head.
    Language,
}

impl Module {
    /// Every module, in canonical order.
    pub const ALL: [Self; 3] = [Self::Vision, Self::Merger, Self::Language];

    /// The module that a parameter, by its name on disk, belongs to.
    pub fn of(parameter: &str) -> Self {
        match parameter {
            name if name.starts_with("visual.merger.") => Self::Merger,
            name if name.starts_with("visual.") => Self::Vision,
            _ => Self::Language,
        }
    }
}

impl fmt::Display for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vision => "vision",
            Self::Merger => "merger",
            Self::Language => "language",
        })
    }
}

/// Names of the parameters that belong to `modules`, in canonical order, each once.
pub fn trainable(config: &ModelConfig, modules: &[Module]) -> Vec<String> {
    config.parameter_shapes().into_keys().filter(|name| modules.contains(&Module::of(name))).collect()
}

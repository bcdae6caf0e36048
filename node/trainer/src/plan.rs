//! What a training step needs, before anybody lends a machine to it: memory item by item, operations, and the cheapest
//! setting that fits.
//!
//! ```text
//! config, trained modules, load --> rehearsal: the trainer's own code on a device that only counts
//!                                      |  takes and gives of every buffer, in order; operations
//!                                      v
//! setting, processor --> bytes of each buffer --> shelf, played through --> Need: items on device and host
//! setting, GPU --------> Task::play on talkoot-cuda's own code, in a slab without numbers --^
//! all settings ------------------------------------------------------> Answer: what fits, cheapest first
//! ```
//! There is no second description of the model here that could differ from the first. Tests hold the processor's plan to
//! what training really allocates, and a GPU's to emulated kernels, to the byte. **What is said of GPUs is computed and was not yet
//! run on one.**

mod ahead;
mod answer;
mod dry;
mod load;
mod memory;
mod need;
mod page;
mod rehearsal;
mod rooms;
mod setting;

pub use ahead::Ahead;
pub use answer::{Answer, Budget, Choice, OnGpu, Rates, Wishes, answer};
pub use load::{Load, MAX_PACKS, MAX_TOKENS};
pub use need::{Item, Need, Rehearsed, Task};
pub use page::page;
pub use rehearsal::Mark;
pub use rooms::{GPU_LOGITS, SLICE_WORDS, SLOTS, gpu_logit_rows};
pub use setting::{Class, Device, How, OnHost, ParseOnHostError, Setting, Values, usual_keep};

use crate::{
    config::{ConfigError, ModelConfig},
    contribution::{LayoutError, SettingsError},
    measure::PRESETS,
    model::ModelError,
    presets::{released_4b, released_8b},
};

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The model cannot be built.
    #[error("the model's config is wrong")]
    Config(#[from] ConfigError),
    /// The codec's settings are out of bounds.
    #[error("the codec's settings are out of bounds")]
    Codec(#[from] SettingsError),
    /// The trained parameters cannot be laid out.
    #[error("the trained parameters cannot be laid out")]
    Layout(#[from] LayoutError),
    /// A number of the load is out of its bounds.
    #[error("{what}: {got} is not within {bounds}")]
    Load {
        /// Which number.
        what: &'static str,
        /// What was given.
        got: String,
        /// What is allowed.
        bounds: &'static str,
    },
    /// No module is trained.
    #[error("no module is trained: name at least one of vision, merger, language")]
    NothingTrained,
    /// The packs hold nothing to learn.
    #[error("the packs hold no token to learn: make them longer, or their pictures' share smaller")]
    NothingLearned,
    /// The model's code failed.
    #[error("the rehearsal of a step failed")]
    Model(#[from] ModelError),
    /// No setting is as was wished.
    #[error("no setting is like that: {0}")]
    Wishes(&'static str),
}

/// Names of the models that can be planned for without a file.
pub const MODELS: [&str; 7] = ["demo", "mid", "wide", "small", "1b", "4b", "8b"];

/// The model of a name: a preset of the benchmarks, or a released one.
pub fn model(name: &str) -> Option<ModelConfig> {
    match name {
        "4b" => Some(released_4b()),
        "8b" => Some(released_8b()),
        _ => PRESETS.iter().find(|preset| preset.name == name).map(|preset| preset.config()),
    }
}

#[cfg(test)]
mod tests;

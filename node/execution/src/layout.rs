//! From the manifest's words to the trainer's.

use talkoot_protocol::manifest::{Contribution, ModuleGroup, Stage};
use talkoot_trainer::{
    config::ModelConfig,
    contribution::{CodecSettings, Layout, LayoutError},
    modules::Module,
    state::State,
};

/// The modules that a stage trains.
pub fn modules_of(stage: &Stage) -> Vec<Module> {
    stage
        .trainable
        .iter()
        .map(|group| match group {
            ModuleGroup::Vision => Module::Vision,
            ModuleGroup::Merger => Module::Merger,
            ModuleGroup::Language => Module::Language,
        })
        .collect()
}

/// The codec's settings as the trainer takes them.
pub fn codec_settings(terms: &Contribution) -> CodecSettings {
    CodecSettings {
        chunk: terms.chunk,
        k: terms.k,
        // The manifest allows 1, 2, 4 and 8 alone.
        bits: u8::try_from(terms.bits).unwrap_or(u8::MAX),
        error_feedback: terms.error_feedback.as_f32(),
    }
}

/// Names and lengths of the tensors that a stage trains, in the order of the codec.
///
/// # Errors
///
/// [`LayoutError`] when the model has more tensors or longer names than the codec allows.
pub fn layout_of(config: &ModelConfig, stage: &Stage) -> Result<Layout, LayoutError> {
    Layout::trained(config, &modules_of(stage))
}

/// The values of the layout's tensors in `state`, in order; the name of the first that is missing otherwise.
pub(crate) fn values_of<'a>(state: &'a State, layout: &Layout) -> Result<Vec<&'a [f32]>, String> {
    layout
        .tensors()
        .iter()
        .map(|(name, _)| {
            state.tensors.get(name).map(|tensor| tensor.values.as_slice()).ok_or_else(|| name.clone())
        })
        .collect()
}

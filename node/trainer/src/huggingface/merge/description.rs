//! What the merged model's `config.json` says, from those of its parts.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::Merge;
use crate::{
    config::{ModelConfig, TextConfig, VisionConfig},
    huggingface::{FolderError, config::read_json, files::read_bounded},
};

/// Longest `tokenizer.json` that is read, in bytes; Qwen3's has 11 million.
const MAX_TOKENIZER_BYTES: u64 = 256 << 20;

/// `config.json` of a vision tower in the layout of `MLCDVisionModel`; defaults are those of that class.
#[derive(Deserialize)]
struct RiceConfig {
    num_hidden_layers: usize,
    hidden_size: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    patch_size: usize,
    #[serde(default = "three")]
    num_channels: usize,
    #[serde(default = "layer_norm_eps")]
    layer_norm_eps: f64,
    #[serde(default = "gelu")]
    hidden_act: String,
}

fn three() -> usize {
    3
}

fn layer_norm_eps() -> f64 {
    1e-5
}

fn gelu() -> String {
    "gelu".to_owned()
}

/// Ids of the tokens around a picture.
struct SpecialIds {
    image: u32,
    video: u32,
    start: u32,
    end: u32,
}

/// Those of the released models.
const QWEN: SpecialIds = SpecialIds { image: 151_655, video: 151_656, start: 151_652, end: 151_653 };

/// The merged model, and whether the language model alone had its head tied.
pub(super) fn read(merge: &Merge) -> Result<(ModelConfig, bool), FolderError> {
    let (rice, _) = read_json::<RiceConfig>(&merge.vision)?;
    let (mut text, _) = read_json::<TextConfig>(&merge.language)?;
    let ids = special_ids(&merge.language)?;
    let tied = std::mem::replace(&mut text.tie_word_embeddings, false);
    text.model_type = "LLaVAOneVision1_5_text".to_owned();
    let config = ModelConfig {
        architectures: vec!["LLaVAOneVision1_5_ForConditionalGeneration".to_owned()],
        model_type: "llavaonevision1_5".to_owned(),
        image_token_id: ids.image,
        video_token_id: Some(ids.video),
        vision_start_token_id: Some(ids.start),
        vision_end_token_id: Some(ids.end),
        torch_dtype: merge.dtype.torch_name().to_owned(),
        vision: vision(rice, text.hidden_size),
        text,
    };
    config.validate()?;
    Ok((config, tied))
}

fn vision(rice: RiceConfig, text_hidden_size: usize) -> VisionConfig {
    VisionConfig {
        model_type: "rice_vit".to_owned(),
        depth: rice.num_hidden_layers,
        hidden_size: rice.hidden_size,
        embed_dim: Some(rice.hidden_size),
        num_heads: rice.num_attention_heads,
        intermediate_size: rice.intermediate_size,
        patch_size: rice.patch_size,
        spatial_merge_size: 2,
        temporal_patch_size: 1,
        in_channels: rice.num_channels,
        layer_norm_eps: rice.layer_norm_eps,
        text_hidden_size,
        hidden_act: rice.hidden_act,
        // deviation of a fresh merger, whatever the tower began with
        initializer_range: 0.02,
    }
}

/// The ids in the tokenizer of the language model; the released models' where it doesn't say.
fn special_ids(folder: &Path) -> Result<SpecialIds, FolderError> {
    #[derive(Deserialize)]
    struct Tokenizer {
        #[serde(default)]
        added_tokens: Vec<Added>,
    }
    #[derive(Deserialize)]
    struct Added {
        id: u32,
        content: String,
    }
    let path = folder.join("tokenizer.json");
    if !path.exists() {
        return Ok(QWEN);
    }
    let json = read_bounded(&path, MAX_TOKENIZER_BYTES)?;
    let tokenizer: Tokenizer =
        serde_json::from_slice(&json).map_err(|source| FolderError::Json { path, source })?;
    let id = |content: &str, otherwise: u32| {
        tokenizer
            .added_tokens
            .iter()
            .find(|token| token.content == content)
            .map_or(otherwise, |token| token.id)
    };
    Ok(SpecialIds {
        image: id("<|image_pad|>", QWEN.image),
        video: id("<|video_pad|>", QWEN.video),
        start: id("<|vision_start|>", QWEN.start),
        end: id("<|vision_end|>", QWEN.end),
    })
}

/// The description as it is written: with the two top-level keys that the published class reads besides ours.
pub(super) fn to_json(config: &ModelConfig) -> Value {
    let mut json = serde_json::json!(config);
    json["vocab_size"] = config.text.vocab_size.into();
    json["tie_word_embeddings"] = config.text.tie_word_embeddings.into();
    json
}

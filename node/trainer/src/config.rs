//! The shape of a model: what stands in a Hugging Face `config.json`.
//!
//! Field names on disk are those of the released checkpoints (`vision_config`, `text_config`, ...). Keys that we don't
//! use are tolerated, because `save_pretrained` writes many; values that would describe another architecture (another
//! activation, a rope scaling, biases in the decoder) are refused, because ignoring them would train the wrong model.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

mod shapes;
mod validate;

pub use validate::ConfigError;

/// A whole model: vision tower, merger and language model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Class names that `transformers` reads.
    #[serde(default = "defaults::architectures")]
    pub architectures: Vec<String>,
    /// `llavaonevision1_5`.
    #[serde(default = "defaults::model_type")]
    pub model_type: String,
    /// Token id whose embedding is replaced by rows of the merger, in order.
    pub image_token_id: u32,
    /// Token id of video rows; carried along, not trained (the training stack refuses videos).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video_token_id: Option<u32>,
    /// Token id in front of a picture's rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vision_start_token_id: Option<u32>,
    /// Token id behind a picture's rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vision_end_token_id: Option<u32>,
    /// Number type of the stored weights, for `transformers`.
    #[serde(default = "defaults::torch_dtype")]
    pub torch_dtype: String,
    /// The vision tower and the merger.
    #[serde(rename = "vision_config")]
    pub vision: VisionConfig,
    /// The language model.
    #[serde(rename = "text_config")]
    pub text: TextConfig,
}

/// The RICE vision tower and the 2x2 merger behind it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VisionConfig {
    /// `rice_vit`.
    #[serde(default = "defaults::vision_type")]
    pub model_type: String,
    /// Number of blocks.
    pub depth: usize,
    /// Width of a patch row, D.
    pub hidden_size: usize,
    /// The same width under its other name; must agree where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embed_dim: Option<usize>,
    /// Attention heads.
    pub num_heads: usize,
    /// Width of the hidden layer of a block's MLP.
    pub intermediate_size: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Patches per side that the merger joins into one token.
    pub spatial_merge_size: usize,
    /// Frames in a patch; only 1 is meant here.
    #[serde(default = "defaults::one")]
    pub temporal_patch_size: usize,
    /// Colour channels; only 3 are meant here.
    #[serde(default = "defaults::three")]
    pub in_channels: usize,
    /// Epsilon of `pre_layernorm` and of the merger's norm; the blocks' own norms use a fixed 1e-5.
    #[serde(default = "defaults::layer_norm_eps")]
    pub layer_norm_eps: f64,
    /// Width of the merger's output; must be the language model's width.
    pub text_hidden_size: usize,
    /// `gelu`, the exact one.
    #[serde(default = "defaults::gelu")]
    pub hidden_act: String,
    /// Standard deviation of fresh weights.
    #[serde(default = "defaults::initializer_range")]
    pub initializer_range: f64,
}

/// The Qwen3 decoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TextConfig {
    /// `LLaVAOneVision1_5_text`.
    #[serde(default = "defaults::text_type")]
    pub model_type: String,
    /// Width of the residual stream, H.
    pub hidden_size: usize,
    /// Width of the hidden layer of SwiGLU.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; divides the query heads.
    pub num_key_value_heads: usize,
    /// Width of a head; need not be `hidden_size / num_attention_heads`.
    pub head_dim: usize,
    /// Epsilon of every RMSNorm.
    #[serde(default = "defaults::rms_norm_eps")]
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Rows of the embedding and of the head.
    pub vocab_size: usize,
    /// Whether the head shares the embedding's weights; absent means no. The top-level flag is not consulted.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// Longest sample that the model is meant for, in tokens.
    #[serde(default = "defaults::max_position_embeddings")]
    pub max_position_embeddings: usize,
    /// `silu`.
    #[serde(default = "defaults::silu")]
    pub hidden_act: String,
    /// Standard deviation of fresh weights.
    #[serde(default = "defaults::initializer_range")]
    pub initializer_range: f64,
    /// Biases on the attention's projections; must be false.
    #[serde(default)]
    pub attention_bias: bool,
    /// Other rotary schemes; must be null.
    #[serde(default)]
    pub rope_scaling: Option<serde_json::Value>,
    /// Sliding windows; must be false.
    #[serde(default)]
    pub use_sliding_window: bool,
}

impl VisionConfig {
    /// Width of one head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_heads
    }

    /// Numbers in one patch row: channels x side x side.
    pub fn patch_values(&self) -> usize {
        self.in_channels * self.patch_size * self.patch_size
    }

    /// Pixels per side that become one token: pictures are resized to multiples of it.
    pub fn token_pixels(&self) -> usize {
        self.patch_size * self.spatial_merge_size
    }

    /// Patches that become one token.
    pub fn patches_per_token(&self) -> usize {
        self.spatial_merge_size * self.spatial_merge_size
    }
}

impl ModelConfig {
    /// Name (as on disk) and shape of every parameter, in canonical order, which is byte order of the names.
    ///
    /// The head is absent where it is tied to the embedding.
    pub fn parameter_shapes(&self) -> BTreeMap<String, Vec<usize>> {
        shapes::parameter_shapes(self)
    }

    /// Number of parameters of the whole model.
    pub fn parameter_count(&self) -> usize {
        self.parameter_shapes().values().map(|shape| shape.iter().product::<usize>()).sum()
    }
}

mod defaults {
    pub(super) fn architectures() -> Vec<String> {
        vec!["LLaVAOneVision1_5_ForConditionalGeneration".to_owned()]
    }
    pub(super) fn model_type() -> String {
        "llavaonevision1_5".to_owned()
    }
    pub(super) fn vision_type() -> String {
        "rice_vit".to_owned()
    }
    pub(super) fn text_type() -> String {
        "LLaVAOneVision1_5_text".to_owned()
    }
    pub(super) fn torch_dtype() -> String {
        "float32".to_owned()
    }
    pub(super) fn gelu() -> String {
        "gelu".to_owned()
    }
    pub(super) fn silu() -> String {
        "silu".to_owned()
    }
    pub(super) fn one() -> usize {
        1
    }
    pub(super) fn three() -> usize {
        3
    }
    pub(super) fn layer_norm_eps() -> f64 {
        1e-5
    }
    pub(super) fn rms_norm_eps() -> f64 {
        1e-6
    }
    pub(super) fn initializer_range() -> f64 {
        0.02
    }
    pub(super) fn max_position_embeddings() -> usize {
        32_768
    }
}

//! Ready-made small models.

use crate::config::{ModelConfig, TextConfig, VisionConfig};

/// The demo's model: just under a million parameters (978,156 with 512 token ids), small enough that three members train it on two cores in
/// minutes, and complete: native resolution, class tokens, 2-D rotary, merger, QK-norm, grouped queries.
///
/// `image_token_id` is set to the last id; take the special ids from the tokenizer.
pub fn demo_model(vocab: u32) -> ModelConfig {
    let vision = VisionConfig {
        model_type: "rice_vit".to_owned(),
        depth: 2,
        hidden_size: 96,
        embed_dim: Some(96),
        num_heads: 4,
        intermediate_size: 192,
        patch_size: 14,
        spatial_merge_size: 2,
        temporal_patch_size: 1,
        in_channels: 3,
        layer_norm_eps: 1e-5,
        text_hidden_size: 128,
        hidden_act: "gelu".to_owned(),
        initializer_range: 0.05,
    };
    let text = TextConfig {
        model_type: "LLaVAOneVision1_5_text".to_owned(),
        hidden_size: 128,
        intermediate_size: 256,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 32,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        vocab_size: vocab as usize,
        tie_word_embeddings: false,
        max_position_embeddings: 4096,
        hidden_act: "silu".to_owned(),
        initializer_range: 0.05,
        attention_bias: false,
        rope_scaling: None,
        use_sliding_window: false,
    };
    ModelConfig {
        architectures: vec!["LLaVAOneVision1_5_ForConditionalGeneration".to_owned()],
        model_type: "llavaonevision1_5".to_owned(),
        image_token_id: vocab.saturating_sub(1),
        video_token_id: None,
        vision_start_token_id: None,
        vision_end_token_id: None,
        torch_dtype: "float32".to_owned(),
        vision,
        text,
    }
}

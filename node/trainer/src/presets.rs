//! Ready-made models by their sizes.

use crate::config::{ModelConfig, TextConfig, VisionConfig};

/// Sizes that make a model of this architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Depth, width, heads and inner width of the vision tower.
    pub vision: [usize; 4],
    /// Layers, width, query heads, key heads, head width and inner width of the decoder.
    pub text: [usize; 6],
    /// Token ids.
    pub vocabulary: usize,
}

/// Just under a million parameters (978,156 with 512 token ids), small enough that three members train it on two cores
/// in minutes, and complete: native resolution, class tokens, 2-D rotary, merger, QK-norm, grouped queries.
///
/// `image_token_id` is set to the last id; take the special ids from the tokenizer.
pub fn demo_model(vocab: u32) -> ModelConfig {
    let shape = Shape { vision: [2, 96, 4, 192], text: [3, 128, 4, 2, 32, 256], vocabulary: vocab as usize };
    let mut config = model_of(shape);
    config.image_token_id = vocab.saturating_sub(1);
    config.text.rope_theta = 10_000.0;
    config.text.max_position_embeddings = 4096;
    config.vision.initializer_range = 0.05;
    config.text.initializer_range = 0.05;
    config
}

/// A model of these sizes with the recipe's other settings and image token 7.
pub fn model_of(shape: Shape) -> ModelConfig {
    let [depth, hidden_size, num_heads, intermediate_size] = shape.vision;
    let vision = VisionConfig {
        model_type: "rice_vit".to_owned(),
        depth,
        hidden_size,
        embed_dim: Some(hidden_size),
        num_heads,
        intermediate_size,
        patch_size: 14,
        spatial_merge_size: 2,
        temporal_patch_size: 1,
        in_channels: 3,
        layer_norm_eps: 1e-5,
        text_hidden_size: shape.text[1],
        hidden_act: "gelu".to_owned(),
        initializer_range: 0.02,
    };
    let [num_hidden_layers, hidden_size, num_attention_heads, num_key_value_heads, head_dim, inner] =
        shape.text;
    let text = TextConfig {
        model_type: "LLaVAOneVision1_5_text".to_owned(),
        hidden_size,
        intermediate_size: inner,
        num_hidden_layers,
        num_attention_heads,
        num_key_value_heads,
        head_dim,
        rms_norm_eps: 1e-6,
        rope_theta: 1_000_000.0,
        vocab_size: shape.vocabulary,
        tie_word_embeddings: false,
        max_position_embeddings: 32_768,
        hidden_act: "silu".to_owned(),
        initializer_range: 0.02,
        attention_bias: false,
        rope_scaling: None,
        use_sliding_window: false,
    };
    ModelConfig {
        architectures: vec!["LLaVAOneVision1_5_ForConditionalGeneration".to_owned()],
        model_type: "llavaonevision1_5".to_owned(),
        image_token_id: 7,
        video_token_id: None,
        vision_start_token_id: None,
        vision_end_token_id: None,
        torch_dtype: "float32".to_owned(),
        vision,
        text,
    }
}

/// The released model with 4,741,610,528 parameters: RICE-ViT and Qwen3-4B.
pub fn released_4b() -> ModelConfig {
    let mut config = released([36, 2_560, 32, 8, 128, 9_728]);
    config.text.rope_theta = 5_000_000.0;
    config.text.max_position_embeddings = 262_144;
    config
}

/// The released model with 8,527,214,624 parameters: RICE-ViT and Qwen3-8B.
pub fn released_8b() -> ModelConfig {
    released([36, 4_096, 32, 8, 128, 12_288])
}

/// The tower and the token ids that both released models have.
fn released(text: [usize; 6]) -> ModelConfig {
    let mut config = model_of(Shape { vision: [24, 1_024, 16, 4_096], text, vocabulary: 151_936 });
    config.image_token_id = 151_655;
    config.video_token_id = Some(151_656);
    config.vision_start_token_id = Some(151_652);
    config.vision_end_token_id = Some(151_653);
    config
}

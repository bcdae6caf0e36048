//! The vision tower, from the names of `MLCDVisionModel` to ours.

use super::{Content, Output, shapes_of};
use crate::{
    config::ModelConfig,
    huggingface::{Checkpoint, FloatType, FolderError, parameters::Stock},
    modules::Module,
};

/// Every parameter of the tower, and where it comes from.
pub(super) fn outputs(
    checkpoint: &Checkpoint,
    config: &ModelConfig,
    dtype: FloatType,
) -> Result<Vec<Output>, FolderError> {
    let mut stock = Stock::of(checkpoint);
    stock.discard(is_dropped);
    let mut outputs = Vec::new();
    for (name, shape) in shapes_of(config, Module::Vision) {
        let sources = sources(&name);
        let mut part = shape.clone();
        part[0] /= sources.len();
        let parts = sources.iter().map(|source| stock.take(source, &part)).collect::<Result<_, _>>()?;
        outputs.push(Output { name, shape, dtype, content: Content::Stored(parts) });
    }
    stock.finish()?;
    Ok(outputs)
}

/// The tower ends before its last norm, and frequencies are computed.
fn is_dropped(name: &str) -> bool {
    name.starts_with("vision_model.post_layernorm.") || name.ends_with(".inv_freq")
}

/// Names in the source of the tensors that, one behind another, are our parameter `name`.
fn sources(name: &str) -> Vec<String> {
    let name = name.strip_prefix("visual.").unwrap_or(name);
    let Some((block, rest)) = name.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) else {
        let source = match name {
            "class_embedding" => "embeddings.class_embedding".to_owned(),
            "patch_embed.proj.weight" => "embeddings.patch_embedding.weight".to_owned(),
            // misspelt there, and in every checkpoint since CLIP
            _ => name.replacen("pre_layernorm", "pre_layrnorm", 1),
        };
        return vec![format!("vision_model.{source}")];
    };
    let source = |rest: String| format!("vision_model.encoder.layers.{block}.{rest}");
    if let Some(kind) = rest.strip_prefix("attn.qkv.") {
        return ["q", "k", "v"].map(|part| source(format!("self_attn.{part}_proj.{kind}"))).into();
    }
    let renamed = rest.replacen("norm1.", "layer_norm1.", 1).replacen("norm2.", "layer_norm2.", 1).replacen(
        "attn.proj.",
        "self_attn.out_proj.",
        1,
    );
    vec![source(renamed)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_published_merge() {
        for (name, source) in [
            ("visual.class_embedding", "vision_model.embeddings.class_embedding"),
            ("visual.class_pos_emb", "vision_model.class_pos_emb"),
            ("visual.patch_embed.proj.weight", "vision_model.embeddings.patch_embedding.weight"),
            ("visual.pre_layernorm.bias", "vision_model.pre_layrnorm.bias"),
            ("visual.blocks.11.norm1.weight", "vision_model.encoder.layers.11.layer_norm1.weight"),
            ("visual.blocks.0.norm2.bias", "vision_model.encoder.layers.0.layer_norm2.bias"),
            ("visual.blocks.3.attn.proj.bias", "vision_model.encoder.layers.3.self_attn.out_proj.bias"),
            ("visual.blocks.3.mlp.fc2.weight", "vision_model.encoder.layers.3.mlp.fc2.weight"),
        ] {
            assert_eq!(sources(name), [source]);
        }
        assert_eq!(
            sources("visual.blocks.7.attn.qkv.bias"),
            ["q", "k", "v"].map(|part| format!("vision_model.encoder.layers.7.self_attn.{part}_proj.bias"))
        );
        assert!(is_dropped("vision_model.post_layernorm.weight"));
        assert!(is_dropped("vision_model.vision_rotary_embedding.inv_freq"));
        assert!(!is_dropped("vision_model.pre_layrnorm.weight"));
    }
}

//! Names and shapes of all parameters, as they stand on disk.

use std::collections::BTreeMap;

use super::ModelConfig;

pub(super) fn parameter_shapes(config: &ModelConfig) -> BTreeMap<String, Vec<usize>> {
    let mut shapes = BTreeMap::new();
    vision(config, &mut shapes);
    merger(config, &mut shapes);
    language(config, &mut shapes);
    shapes
}

type Shapes = BTreeMap<String, Vec<usize>>;

fn put(shapes: &mut Shapes, name: impl Into<String>, shape: &[usize]) {
    shapes.insert(name.into(), shape.to_vec());
}

fn with_bias(shapes: &mut Shapes, name: &str, shape: &[usize]) {
    put(shapes, format!("{name}.weight"), shape);
    put(shapes, format!("{name}.bias"), &shape[..1]);
}

fn vision(config: &ModelConfig, shapes: &mut Shapes) {
    let v = &config.vision;
    let (width, hidden, patch) = (v.hidden_size, v.intermediate_size, v.patch_size);
    put(shapes, "visual.patch_embed.proj.weight", &[width, v.in_channels, patch, patch]);
    put(shapes, "visual.class_embedding", &[width]);
    put(shapes, "visual.class_pos_emb", &[1, v.head_dim() / 2]);
    with_bias(shapes, "visual.pre_layernorm", &[width]);
    for i in 0..v.depth {
        let block = format!("visual.blocks.{i}");
        with_bias(shapes, &format!("{block}.norm1"), &[width]);
        with_bias(shapes, &format!("{block}.attn.qkv"), &[3 * width, width]);
        with_bias(shapes, &format!("{block}.attn.proj"), &[width, width]);
        with_bias(shapes, &format!("{block}.norm2"), &[width]);
        with_bias(shapes, &format!("{block}.mlp.fc1"), &[hidden, width]);
        with_bias(shapes, &format!("{block}.mlp.fc2"), &[width, hidden]);
    }
}

fn merger(config: &ModelConfig, shapes: &mut Shapes) {
    let v = &config.vision;
    let joined = v.patches_per_token() * v.hidden_size;
    with_bias(shapes, "visual.merger.ln_q", &[v.hidden_size]);
    with_bias(shapes, "visual.merger.mlp.0", &[joined, joined]);
    with_bias(shapes, "visual.merger.mlp.2", &[v.text_hidden_size, joined]);
}

fn language(config: &ModelConfig, shapes: &mut Shapes) {
    let t = &config.text;
    let (width, hidden, head) = (t.hidden_size, t.intermediate_size, t.head_dim);
    let (queries, keys) = (t.num_attention_heads * head, t.num_key_value_heads * head);
    put(shapes, "model.embed_tokens.weight", &[t.vocab_size, width]);
    for i in 0..t.num_hidden_layers {
        let layer = format!("model.layers.{i}");
        put(shapes, format!("{layer}.input_layernorm.weight"), &[width]);
        put(shapes, format!("{layer}.self_attn.q_proj.weight"), &[queries, width]);
        put(shapes, format!("{layer}.self_attn.k_proj.weight"), &[keys, width]);
        put(shapes, format!("{layer}.self_attn.v_proj.weight"), &[keys, width]);
        put(shapes, format!("{layer}.self_attn.q_norm.weight"), &[head]);
        put(shapes, format!("{layer}.self_attn.k_norm.weight"), &[head]);
        put(shapes, format!("{layer}.self_attn.o_proj.weight"), &[width, queries]);
        put(shapes, format!("{layer}.post_attention_layernorm.weight"), &[width]);
        put(shapes, format!("{layer}.mlp.gate_proj.weight"), &[hidden, width]);
        put(shapes, format!("{layer}.mlp.up_proj.weight"), &[hidden, width]);
        put(shapes, format!("{layer}.mlp.down_proj.weight"), &[width, hidden]);
    }
    put(shapes, "model.norm.weight", &[width]);
    if !t.tie_word_embeddings {
        put(shapes, "lm_head.weight", &[t.vocab_size, width]);
    }
}

//! Floating-point operations that a model's step asks for, whoever computes it and whatever is computed twice.
//!
//! ```text
//! a linear map      2 rows inputs outputs
//! attention         4 heads width, for every pair of a query and a key that it sees: scores, and values times weights
//! forward and backward: three times that, as backward makes two products for each of forward's
//! ```
//! Norms, activations, rotations, the loss behind its logits and the optimiser are left out: they are memory's business, and
//! leaving them out counts against nobody. What backward computes again is not counted, so that who keeps more is not
//! punished. Model FLOPs utilisation (MFU) is these operations a second over what the device can do.

use crate::{config::ModelConfig, model::Sample};

/// Operations of one training step over all parameters.
pub(super) fn of_step(config: &ModelConfig, samples: &[Sample]) -> f64 {
    3.0 * samples.iter().map(|sample| forward(config, sample)).sum::<f64>()
}

fn linear(rows: usize, inputs: usize, outputs: usize) -> f64 {
    2.0 * rows as f64 * inputs as f64 * outputs as f64
}

fn forward(config: &ModelConfig, sample: &Sample) -> f64 {
    let pictures = sample.pictures.iter().map(|picture| tower(config, picture.len())).sum::<f64>();
    pictures + decoder(config, sample)
}

/// Of one picture with so many patches, its class token beside them.
fn tower(config: &ModelConfig, patches: usize) -> f64 {
    let v = &config.vision;
    let (rows, w) = (patches + 1, v.hidden_size);
    let block = linear(rows, w, 3 * w) + linear(rows, w, w) + 2.0 * linear(rows, w, v.intermediate_size);
    let attention = 4.0 * w as f64 * rows as f64 * rows as f64;
    let merged = v.patches_per_token() * w;
    let tokens = patches / v.patches_per_token();
    linear(patches, v.patch_values(), w)
        + v.depth as f64 * (block + attention)
        + linear(tokens, merged, merged)
        + linear(tokens, merged, config.text.hidden_size)
}

fn decoder(config: &ModelConfig, sample: &Sample) -> f64 {
    let t = &config.text;
    let (rows, w) = (sample.tokens.len(), t.hidden_size);
    let (queries, keys) = (t.num_attention_heads * t.head_dim, t.num_key_value_heads * t.head_dim);
    let layer = linear(rows, w, queries)
        + 2.0 * linear(rows, w, keys)
        + linear(rows, queries, w)
        + 3.0 * linear(rows, w, t.intermediate_size);
    // a query sees itself and what is before it
    let pairs = rows as f64 * (rows as f64 + 1.0) / 2.0;
    let attention = 4.0 * queries as f64 * pairs;
    t.num_hidden_layers as f64 * (layer + attention) + linear(sample.learned(), w, t.vocab_size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{batch::NOT_LEARNED, measure::PRESETS};

    #[test]
    fn a_long_text_asks_for_six_operations_a_parameter_and_token_and_for_its_attention() {
        let config = PRESETS.iter().find(|preset| preset.name == "1b").unwrap().config();
        let tokens = vec![9; 1000];
        let labels: Vec<i64> = tokens.iter().map(|&token| i64::from(token)).collect();
        let found = of_step(&config, &[Sample { tokens, labels, pictures: vec![] }]);
        // matrices of a layer: q and o 1536 x 2048, k and v 1536 x 1024, three of 1536 x 6144
        let layer = 2.0 * 1536.0 * 2048.0 + 2.0 * 1536.0 * 1024.0 + 3.0 * 1536.0 * 6144.0;
        let head = 1536.0 * 151_936.0;
        let attention = 28.0 * 3.0 * 4.0 * 2048.0 * (1000.0 * 1001.0 / 2.0);
        // the first token is not learned
        let expected = 6.0 * (1000.0 * 28.0 * layer + 999.0 * head) + attention;
        assert!((found / expected - 1.0).abs() < 1e-12, "{found:e} {expected:e}");
    }

    #[test]
    fn what_is_not_learned_needs_no_head() {
        let config = PRESETS[0].config();
        let sample = |label| Sample { tokens: vec![9; 10], labels: vec![label; 10], pictures: vec![] };
        let with = of_step(&config, &[sample(9)]);
        let without = of_step(&config, &[sample(NOT_LEARNED)]);
        let head = 3.0 * 2.0 * 9.0 * config.text.hidden_size as f64 * config.text.vocab_size as f64;
        assert!((with - without - head).abs() < 1.0);
    }
}

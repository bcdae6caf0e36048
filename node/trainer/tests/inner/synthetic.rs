//! Tiny pictures of one colour, and questions about it.
#![allow(dead_code, reason = "each test binary uses its part")]

use talkoot_trainer::{
    batch::{Image, Pack},
    config::ModelConfig,
    generate::Prompt,
    presets::demo_model,
};

/// Ends every answer.
pub(crate) const END: u32 = 62;
const IMAGE: u32 = 63;
const COLOURS: [[u8; 3]; 4] = [[220, 30, 30], [30, 200, 40], [40, 60, 230], [240, 240, 240]];

/// The demo's model with fewer and narrower layers.
pub(crate) fn tiny_model() -> ModelConfig {
    let mut config = demo_model(64);
    config.vision.depth = 1;
    config.vision.hidden_size = 32;
    config.vision.embed_dim = None;
    config.vision.num_heads = 2;
    config.vision.intermediate_size = 64;
    config.vision.text_hidden_size = 64;
    config.text.hidden_size = 64;
    config.text.head_dim = 16;
    config.text.intermediate_size = 96;
    config.text.num_hidden_layers = 2;
    config
}

type Question = (Prompt, Vec<u32>);

/// Packs of four questions each.
pub(crate) fn packs(seed: u64, count: u64) -> Vec<Pack> {
    (0..count).map(|i| pack(seed * 1000 + i).0).collect()
}

/// Held-out packs and the questions in them.
pub(crate) fn questions(seed: u64, count: u64) -> (Vec<Pack>, Vec<Question>) {
    let (packs, questions): (Vec<_>, Vec<_>) = (0..count).map(|i| pack(seed * 1000 + i)).unzip();
    (packs, questions.into_iter().flatten().collect())
}

fn pack(seed: u64) -> (Pack, Vec<Question>) {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut roll = |sides: u64| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 20) % sides
    };
    let mut pack = Pack::default();
    let mut questions = Vec::new();
    for _ in 0..4 {
        let (colour, wide) = (roll(4) as usize, roll(2) as u32);
        let (width, height) = (28 * (1 + wide), 56);
        let mut noisy = |level: u8| level.saturating_sub(roll(20) as u8);
        let rgb: Vec<u8> = (0..width * height).flat_map(|_| COLOURS[colour]).map(&mut noisy).collect();
        let image = Image { width, height, rgb };
        let mut tokens = vec![1, 2];
        tokens.extend(std::iter::repeat_n(IMAGE, (width / 28 * (height / 28)) as usize));
        tokens.extend([3, 4, 5]);
        let answer = vec![20 + colour as u32, 30 + wide];
        questions.push((Prompt { tokens: tokens.clone(), images: vec![image.clone()] }, answer.clone()));
        pack.labels.extend(tokens.iter().map(|_| -100));
        tokens.extend(answer.iter().chain(&[END]));
        pack.labels.extend(tokens[tokens.len() - 3..].iter().map(|&token| i64::from(token)));
        pack.sample_lengths.push(tokens.len() as u32);
        pack.tokens.extend(tokens);
        pack.images.push(image);
    }
    (pack, questions)
}

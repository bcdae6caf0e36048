//! The model against the reference over random shapes, and what must not change a bit.

use super::*;
use crate::{
    batch::NOT_LEARNED,
    config::ModelConfig,
    cpu::{Cpu, Isa, Level, Products},
    modules::{Module, trainable},
    patches::Picture,
    presets::{Shape, model_of},
    reference,
};

/// Small numbers from a seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn of(&mut self, choices: &[usize]) -> usize {
        choices[self.next() as usize % choices.len()]
    }

    fn number(&mut self) -> f32 {
        self.next() as f32 / (1u64 << 30) as f32 - 1.0
    }
}

/// Odd depths, heads and widths, tied or not, unusual epsilons.
fn config(dice: &mut Dice) -> ModelConfig {
    let (heads, head) = (dice.of(&[1, 2, 3]), dice.of(&[4, 8, 12]));
    let (groups, shared, text_head) = (dice.of(&[1, 2]), dice.of(&[1, 2, 3]), dice.of(&[2, 6, 10]));
    let mut config = model_of(Shape {
        vision: [dice.of(&[1, 2, 3]), heads * head, heads, dice.of(&[5, 16, 33])],
        text: [
            dice.of(&[1, 2, 3]),
            dice.of(&[7, 16, 24]),
            groups * shared,
            groups,
            text_head,
            dice.of(&[5, 20]),
        ],
        vocabulary: dice.of(&[40, 97]),
    });
    config.text.tie_word_embeddings = dice.of(&[0, 1]) == 1;
    config.text.rms_norm_eps = 1e-3;
    config.vision.layer_norm_eps = 1e-2;
    config.vision.initializer_range = 0.2;
    config.text.initializer_range = 0.2;
    config.validate().unwrap();
    config
}

fn sample(dice: &mut Dice, config: &ModelConfig, grids: &[(usize, usize)], words: usize) -> Sample {
    let mut tokens = Vec::new();
    let mut pictures = Vec::new();
    for &(rows, columns) in grids {
        let numbers = (0..rows * columns * config.vision.patch_values()).map(|_| dice.number()).collect();
        pictures.push(Picture { rows, columns, patches: numbers });
        tokens.push(9);
        tokens.extend(std::iter::repeat_n(config.image_token_id, rows * columns / 4));
    }
    tokens.extend((0..words).map(|_| 8 + dice.next() as u32 % (config.text.vocab_size as u32 - 8)));
    let learned = |&token: &u32, dice: &mut Dice| {
        if token == config.image_token_id || dice.next().is_multiple_of(3) {
            NOT_LEARNED
        } else {
            i64::from(token)
        }
    };
    let labels = tokens.iter().map(|token| learned(token, dice)).collect();
    Sample { tokens, labels, pictures }
}

/// One and several pictures, text alone, a sample of one token, and one with nothing to learn.
fn samples(dice: &mut Dice, config: &ModelConfig) -> Vec<Sample> {
    let mut samples = vec![
        sample(dice, config, &[(2, 4)], 5),
        sample(dice, config, &[], 9),
        sample(dice, config, &[(4, 2), (2, 2), (2, 6)], 3),
        sample(dice, config, &[], 1),
        sample(dice, config, &[(2, 2)], 2),
    ];
    samples[4].labels.fill(NOT_LEARNED);
    samples
}

fn close(what: &str, got: &[f32], expected: &[f32], limit: f32) {
    assert_eq!(got.len(), expected.len(), "{what}: how many");
    let largest = expected.iter().fold(1e-3f32, |most, x| most.max(x.abs()));
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!(
            (got - expected).abs() <= limit * largest,
            "{what} at {i}: {got} instead of {expected}, largest {largest}"
        );
    }
}

/// Losses, and gradients by name.
type Learnt = (Vec<f32>, Vec<(String, Vec<f32>)>);

fn same(expected: &Learnt, got: Learnt, what: &str) {
    let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&expected.0), bits(&got.0), "{what}: losses");
    for ((name, expected), (_, got)) in expected.1.iter().zip(&got.1) {
        assert!(bits(expected) == bits(got), "{what}: gradient of {name}");
    }
}

/// Losses and gradients with everything trained.
fn learn(model: &Model<'_, Cpu>, batches: &[Batch]) -> Learnt {
    let mut gradients = model.gradients(&trainable(model.config(), &Module::ALL)).unwrap();
    let mut losses = Vec::new();
    for batch in batches {
        let scales = vec![0.25; batch.learned()];
        losses.extend(model.differentiate(batch, &scales, &mut gradients).unwrap());
    }
    gradients.finish(model.backend()).unwrap();
    (losses, gradients.iter().map(|(name, values)| (name.to_owned(), values.to_vec())).collect())
}

#[test]
fn losses_logits_and_every_gradient_agree_with_the_reference_over_random_shapes() {
    for seed in 0..12 {
        let mut dice = Dice(seed);
        let config = config(&mut dice);
        let state = State::initial(&config, seed);
        let samples = samples(&mut dice, &config);
        let strip = [ClassStrip::PerSegment, ClassStrip::AsReleased][dice.of(&[0, 1])];

        let cpu = Cpu::default();
        let model = Model::new(&cpu, &config, &state).unwrap().with_strip(strip);
        let batch = Batch::new(&samples, &config);
        let (losses, gradients) = learn(&model, std::slice::from_ref(&batch));

        let names = trainable(&config, &Module::ALL);
        let plain = reference::Model::new(&config, &state, &names).unwrap().with_strip(strip);
        let plain_batch = reference::Batch::new(&samples, &config).unwrap();
        let expected: Vec<f32> = plain.losses(&plain_batch).unwrap().to_vec1().unwrap();
        close(&format!("seed {seed}: losses"), &losses, &expected, 1e-5);
        assert_eq!(losses, model.losses(&batch).unwrap(), "seed {seed}: with and without backward");
        let (_, expected) = plain.gradients(&plain_batch, 0.25).unwrap();
        assert_eq!(gradients.len(), expected.len());
        for (name, gradient) in &gradients {
            close(&format!("seed {seed}: {name}"), gradient, &expected[name], 2e-4);
        }

        let hidden = model.hidden(&batch, None).unwrap();
        let logits = model.logits(&model.final_norm(&hidden).unwrap()).unwrap();
        let expected = plain.logits_in_order(&plain_batch).unwrap();
        close(&format!("seed {seed}: logits"), &logits, &expected, 1e-5);
    }
}

#[test]
fn what_is_computed_again_how_packs_are_joined_and_who_computes_change_no_bit() {
    for seed in 20..24 {
        let mut dice = Dice(seed);
        let config = config(&mut dice);
        let state = State::initial(&config, seed);
        let samples = samples(&mut dice, &config);
        let joined = [Batch::new(&samples, &config)];
        let apart: Vec<Batch> =
            samples.iter().map(|sample| Batch::new(std::slice::from_ref(sample), &config)).collect();
        let cpu = Cpu::default();
        let of = |keep| Model::new(&cpu, &config, &state).unwrap().with_keep(keep);
        let expected = learn(&of(Keep::Everything), &joined);
        same(&expected, learn(&of(Keep::Inputs), &joined), &format!("seed {seed}: blocks computed again"));
        same(&expected, learn(&of(Keep::Inputs), &apart), &format!("seed {seed}: one sample at a time"));
        for isa in Level::ALL.into_iter().filter_map(Isa::new) {
            let cpu = Cpu::new(isa, Products::FixedOrder);
            let model = Model::new(&cpu, &config, &state).unwrap();
            same(&expected, learn(&model, &joined), &format!("seed {seed}: {:?}", isa.level()));
        }
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let found = pool.install(|| learn(&of(Keep::Inputs), &joined));
            same(&expected, found, &format!("seed {seed}: {threads} threads"));
        }
    }
}

#[test]
fn frozen_modules_get_no_gradients_and_the_others_the_same_bits() {
    let mut dice = Dice(40);
    let config = config(&mut dice);
    let state = State::initial(&config, 1);
    let batch = Batch::new(&samples(&mut dice, &config), &config);
    let cpu = Cpu::default();
    let model = Model::new(&cpu, &config, &state).unwrap();
    let (_, all) = learn(&model, std::slice::from_ref(&batch));
    for modules in [
        &[Module::Merger][..],
        &[Module::Vision],
        &[Module::Language],
        &[Module::Vision, Module::Language],
        &[Module::Merger, Module::Language],
    ] {
        let names = trainable(&config, modules);
        let mut gradients = model.gradients(&names).unwrap();
        model.differentiate(&batch, &vec![0.25; batch.learned()], &mut gradients).unwrap();
        gradients.finish(&cpu).unwrap();
        let found: Vec<(String, Vec<f32>)> =
            gradients.iter().map(|(name, values)| (name.to_owned(), values.to_vec())).collect();
        let expected: Vec<_> = all.iter().filter(|(name, _)| names.contains(name)).cloned().collect();
        assert!(found == expected, "{modules:?}");
    }
}

#[test]
fn single_parameters_can_be_trained_without_their_partners() {
    let mut dice = Dice(41);
    let config = config(&mut dice);
    let state = State::initial(&config, 1);
    let batch = Batch::new(&samples(&mut dice, &config), &config);
    let cpu = Cpu::default();
    let model = Model::new(&cpu, &config, &state).unwrap();
    let (_, all) = learn(&model, std::slice::from_ref(&batch));
    for (name, expected) in all {
        let mut gradients = model.gradients(std::slice::from_ref(&name)).unwrap();
        model.differentiate(&batch, &vec![0.25; batch.learned()], &mut gradients).unwrap();
        gradients.finish(&cpu).unwrap();
        let (_, found) = gradients.iter().next().unwrap();
        assert!(**found == *expected, "{name}");
    }
}

#[test]
fn a_batch_without_anything_to_learn_is_no_trouble() {
    let mut dice = Dice(42);
    let config = config(&mut dice);
    let state = State::initial(&config, 1);
    let mut sample = sample(&mut dice, &config, &[(2, 2)], 4);
    sample.labels.fill(NOT_LEARNED);
    let cpu = Cpu::default();
    let model = Model::new(&cpu, &config, &state).unwrap();
    for samples in [vec![sample], Vec::new()] {
        let (losses, gradients) = learn(&model, &[Batch::new(&samples, &config)]);
        assert!(losses.is_empty());
        assert!(gradients.iter().all(|(_, values)| values.iter().all(|&g| g == 0.0)));
    }
}

//! The model's own consistency, for machines without the oracle: packing, padding, generation, and fixed numbers.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "in a test a panic is the report")]

#[path = "inner/synthetic.rs"]
mod synthetic;

use synthetic::{packs, tiny_model};
use talkoot_trainer::{
    batch::{Image, Pack, PackError},
    config::ModelConfig,
    cpu::Cpu,
    evaluate::mean_loss,
    model::{Batch, Model, Sample},
    patches::Picture,
    state::State,
};

fn losses(config: &ModelConfig, samples: &[Sample]) -> Vec<f32> {
    let cpu = Cpu::default();
    let model = Model::new(&cpu, config, &State::initial(config, 5)).unwrap();
    model.losses(&Batch::new(samples, config)).unwrap()
}

/// Samples of many lengths, pictures of two sizes, text without pictures.
fn mixed(config: &ModelConfig) -> Vec<Sample> {
    let mut samples: Vec<Sample> =
        packs(4, 3).iter().flat_map(|pack| Sample::from_pack(pack, config)).collect();
    for (i, sample) in samples.iter_mut().enumerate() {
        let more = (0..i as u32).map(|token| token % 60);
        sample.labels.extend(more.clone().map(i64::from));
        sample.tokens.extend(more);
    }
    let text: Vec<u32> = (3..20).collect();
    samples.push(Sample { labels: text.iter().map(|&t| t.into()).collect(), tokens: text, pictures: vec![] });
    samples
}

#[test]
fn a_sample_has_the_same_losses_alone_and_among_others() {
    let config = tiny_model();
    let samples = mixed(&config);
    let alone: Vec<f32> =
        samples.iter().flat_map(|sample| losses(&config, std::slice::from_ref(sample))).collect();
    let together = losses(&config, &samples);
    assert_eq!(alone.len(), together.len());
    assert_eq!(alone, together, "not a bit depends on the company");
}

/// Fixed when the model agreed with the oracle, so that a machine without it notices a change.
#[test]
fn fixed_losses_of_a_fixed_model() {
    let config = tiny_model();
    let found = losses(&config, &mixed(&config)[..2]);
    let expected = [3.870_033_3, 4.309_766, 3.929_930_4, 4.576_707, 4.715_096, 4.042_972_6, 4.087_422];
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-4, "{found} instead of {expected}");
    }
}

#[test]
fn a_trained_state_has_the_loss_of_its_samples() {
    let config = tiny_model();
    let packs = packs(4, 3);
    let samples: Vec<Sample> = packs.iter().flat_map(|pack| Sample::from_pack(pack, &config)).collect();
    let losses = losses(&config, &samples);
    let mean = losses.iter().map(|&x| f64::from(x)).sum::<f64>() / losses.len() as f64;
    let found = mean_loss(&config, &State::initial(&config, 5), &packs).unwrap();
    assert!((found - mean).abs() < 1e-5, "{found} {mean}");
    assert_eq!(losses.len() as u64, packs.iter().map(Pack::learned_tokens).sum::<u64>());
}

#[test]
fn packs_that_do_not_fit_are_refused_with_the_place() {
    let config = tiny_model();
    let good = packs(7, 1).remove(0);
    good.check(&config).unwrap();
    let refused = |change: &dyn Fn(&mut Pack)| {
        let mut pack = good.clone();
        change(&mut pack);
        pack.check(&config).unwrap_err()
    };
    let labels = refused(&|pack| pack.labels.truncate(3));
    assert!(matches!(labels, PackError::Length { what: "labels", .. }));
    assert!(matches!(
        refused(&|p| p.sample_lengths[0] += 1),
        PackError::Length { what: "sample lengths", .. }
    ));
    assert!(matches!(
        refused(&|p| p.tokens[1] = 64),
        PackError::Token { position: 1, got: 64, vocabulary: 64 }
    ));
    assert!(matches!(refused(&|p| p.labels[0] = 7), PackError::Label { position: 0, got: 7, token: 1 }));
    assert!(matches!(refused(&|p| p.images[1].width = 30), PackError::ImageSize { image: 1, width: 30, .. }));
    assert!(matches!(refused(&|p| p.images[2].height = 0), PackError::ImageSize { image: 2, .. }));
    assert!(matches!(refused(&|p| p.images[1].rgb.truncate(9)), PackError::ImageBytes { image: 1, .. }));
    assert!(matches!(
        refused(&|p| drop(p.images.pop())),
        PackError::ImageTokens { sample: 3, first_image: 3, .. }
    ));
    let surplus = refused(&|pack| pack.images.push(pack.images[0].clone()));
    assert!(matches!(surplus, PackError::SurplusImages { got: 5, used: 4 }));
    let empty = refused(&|pack| pack.sample_lengths.insert(2, 0));
    assert!(matches!(empty, PackError::EmptySample { sample: 2 }));
    // one picture's tokens cut in two by a sample's end
    let halved = refused(&|pack| {
        let first = pack.sample_lengths[0];
        pack.sample_lengths[0] = 3;
        pack.sample_lengths.insert(1, first - 3);
    });
    assert!(matches!(halved, PackError::ImageTokens { sample: 0, tokens: 1, first_image: 0 }));
}

#[test]
fn a_picture_becomes_normalised_patches() {
    let config = tiny_model();
    let (width, height) = (56, 28);
    // the red of a pixel says its column, the green its row, the blue is white
    let pixel = |x: u32, y: u32| [x as u8, y as u8, 255];
    let rgb = (0..height).flat_map(|y| (0..width).flat_map(move |x| pixel(x, y))).collect();
    let picture = Picture::new(&Image { width, height, rgb }, &config.vision);
    assert_eq!((picture.rows, picture.columns, picture.patches.len()), (2, 4, 8 * 588));
    // third patch in merge order: row 1, column 0; its fourth line, sixth column
    let at = 2 * 588 + 3 * 14 + 5;
    let red = (5.0 / 255.0 - 0.481_454_66) / 0.268_629_54;
    let green = (17.0 / 255.0 - 0.457_827_5) / 0.261_302_58;
    let blue = (1.0 - 0.408_210_73) / 0.275_777_11;
    for (channel, expected) in [red, green, blue].into_iter().enumerate() {
        let found = picture.patches[at + channel * 196];
        assert!((found - expected as f32).abs() < 1e-6, "channel {channel}: {found} instead of {expected}");
    }
}

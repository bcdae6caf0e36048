//! Several devices that work as one: the bits of one device, whatever the number of batches and of devices, and in every
//! order that their lanes allow.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]
#![allow(unsafe_code, reason = "launches are handed on, with the same promise")]

#[path = "offload/recorder.rs"]
#[allow(dead_code, reason = "each test binary uses its part")]
mod recorder;

use std::ops::ControlFlow;

use recorder::{Preference, Recorder};
use talkoot_cuda::{
    Cuda,
    choice::{Room, Unfit, proven, together},
    device::{Device, Lane},
    fast::TensorCores,
};
use talkoot_emulator::{Emulator, Fault, Order};
use talkoot_trainer::{
    backend::{Backend, BackendError},
    batch::{Image, NOT_LEARNED, Pack},
    config::ModelConfig,
    cpu::Cpu,
    inner::{InnerError, InnerPlan, Normalisation, OptimizerSettings, Start, run_inner_steps_on},
    measure::{GRADIENTS, WEIGHTS, bits},
    model::{Gradients, Keep, ModelError, Sample},
    modules::{Module, trainable},
    moments::{MomentFormat, Moments},
    plan::OnHost,
    presets::{Shape, model_of},
    state::State,
    team::{Part, Team},
    trace::Trace,
};

/// So many devices, of which the first is helped by the others.
fn as_one<D: Device>(devices: Vec<D>) -> Cuda<D> {
    let mut each = devices.into_iter().map(Cuda::new);
    let first = each.next().unwrap();
    first.with_others(each.collect())
}

/// With threads in other orders on each.
fn emulators(count: usize) -> Option<Vec<Emulator>> {
    (0..count).map(|i| Emulator::new(Order::ALL[i % 3])).collect()
}

fn model() -> ModelConfig {
    model_of(Shape { vision: [2, 24, 2, 48], text: [2, 24, 2, 1, 12, 40], vocabulary: 64 })
}

/// A picture of 2 x 2 patches where it is wanted, and words behind it, learned or not.
fn pack(config: &ModelConfig, seed: u32, picture: bool, learned: bool) -> Pack {
    let seen = if picture { 1 } else { 0 };
    let mut tokens = vec![config.image_token_id; seen];
    tokens.extend((0..9).map(|i: u32| 8 + (i * i * 7 + i * seed) % 50));
    let labels = tokens.iter().enumerate();
    let labels = labels.map(|(i, &token)| if learned && i > seen { i64::from(token) } else { NOT_LEARNED });
    let side = 2 * config.vision.patch_size as u32;
    let rgb = (0..3 * side * side).map(|i: u32| (i * (seed + 3) % 251) as u8).collect();
    Pack {
        sample_lengths: vec![tokens.len() as u32],
        labels: labels.collect(),
        tokens,
        images: if picture { vec![Image { width: side, height: side, rgb }] } else { Vec::new() },
    }
}

/// Packs of which some have no picture, and one has nothing to learn.
fn packs(config: &ModelConfig) -> Vec<Pack> {
    [(true, true), (false, true), (true, true), (true, false), (false, true), (true, true)]
        .into_iter()
        .zip(1..)
        .map(|((picture, learned), seed)| pack(config, seed, picture, learned))
        .collect()
}

fn plan(steps: Vec<Vec<u64>>, moments: MomentFormat) -> InnerPlan {
    let optimizer = OptimizerSettings {
        peak_learning_rate: 3e-3,
        final_learning_rate: 1e-3,
        warmup_steps: 0,
        total_steps: steps.len() as u64,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.01,
        clip_norm: 1.0,
        moments,
    };
    InnerPlan {
        trainable: Module::ALL.to_vec(),
        optimizer,
        normalisation: Normalisation::Pack,
        first_step: 0,
        digest_interval: 1,
        steps,
    }
}

/// Everything that inner steps end with.
fn trained<B: Backend>(
    backend: &B,
    config: &ModelConfig,
    plan: &InnerPlan,
) -> Result<(Trace, String, Moments), InnerError> {
    let state = State::initial(config, 3);
    let from = Start { state: &state, moments: None };
    let mut unwatched = |_: usize, _: &_| ControlFlow::Continue(());
    let (outcome, optimizer) =
        run_inner_steps_on(backend, config, from, plan, &packs(config), &mut unwatched)?;
    Ok((outcome.trace, outcome.end.digest().to_string(), optimizer.moments(backend)?))
}

/// One, two, three and five packs a step, also such that a step has fewer batches than there are devices.
fn steps() -> Vec<Vec<u64>> {
    vec![vec![0, 1], vec![5], vec![3, 2, 1], vec![4, 3, 0, 2, 5], vec![1, 0]]
}

#[test]
fn two_and_three_devices_show_the_hashes_of_the_exact_class() {
    for count in [2, 3] {
        let Some(devices) = emulators(count) else { return };
        let found = bits(&as_one(devices), "emulated", Keep::Inputs).unwrap();
        assert_eq!((found.gradients.as_str(), found.weights.as_str()), (GRADIENTS, WEIGHTS), "{count}");
    }
}

#[test]
fn any_number_of_devices_and_batches_has_the_processors_bits() {
    let config = model();
    for moments in [MomentFormat::F32, MomentFormat::EightBit] {
        let plan = plan(steps(), moments);
        let expected = trained(&Cpu::default(), &config, &plan).unwrap();
        for count in [2, 3] {
            let Some(devices) = emulators(count) else { return };
            let team = as_one(devices);
            assert_eq!(trained(&team, &config, &plan).unwrap(), expected, "{count} devices");
            for other in team.others() {
                assert!(other.device().faults().launches() > 200, "all of them worked");
            }
        }
    }
}

#[test]
fn each_device_has_a_slab_of_its_own() {
    let config = model();
    let plan = plan(steps(), MomentFormat::F32);
    let expected = trained(&Cpu::default(), &config, &plan).unwrap();
    let room = Room { slab: Some(128 << 20), on_host: OnHost { moments: true, ..OnHost::NOTHING } };
    let Some(devices) = emulators(3) else { return };
    let mut each = devices.into_iter().map(|device| room.on(device).unwrap());
    let team = each.next().unwrap().with_others(each.collect());
    assert_eq!(trained(&team, &config, &plan).unwrap(), expected);
}

#[test]
fn every_order_that_lanes_and_events_allow_gives_the_same_bits() {
    let config = model();
    let plan = plan(vec![vec![0, 1, 2], vec![5], vec![4, 2, 1, 0]], MomentFormat::F32);
    let expected = trained(&Cpu::default(), &config, &plan).unwrap();
    for preference in Preference::all() {
        let Some(devices) = Recorder::several(2, preference) else { return };
        let team = as_one(devices);
        assert_eq!(trained(&team, &config, &plan).unwrap(), expected, "{preference:?}");
        if let Preference::Lanes([Lane::ToDevice | Lane::ToHost, Lane::ToDevice | Lane::ToHost, _]) =
            preference
        {
            assert!(team.device().overlaps() > 100, "copies go on beside kernels");
        }
    }
}

/// Every gradient as bits.
fn numbers<B: Backend>(backend: &B, gradients: &Gradients<B>) -> Vec<(String, Vec<u32>)> {
    let bits = |buffer| backend.download(buffer).unwrap().iter().map(|x: &f32| x.to_bits()).collect();
    gradients.iter().map(|(name, buffer)| (name.to_owned(), bits(buffer))).collect()
}

/// Losses of each part, and the bits of each gradient by name.
type Found = (Vec<Vec<f32>>, Vec<(String, Vec<u32>)>);

/// Losses and gradients of these packs, each a batch of its own, in this order.
fn gradients_of<B: Backend>(backend: &B, packs: &[usize]) -> Found {
    let config = model();
    let samples: Vec<Vec<Sample>> =
        self::packs(&config).iter().map(|pack| Sample::from_pack(pack, &config)).collect();
    let names = trainable(&config, &Module::ALL);
    let state = State::initial(&config, 3);
    let mut team = Team::new(backend, &config, &state, Keep::Inputs, &names).unwrap();
    let part = |&pack: &usize| {
        let learned: usize = samples[pack].iter().map(Sample::learned).sum();
        Part { samples: samples[pack].iter().collect(), scales: vec![0.01 * (1 + pack) as f32; learned] }
    };
    let parts: Vec<Part<'_>> = packs.iter().map(part).collect();
    let found = team.differentiate(&parts).unwrap();
    let numbers = numbers(backend, &found.gradients);
    (found.losses, numbers)
}

#[test]
fn the_same_batches_have_one_devices_bits_in_the_class_fast_too() {
    let fast = |devices: Vec<Emulator>| {
        let cuda = as_one(devices);
        let class = TensorCores::of(cuda.device()).unwrap();
        cuda.in_class(class)
    };
    for packs in [&[2][..], &[0, 1], &[1, 3, 0], &[0, 1, 2, 3, 5]] {
        let Some(one) = emulators(1) else { return };
        let expected = gradients_of(&fast(one), packs);
        assert_ne!(expected.1, gradients_of(&Cpu::default(), packs).1, "bf16 is to be seen");
        for count in [2, 3] {
            let found = gradients_of(&fast(emulators(count).unwrap()), packs);
            assert_eq!(found, expected, "{packs:?} on {count}");
        }
    }
}

#[test]
fn the_order_of_the_batches_is_part_of_the_bits() {
    let Some(devices) = emulators(2) else { return };
    let team = as_one(devices);
    let (forth, back) = (gradients_of(&team, &[0, 1, 2]), gradients_of(&team, &[2, 1, 0]));
    assert_ne!(forth.1, back.1, "or a wrong order would not be seen");
    assert_eq!(forth, gradients_of(&Cpu::default(), &[0, 1, 2]));
    assert_eq!(back, gradients_of(&Cpu::default(), &[2, 1, 0]));
}

/// Which device an error is of.
fn blamed(error: &InnerError) -> Option<(usize, usize)> {
    match error {
        InnerError::Model { source: ModelError::Backend(BackendError::Member { index, of, .. }), .. } => {
            Some((*index, *of))
        }
        _ => None,
    }
}

#[test]
fn a_device_that_fails_in_mid_step_ends_the_step_and_is_named() {
    let config = model();
    let plan = plan(steps(), MomentFormat::F32);
    let Some(all_well) = emulators(3) else { return };
    let team = as_one(all_well);
    trained(&team, &config, &plan).unwrap();
    for failing in 0..3 {
        let launches =
            [&team].into_iter().chain(team.others()).nth(failing).unwrap().device().faults().launches();
        for launch in [launches / 10, launches / 2, launches - 30] {
            let devices = emulators(3).unwrap();
            devices[failing].faults().add(Fault::LostAt { launch });
            let error = trained(&as_one(devices), &config, &plan).unwrap_err();
            // outside of what is shared it is the first one's
            let expected = if failing == 0 { [Some((0, 3)), None] } else { [Some((failing, 3)); 2] };
            assert!(expected.contains(&blamed(&error)), "device {failing} at {launch}: {error:?}");
        }
    }
}

#[test]
fn no_room_on_one_of_them_says_on_which() {
    let config = model();
    let plan = plan(vec![vec![0, 1]], MomentFormat::F32);
    let Some(devices) = emulators(2) else { return };
    devices[1].faults().add(Fault::Room { bytes: 150_000 });
    let error = trained(&as_one(devices), &config, &plan).unwrap_err();
    assert_eq!(blamed(&error), Some((1, 2)), "{error:?}");
    let InnerError::Model { source, .. } = error else { panic!("{error:?}") };
    assert!(source.to_string().contains("number 2 of 2 devices"), "{source}");
}

#[test]
fn devices_train_as_one_only_after_they_have_shown_the_hashes_as_one() {
    let Some(devices) = emulators(2) else { return };
    let gpus: Vec<_> = devices.into_iter().map(|device| proven(Cuda::new(device)).unwrap()).collect();
    let launches = gpus[1].device().faults().launches();
    let gpus = together(gpus).unwrap();
    assert!(gpus[1].device().faults().launches() > launches + 100, "it was tried");
    gpus[1].device().faults().add(Fault::LostAt { launch: gpus[1].device().faults().launches() + 20 });
    let refused = together(gpus).unwrap_err();
    assert!(matches!(refused, Unfit::NotTogether { .. }), "{refused}");
    assert!(refused.to_string().contains("do not work as one"), "{refused}");
}

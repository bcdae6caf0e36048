//! Gradients and values that rest in the host's memory: the bits of those that stay on the device, in every order that a
//! device's lanes allow.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]
#![allow(unsafe_code, reason = "launches are handed on, with the same promise")]

#[path = "offload/recorder.rs"]
mod recorder;

use recorder::{Preference, Recorder};
use talkoot_cuda::{
    Cuda,
    check::random,
    device::{Device, Lane},
    slab::Slab,
};
use talkoot_emulator::{Emulator, Order};
use talkoot_trainer::{
    adamw::{clip_factor, global_norm},
    backend::{AdamWStep, Backend, Resting},
    batch::{Image, NOT_LEARNED, Pack},
    config::ModelConfig,
    cpu::Cpu,
    inner::OptimizerSettings,
    model::{Batch, Keep, Model, Sample},
    modules::{Module, trainable},
    moments::{MomentFormat, eight_bit::packed_words},
    plan::OnHost,
    presets::{Shape, model_of},
    state::State,
};

/// Words of a slice: two blocks of moments in eight bits. 16,640 bytes may be under way, and nothing is too small to go.
const SLICE: usize = 130;

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

fn on_recorder(preference: Preference, on_host: OnHost) -> Option<Cuda<Slab<Recorder>>> {
    let slab = Slab::reserve(Recorder::new(preference)?, 16 << 20).unwrap();
    Some(Cuda::resting(slab, on_host, SLICE).unwrap())
}

/// Steps of a model that is none: blocks that leave what they had for backward, gradients that two batches add to.
fn steps<B: Backend>(backend: &B, lengths: &[usize], eight_bit: bool) -> Vec<Vec<u32>> {
    let mut parameters: Vec<B::Buffer> =
        (0..).zip(lengths).map(|(seed, &len)| backend.upload(&random(len, seed)).unwrap()).collect();
    let words = |len: usize| if eight_bit { packed_words(len) } else { len };
    let zeros = |&len: &usize| {
        [backend.zeros_at_rest(words(len)).unwrap(), backend.zeros_at_rest(words(len)).unwrap()]
    };
    let mut moments: Vec<[B::Buffer; 2]> = lengths.iter().map(zeros).collect();
    let mut seen = Vec::new();
    for round in 0..2u64 {
        let mut gradients: Vec<Option<B::Buffer>> = lengths.iter().map(|_| None).collect();
        for batch in 0..2u64 {
            let mut kept: Vec<B::Buffer> = Vec::new();
            for (at, &len) in lengths.iter().enumerate() {
                let mut x = backend.upload(&random(len, 100 * round + 10 * batch + at as u64)).unwrap();
                backend.add(&parameters[at], &mut x).unwrap();
                backend.put_away(Resting::Value, &mut x).unwrap();
                kept.push(x);
            }
            while let Some(mut x) = kept.pop() {
                let at = kept.len();
                backend.fetch(&mut x).unwrap();
                if let Some(next) = kept.last_mut() {
                    backend.send_for(next).unwrap();
                    if let Some(gradient) = &mut gradients[at - 1] {
                        backend.send_for(gradient).unwrap();
                    }
                }
                let mut fresh = backend.scratch(lengths[at]).unwrap();
                backend.gelu(&x, &mut fresh).unwrap();
                drop(x);
                let gradient = match &mut gradients[at] {
                    Some(gradient) => {
                        backend.fetch(gradient).unwrap();
                        gradient
                    }
                    empty => empty.insert(backend.zeros(lengths[at]).unwrap()),
                };
                backend.add(&fresh, gradient).unwrap();
                backend.put_away(Resting::Gradient, gradient).unwrap();
            }
        }
        let step = AdamWStep {
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            step_size: 1e-2,
            root_correction: 0.7,
            gradient_factor: 0.25,
        };
        for (at, gradient) in gradients.iter().enumerate() {
            let gradient = gradient.as_ref().unwrap();
            // asking for a number waits for everything that is under way; the optimiser does not
            if round == 0 {
                let squares = backend.sum_of_squares(gradient).unwrap().to_bits();
                seen.push(vec![squares as u32, (squares >> 32) as u32]);
                seen.push(bits(&backend.download(gradient).unwrap()));
            }
            let ([first, second], parameter) = (&mut moments[at], &mut parameters[at]);
            if eight_bit {
                backend.adamw_eight_bit(step, 0.99, 1.5, gradient, first, second, parameter).unwrap();
            } else {
                backend.adamw(step, 0.99, gradient, first, second, parameter).unwrap();
            }
        }
    }
    let ends = parameters.iter().chain(moments.iter().flatten());
    seen.extend(ends.map(|buffer| bits(&backend.download(buffer).unwrap())));
    seen
}

/// Many slices and one, torn ones, and so little that all of it is under way at the same time.
const LENGTHS: [&[usize]; 3] = [&[700, 5, 300], &[5], &[1400, 1400, 1400, 1400, 1400]];

#[test]
fn every_order_that_events_allow_gives_the_bits_of_what_stays_on_the_device() {
    for lengths in LENGTHS {
        for (eight_bit, on_host) in [
            (false, OnHost { moments: false, gradients: true, values: true }),
            (false, OnHost { moments: true, gradients: true, values: false }),
            (true, OnHost { moments: true, gradients: true, values: true }),
            (true, OnHost { moments: false, gradients: true, values: false }),
        ] {
            let expected = steps(&Cpu::default(), lengths, eight_bit);
            for preference in Preference::all() {
                let Some(cuda) = on_recorder(preference, on_host) else { return };
                let found = steps(&cuda, lengths, eight_bit);
                assert!(
                    found == expected,
                    "{lengths:?}, eight bits: {eight_bit}, {on_host:?}, {preference:?}"
                );
            }
        }
    }
}

#[test]
fn sums_of_squares_in_parts_are_those_of_the_device() {
    // one number more than a part, and two parts
    let lengths = [65_537, 9];
    let expected = steps(&Cpu::default(), &lengths, false);
    let on_host = OnHost { moments: false, gradients: true, values: true };
    let Some(cuda) = on_recorder(Preference::Random(5), on_host) else { return };
    assert!(steps(&cuda, &lengths, false) == expected);
}

#[test]
fn what_is_dropped_on_its_way_back_does_not_come_into_memory_that_others_have() {
    let on_host = OnHost { moments: false, gradients: false, values: true };
    for preference in Preference::all() {
        let Some(cuda) = on_recorder(preference, on_host) else { return };
        let mut numbers = cuda.upload(&random(1000, 1)).unwrap();
        cuda.put_away(Resting::Value, &mut numbers).unwrap();
        cuda.send_for(&mut numbers).unwrap();
        drop(numbers);
        // the memory of both is the next one's
        cuda.trim();
        let (x, mut y) = (cuda.zeros(1000).unwrap(), cuda.zeros(1000).unwrap());
        cuda.add(&x, &mut y).unwrap();
        cuda.device().synchronise().unwrap();
        for buffer in [&x, &y] {
            assert_eq!(cuda.download(buffer).unwrap(), vec![0.0; 1000], "{preference:?}");
        }
    }
}

#[test]
fn copies_go_on_beside_kernels() {
    let copies_first = Preference::Lanes([Lane::ToDevice, Lane::ToHost, Lane::Kernels]);
    let on_host = OnHost { moments: false, gradients: true, values: true };
    let Some(cuda) = on_recorder(copies_first, on_host) else { return };
    steps(&cuda, &[1400; 5], false);
    assert!(cuda.device().device().overlaps() > 20, "{}", cuda.device().device().overlaps());
}

/// A model with a picture of 4 x 4 patches and words, in two batches.
fn trained<B: Backend>(backend: &B, keep: Keep, tied: bool, modules: &[Module]) -> Vec<Vec<u32>> {
    let mut config = model_of(Shape { vision: [3, 24, 2, 40], text: [3, 32, 2, 1, 16, 40], vocabulary: 48 });
    config.text.tie_word_embeddings = tied;
    let mut state = State::initial(&config, 3);
    // as a checkpoint that was released
    for tensor in state.tensors.values_mut() {
        tensor.values.iter_mut().for_each(|x| *x = f32::from_bits(x.to_bits() & 0xffff_0000));
    }
    let names = trainable(&config, modules);
    let mut model = Model::to_train(backend, &config, &state, &names).unwrap().with_keep(keep);
    let settings = OptimizerSettings {
        peak_learning_rate: 3e-3,
        final_learning_rate: 3e-3,
        warmup_steps: 0,
        total_steps: 2,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.01,
        clip_norm: 1.0,
        moments: MomentFormat::F32,
    };
    let mut optimizer = settings.adamw(&config);
    let batches = [1, 5].map(|seed| Batch::new(&[sample(&config, seed)], &config));
    let mut seen = Vec::new();
    for _ in 0..2 {
        let mut gradients = model.gradients(&names).unwrap();
        for batch in &batches {
            let scales = vec![0.05; batch.learned()];
            seen.push(bits(&model.differentiate(batch, &scales, &mut gradients).unwrap()));
        }
        gradients.finish(backend).unwrap();
        let norm = global_norm(backend, &gradients).unwrap();
        seen.extend(gradients.iter().map(|(_, gradient)| bits(&backend.download(gradient).unwrap())));
        optimizer.step(&mut model, &gradients, 3e-3, clip_factor(norm, 1.0)).unwrap();
    }
    seen.extend(model.state().unwrap().tensors.values().map(|tensor| bits(&tensor.values)));
    seen
}

fn sample(config: &ModelConfig, seed: u32) -> Sample {
    let mut tokens = vec![config.image_token_id; 4];
    tokens.extend((0..12).map(|i: u32| 8 + (i * i * 7 + i * seed) % 40));
    let labels = tokens.iter().enumerate();
    let labels = labels.map(|(i, &token)| if i > 4 { i64::from(token) } else { NOT_LEARNED }).collect();
    let rgb = (0..3 * 56 * 56).map(|i: u32| (i * (seed + 3) % 251) as u8).collect();
    let pack = Pack {
        sample_lengths: vec![tokens.len() as u32],
        tokens,
        labels,
        images: vec![Image { width: 56, height: 56, rgb }],
    };
    Sample::from_pack(&pack, config).remove(0)
}

#[test]
fn a_model_trains_to_the_same_bits_with_everything_at_rest() {
    let all = OnHost { moments: true, gradients: true, values: true };
    let copies_last = Preference::Lanes([Lane::Kernels, Lane::ToDevice, Lane::ToHost]);
    let copies_first = Preference::Lanes([Lane::ToDevice, Lane::ToHost, Lane::Kernels]);
    for (keep, tied, modules, preferences) in [
        (Keep::Inputs, false, &Module::ALL[..], [copies_last, copies_first]),
        (Keep::Everything, true, &Module::ALL, [copies_last, Preference::Random(3)]),
        (Keep::Inputs, false, &[Module::Merger], [copies_first, Preference::Random(4)]),
    ] {
        let expected = trained(&Cpu::default(), keep, tied, modules);
        for preference in preferences {
            let Some(cuda) = on_recorder(preference, all) else { return };
            let found = trained(&cuda, keep, tied, modules);
            assert!(found == expected, "{keep:?}, tied: {tied}, {modules:?}, {preference:?}");
        }
    }
}

#[test]
fn what_rests_takes_no_memory_of_the_device_but_what_is_under_way() {
    let Some(emulator) = Emulator::new(Order::Forward) else { return };
    let on_host = OnHost { moments: false, gradients: false, values: true };
    let cuda = Cuda::resting(Slab::reserve(emulator, 1 << 20).unwrap(), on_host, SLICE).unwrap();
    let mut rests: Vec<_> = (0..400u64)
        .map(|seed| {
            let mut numbers = cuda.upload(&random(1000, seed)).unwrap();
            cuda.put_away(Resting::Value, &mut numbers).unwrap();
            numbers
        })
        .collect();
    // 400 times 4,000 bytes are more than there is; 32 slices of 520 bytes may be under way
    assert!(cuda.device().taken() <= 32 * 520, "{}", cuda.device().taken());
    for (seed, numbers) in (0..).zip(&mut rests) {
        cuda.fetch(numbers).unwrap();
        assert_eq!(bits(&cuda.download(numbers).unwrap()), bits(&random(1000, seed)));
        cuda.put_away(Resting::Value, numbers).unwrap();
    }
    cuda.trim();
    assert_eq!(cuda.device().taken(), 0);
    // a gradient stays where it was said that values rest
    let mut gradient = cuda.upload(&random(1000, 1)).unwrap();
    cuda.put_away(Resting::Gradient, &mut gradient).unwrap();
    assert!(cuda.device().taken() >= 4000);
}

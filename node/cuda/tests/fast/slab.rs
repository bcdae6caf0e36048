use std::ops::ControlFlow;

use talkoot_cuda::{
    Cuda,
    blank::{Way, parts},
    fast::TensorCores,
    slab::Slab,
};
use talkoot_emulator::{Emulator, Order, Products};
use talkoot_trainer::{
    arena::ALIGNMENT,
    backend::{Backend, BackendError},
    batch::{Image, NOT_LEARNED, Pack},
    contribution::CodecSettings,
    inner::{InnerPlan, Normalisation, OptimizerSettings, Start, run_inner_steps_on},
    modules::Module,
    moments::MomentFormat,
    plan::{Ahead, Class, How, Load, OnHost, SLICE_WORDS, Task, Values, usual_keep},
    state::State,
    trace::StepRecord,
};

use crate::{testkit::rounded, training::model};

fn slab(bytes: usize) -> Option<Slab<Emulator>> {
    Some(Slab::reserve(Emulator::new(Order::Forward)?, bytes).unwrap())
}

#[test]
fn pieces_keep_their_numbers_and_come_back() {
    let Some(slab) = slab(64 << 10) else { return };
    let cuda = Cuda::new(slab);
    let a = cuda.upload(&[1.0; 100]).unwrap();
    let b = cuda.upload(&[2.0; 1000]).unwrap();
    drop(a);
    let mut c = cuda.zeros(50).unwrap();
    cuda.add(&cuda.upload(&[3.0; 50]).unwrap(), &mut c).unwrap();
    assert_eq!(cuda.download(&c).unwrap(), [3.0; 50]);
    assert_eq!(cuda.download(&b).unwrap(), [2.0; 1000]);
    drop((b, c));
    assert_eq!(cuda.device().taken(), 0);
}

#[test]
fn a_slab_that_is_full_says_so_and_goes_on() {
    let Some(slab) = slab(16 * ALIGNMENT as usize) else { return };
    let cuda = Cuda::new(slab);
    let kept = cuda.scratch(600).unwrap();
    let refused = cuda.scratch(600).unwrap_err();
    assert!(matches!(refused, BackendError::OutOfMemory { bytes: 2400 }), "{refused}");
    drop(kept);
    cuda.scratch(600).unwrap();
    assert!(slab_of_more_than_there_is());
}

fn slab_of_more_than_there_is() -> bool {
    let Some(emulator) = Emulator::new(Order::Forward) else { return true };
    emulator.faults().add(talkoot_emulator::Fault::Room { bytes: 1000 });
    Slab::reserve(emulator, 2000).is_err()
}

/// The promise of `talkoot plan`, held where there is no GPU: the same arena, the same kernels, the same sequence, to the byte.
#[test]
fn the_slabs_peak_is_what_was_planned() {
    let config = model();
    let load = Load::new(&config, 2, 128, 0.5).unwrap();
    let (side, patch) = (load.picture_side as usize, config.vision.patch_size as u32);
    let pixels = load.picture_side * patch;
    let mut pack = Pack::default();
    for i in 0..load.pictures {
        let seen = side * side / config.vision.patches_per_token();
        let words =
            (load.tokens / load.pictures + u32::from(i < load.tokens % load.pictures)) as usize - seen;
        pack.tokens.extend([vec![config.image_token_id; seen], vec![9; words]].concat());
        // as a load has it, the first word behind a picture is not learned
        pack.labels.extend([vec![NOT_LEARNED; seen + 1], vec![9; words - 1]].concat());
        pack.sample_lengths.push((seen + words) as u32);
        let rgb = vec![77; 3 * (pixels * pixels) as usize];
        pack.images.push(Image { width: pixels, height: pixels, rgb });
    }
    let optimizer = OptimizerSettings {
        peak_learning_rate: 1e-3,
        final_learning_rate: 1e-3,
        warmup_steps: 0,
        total_steps: 2,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.0,
        clip_norm: 1.0,
        moments: MomentFormat::F32,
    };
    let plan = InnerPlan {
        trainable: Module::ALL.to_vec(),
        optimizer,
        normalisation: Normalisation::Token,
        first_step: 0,
        digest_interval: 0,
        steps: vec![vec![0, 1]; 2],
    };
    // as a checkpoint that was released: bf16 numbers
    let mut state = State::initial(&config, 3);
    for tensor in state.tensors.values_mut() {
        tensor.values = rounded(&tensor.values);
    }
    let packs = vec![pack; 2];
    let all = OnHost { moments: true, gradients: true, values: true };
    let moments_there = OnHost { moments: true, ..OnHost::NOTHING };
    let (exact, fast, by_library) = ((Class::Exact, false), (Class::Fast, false), (Class::Fast, true));
    for ((class, library), modules, moments, on_host) in [
        (fast, &Module::ALL[..], MomentFormat::F32, OnHost::NOTHING),
        (fast, &[Module::Language], MomentFormat::EightBit, moments_there),
        (by_library, &[Module::Merger], MomentFormat::F32, OnHost { values: true, ..OnHost::NOTHING }),
        (exact, &Module::ALL, MomentFormat::F32, OnHost { moments: false, ..all }),
        (exact, &Module::ALL, MomentFormat::EightBit, all),
        (exact, &[Module::Merger], MomentFormat::F32, OnHost::NOTHING),
        (exact, &[Module::Language], MomentFormat::F32, all),
    ] {
        let way = Way { class, library, on_host };
        let mut plan = plan.clone();
        (plan.optimizer.moments, plan.trainable) = (moments, modules.to_vec());
        let task = Task::new(&config, modules, load, CodecSettings::default()).unwrap();
        let how = How { keep: usual_keep(&config), moments, frozen: Values::Bf16 };
        let bytes = parts(&(&task, how), way).unwrap().highest;
        let ahead = Ahead::of(&config, &state, &plan, &packs).unwrap().unwrap();
        assert_eq!(parts(&ahead, way).unwrap().highest, bytes, "with the packs themselves, {way:?}");
        let run = |bytes: u64| {
            let products = if library { Products::Present } else { Products::Absent };
            let emulator = Emulator::new(Order::Forward)?.with_library(products);
            let slab = Slab::reserve(emulator, bytes as usize).unwrap();
            let cuda = Cuda::resting(slab, on_host, SLICE_WORDS).unwrap();
            let from = Start { state: &state, moments: None };
            let mut unwatched = |_: usize, _: &StepRecord| ControlFlow::Continue(());
            if class == Class::Exact {
                let done = run_inner_steps_on(&cuda, &config, from, &plan, &packs, &mut unwatched);
                return Some((done.is_ok(), cuda.device().highest()));
            }
            let cores = TensorCores::of(cuda.device()).unwrap();
            let fast = cuda.in_class(cores);
            let done = run_inner_steps_on(&fast, &config, from, &plan, &packs, &mut unwatched);
            Some((done.is_ok(), fast.device().highest()))
        };
        let Some(found) = run(bytes) else { return };
        assert_eq!(found, (true, bytes), "{way:?}, {modules:?}");
        if modules.len() == 1 && class == Class::Exact {
            let (done, highest) = run(bytes - ALIGNMENT).unwrap();
            assert!(!done && highest < bytes, "one piece less is too little: {way:?}, {modules:?}");
        }
    }
}

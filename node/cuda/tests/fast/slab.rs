use std::ops::ControlFlow;

use talkoot_cuda::{
    Cuda,
    blank::{Way, slab_bytes},
    fast::TensorCores,
    slab::Slab,
};
use talkoot_emulator::{Emulator, Order};
use talkoot_trainer::{
    arena::ALIGNMENT,
    backend::{Backend, BackendError},
    batch::{Image, NOT_LEARNED, Pack},
    contribution::CodecSettings,
    inner::{InnerPlan, Normalisation, OptimizerSettings, Start, run_inner_steps_on},
    model::Keep,
    modules::Module,
    moments::MomentFormat,
    plan::{Class, Device as PlanDevice, Load, MomentType, Offload, SLICE_WORDS, Setting, Task, Values},
    state::State,
    trace::StepRecord,
};

use crate::training::model;

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

/// The promise of `talkoot plan`, held where there is no GPU: the same arena, the same kernels, the same sequence.
#[test]
fn the_slabs_peak_is_what_was_planned() {
    let config = model();
    let load = Load::new(&config, 2, 128, 0.5).unwrap();
    let task = Task::new(&config, &Module::ALL, load, CodecSettings::default()).unwrap();
    let setting = Setting {
        device: PlanDevice::Gpu,
        class: Class::Fast,
        keep: Keep::Everything,
        moments: MomentType::F32,
        offload: Offload::Nothing,
        values: Values::F32,
        frozen: Values::F32,
    };
    let need = task.rehearse(PlanDevice::Gpu).unwrap().need(setting);
    let own = |name: &str| !name.starts_with("driver");
    let planned: u64 = need.device.iter().filter(|item| own(item.name)).map(|item| item.bytes).sum();

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
    let (state, packs) = (State::initial(&config, 3), vec![pack; 2]);
    // what the processor would plan for is within a twentieth: lists of rows and sums of parts are missing there
    let way = Way { class: Class::Fast, keep: Keep::Everything, moments: MomentFormat::F32, offload: false };
    let exact = slab_bytes(&task, way).unwrap();
    assert!((planned..=planned + planned / 20).contains(&exact), "{exact} bytes, {planned} planned");
    // what the code takes when it is played without numbers is what it takes, to the byte
    for (class, moments, offload) in [
        (Class::Fast, MomentFormat::F32, false),
        (Class::Fast, MomentFormat::EightBit, true),
        (Class::Exact, MomentFormat::EightBit, false),
        (Class::Exact, MomentFormat::F32, true),
    ] {
        let way = Way { class, moments, offload, keep: Keep::Everything };
        let mut plan = plan.clone();
        plan.optimizer.moments = moments;
        let bytes = slab_bytes(&task, way).unwrap();
        let run = |bytes: u64| {
            let slab = slab(bytes as usize)?;
            let cuda = if offload { Cuda::offloading(slab, SLICE_WORDS).unwrap() } else { Cuda::new(slab) };
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
        assert_eq!(found, (true, bytes), "{way:?}");
        if moments == MomentFormat::F32 && !offload {
            let (done, highest) = run(bytes - ALIGNMENT).unwrap();
            assert!(!done && highest < bytes, "one piece less is too little");
        }
    }
}

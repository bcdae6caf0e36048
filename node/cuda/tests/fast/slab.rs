use std::ops::ControlFlow;

use talkoot_cuda::{Cuda, device::Device, slab::Slab};
use talkoot_emulator::{Emulator, Order};
use talkoot_trainer::{
    arena::ALIGNMENT,
    backend::{Backend, BackendError},
    batch::{Image, NOT_LEARNED, Pack},
    contribution::CodecSettings,
    inner::{InnerPlan, Normalisation, OptimizerSettings, Start, run_inner_steps_on},
    model::Keep,
    modules::Module,
    plan::{Class, Device as PlanDevice, Load, MomentType, Offload, Setting, Task, Values},
    state::State,
};

use crate::{testkit::in_fast, training::model};

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
        pack.labels.extend([vec![NOT_LEARNED; seen], vec![9; words]].concat());
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
    };
    let plan = InnerPlan {
        trainable: Module::ALL.to_vec(),
        optimizer,
        normalisation: Normalisation::Token,
        first_step: 0,
        digest_interval: 0,
        steps: vec![vec![0, 1]; 2],
    };
    // enough for what was planned and no more than a twentieth beside it: lists of rows, sums of parts
    let Some(slab) = slab(planned as usize + planned as usize / 20) else { return };
    let fast = in_fast(slab);
    let (state, packs) = (State::initial(&config, 3), vec![pack; 2]);
    let from = Start { state: &state, moments: None };
    run_inner_steps_on(&fast, &config, from, &plan, &packs, &mut |_, _| ControlFlow::Continue(())).unwrap();
    let highest = fast.device().highest();
    assert!((planned..=planned + planned / 20).contains(&highest), "{highest} bytes, {planned} planned");
    assert!(!fast.device().keeps_memory());
}

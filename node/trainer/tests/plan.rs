//! The plan for the processor, held to what training really allocates: every allocation of this process is counted.
#![allow(unsafe_code, reason = "counting what is allocated needs an allocator")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "in a test a panic is the report")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    ops::ControlFlow,
    sync::atomic::{AtomicU64, Ordering},
};

use talkoot_trainer::{
    batch::{Image, NOT_LEARNED, Pack},
    config::ModelConfig,
    contribution::CodecSettings,
    cpu::Cpu,
    inner::{InnerPlan, Normalisation, OptimizerSettings, Start, run_inner_steps_on},
    modules::Module,
    moments::MomentFormat,
    plan::{self, Class, Device, Load, OnHost, Setting, Task, Values},
    state::State,
};

/// The system's allocator, and how much of it is in use.
struct Counting;

static NOW: AtomicU64 = AtomicU64::new(0);
static PEAK: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is the system's; only numbers are kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size() as u64, Ordering::Relaxed) + layout.size() as u64;
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: as our caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size() as u64, Ordering::Relaxed) + layout.size() as u64;
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: as our caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: as our caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const TOKENS: u32 = 256;

/// A pack as [`Load`] has it: pictures with words behind them, every word learned.
fn pack(config: &ModelConfig, load: &Load) -> Pack {
    let side = load.picture_side as usize;
    let seen = side * side / config.vision.patches_per_token();
    let pixels = load.picture_side * config.vision.patch_size as u32;
    let mut pack = Pack::default();
    for i in 0..load.pictures {
        let length = load.tokens / load.pictures + u32::from(i < load.tokens % load.pictures);
        let words = length as usize - seen;
        pack.tokens.extend(vec![config.image_token_id; seen]);
        pack.tokens.extend(vec![1; words]);
        pack.labels.extend(vec![NOT_LEARNED; seen]);
        pack.labels.extend(vec![1; words]);
        pack.sample_lengths.push(length);
        let rgb = vec![100; 3 * (pixels * pixels) as usize];
        pack.images.push(Image { width: pixels, height: pixels, rgb });
    }
    pack
}

fn steps(trainable: &[Module], packs: u64) -> InnerPlan {
    let optimizer = OptimizerSettings {
        peak_learning_rate: 1e-4,
        final_learning_rate: 1e-4,
        warmup_steps: 0,
        total_steps: 3,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.0,
        clip_norm: 1.0,
        moments: MomentFormat::F32,
    };
    InnerPlan {
        trainable: trainable.to_vec(),
        optimizer,
        normalisation: Normalisation::Token,
        first_step: 0,
        digest_interval: 0,
        steps: vec![(0..packs).collect(); 3],
    }
}

/// Bytes that three steps take on top of what there was before, and the device's share of the plan.
fn measured_and_planned(name: &str, modules: &[Module], packs: u32) -> (u64, u64) {
    let config = plan::model(name).unwrap();
    let load = Load::new(&config, packs, TOKENS, 0.5).unwrap();
    let start = State::initial(&config, 1);
    let source: Vec<Pack> = vec![pack(&config, &load); packs as usize];
    let plan = steps(modules, u64::from(packs));
    let cpu = Cpu::default();
    // threads come into being, with all that is theirs
    rayon::broadcast(|_| ());
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let from = Start { state: &start, moments: None };
    let done = run_inner_steps_on(&cpu, &config, from, &plan, &source, &mut |_, _| ControlFlow::Continue(()));
    assert_eq!(done.unwrap().0.trace.steps.len(), 3);
    let measured = PEAK.load(Ordering::Relaxed) - before;

    let device = Device::Cpu { threads: rayon::current_num_threads() };
    let task = Task::new(&config, modules, load, CodecSettings::default()).unwrap();
    let rehearsed = task.rehearse(device).unwrap();
    let setting = Setting {
        device,
        class: Class::Exact,
        library: false,
        keep: rehearsed.keep(),
        moments: MomentFormat::F32,
        on_host: OnHost::NOTHING,
        frozen: Values::F32,
    };
    let need = rehearsed.need(setting, Vec::new());
    // the start is not counted above, and what comes after the steps is not part of them
    let around = ["weights that the round starts", "pseudo-gradient", "error feedback", "contribution"];
    let (all, _) = task.parameters();
    let of_steps = need.host.iter().filter(|item| !around.iter().any(|name| item.name.starts_with(name)));
    let end = 4 * all;
    (measured, of_steps.map(|item| item.bytes).sum::<u64>() + end)
}

/// One test, as others beside it would be counted too.
#[test]
fn what_the_processor_allocates_is_what_was_planned() {
    for (name, modules, packs) in [
        ("demo", &Module::ALL[..], 4),
        ("demo", &[Module::Merger], 4),
        ("mid", &Module::ALL, 1),
        ("mid", &[Module::Merger], 2),
    ] {
        let (measured, planned) = measured_and_planned(name, modules, packs);
        let ratio = planned as f64 / measured as f64;
        println!("{name}, {modules:?}, {packs} packs: measured {measured}, planned {planned}, {ratio:.3}");
        // a plan may promise a sixth too much, never too little: what the shelf holds for later is counted whole
        assert!((0.95..1.2).contains(&ratio), "{name}, {modules:?}: {measured} bytes, {planned} planned");
    }
}

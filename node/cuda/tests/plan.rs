//! What `talkoot plan` promises of a GPU's memory, by the code that trains there. None of it was run on a GPU yet.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "in a test a panic is the report, and pages are for who reads it"
)]

use talkoot_cuda::plan::{CONTEXT_BYTES, on_gpu, slab_of};
use talkoot_trainer::{
    contribution::CodecSettings,
    modules::Module,
    moments::MomentFormat,
    plan::{
        Answer, Budget, Class, Device, Load, Need, OnHost, Rates, Setting, Task, Wishes, answer, model, page,
    },
};

const GIB: u64 = 1 << 30;

fn choose(
    name: &str,
    modules: &[Module],
    (packs, tokens): (u32, u32),
    wishes: Wishes,
    memory: u64,
) -> Answer {
    let config = model(name).unwrap();
    let load = Load::new(&config, packs, tokens, 0.5).unwrap();
    let task = Task::new(&config, modules, load, CodecSettings::default()).unwrap();
    let rehearsed = task.rehearse(Device::Gpu).unwrap();
    let budget = Budget { device: Some(memory), host: None };
    let memory = |setting: &Setting| on_gpu(&task, setting);
    let found = answer(&rehearsed, &memory, wishes, budget, Rates::default()).unwrap();
    println!("{}\n", page(name, &task, &found));
    found
}

fn bytes(need: &Need, name: &str) -> u64 {
    need.device.iter().find(|item| item.name == name).map_or(0, |item| item.bytes)
}

const ALL: OnHost = OnHost { moments: true, gradients: true, values: true };

/// Issue 7's goals: packs of 8,192 tokens, half of them pictures', two at least so that gradients are added to.
#[test]
fn the_goals_for_home_gpus_are_kept() {
    for (name, modules, memory) in [
        ("1b", &Module::ALL[..], 16 * GIB),
        ("4b", &Module::ALL, 24 * GIB),
        ("8b", &[Module::Merger], 24 * GIB),
    ] {
        for class in [Class::Fast, Class::Exact] {
            let wishes = Wishes { class: Some(class), moments: Some(MomentFormat::F32), ..Wishes::default() };
            let found = choose(name, modules, (8, 8192), wishes, memory);
            let cheapest = found.cheapest.unwrap_or_else(|| panic!("{name}, {class:?}: nothing fits"));
            assert!(cheapest.need.device_bytes() <= memory, "{name}, {class:?}");
            println!("{name} {class:?}: slab {:.2} GiB", slab_of(&cheapest.need.device) as f64 / GIB as f64);
            assert!(found.smallest.need.device_bytes() <= memory, "{name}, {class:?}");
            let context = cheapest.need.device.iter().any(|item| item.bytes == CONTEXT_BYTES);
            assert!(context, "the driver's share is counted");
        }
    }
}

#[test]
fn weights_and_moments_are_those_of_the_shapes() {
    let wishes = |on_host| Wishes {
        class: Some(Class::Exact),
        moments: Some(MomentFormat::F32),
        on_host: Some(on_host),
        ..Wishes::default()
    };
    let parameters = model("small").unwrap().parameter_count() as u64;
    let near = |bytes: u64, expected: u64| bytes >= expected && bytes < expected + expected / 1000;
    let need = choose("small", &Module::ALL, (1, 1024), wishes(OnHost::NOTHING), GIB).asked.need;
    assert!(near(bytes(&need, "weights"), 4 * parameters), "{need:?}");
    assert!(near(bytes(&need, "moments"), 8 * parameters), "{need:?}");
    assert!(bytes(&need, "gradients, values, what a block works with") > 4 * parameters);
    let need = choose("small", &Module::ALL, (1, 1024), wishes(ALL), GIB).asked.need;
    assert_eq!(bytes(&need, "moments"), 0);
    assert!(bytes(&need, "gradients, values, what a block works with") < 4 * parameters, "{need:?}");
    // frozen matrices are held in halves
    let need = choose("small", &[Module::Merger], (1, 1024), wishes(OnHost::NOTHING), GIB).asked.need;
    let merger = need.host.iter().find(|item| item.name == "pseudo-gradient").unwrap().bytes;
    assert!(bytes(&need, "weights") < 2 * parameters + merger + parameters / 100, "{need:?}");
}

#[test]
fn a_step_that_nothing_can_fit_is_told_and_the_smallest_is_named() {
    let found = choose("4b", &Module::ALL, (1, 8192), Wishes::default(), 4 * GIB);
    assert!(found.cheapest.is_none() && !found.asked.fits);
    assert_eq!(found.smallest.need.setting.on_host, ALL);
    let config = model("4b").unwrap();
    let load = Load::new(&config, 1, 8192, 0.5).unwrap();
    let task = Task::new(&config, &Module::ALL, load, CodecSettings::default()).unwrap();
    let text = page("4b", &task, &found);
    assert!(text.contains("No setting fits") && text.contains("was run on one yet"), "{text}");
}

#[test]
fn more_packs_take_no_more_memory() {
    let need = |packs| choose("mid", &Module::ALL, (packs, 1024), Wishes::default(), GIB).asked.need;
    assert_eq!(need(8).device, need(64).device);
}

#![allow(clippy::print_stdout, reason = "the pages are for who reads the test")]

use super::*;
use crate::{contribution::CodecSettings, model::Keep, modules::Module};

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
    answer(&rehearsed, Device::Gpu, wishes, budget, Rates::default()).unwrap()
}

fn bytes(need: &Need, name: &str) -> u64 {
    need.device.iter().find(|item| item.name == name).map_or(0, |item| item.bytes)
}

#[test]
fn weights_gradients_and_moments_are_those_of_the_shapes() {
    let wishes = Wishes { class: Some(Class::Exact), ..Wishes::default() };
    for name in ["small", "1b"] {
        let need = choose(name, &Module::ALL, (1, 1024), wishes, GIB).asked.need;
        let parameters = model(name).unwrap().parameter_count() as u64;
        assert_eq!(bytes(&need, "weights"), 4 * parameters, "{name}");
        assert_eq!(bytes(&need, "moments"), 8 * parameters, "{name}");
        // most is in use before the last gradients have come, or when all have
        let gradients = bytes(&need, "gradients");
        assert!(gradients > parameters && gradients <= 4 * parameters, "{name}: {gradients}");
    }
}

#[test]
fn operations_are_those_of_the_textbook() {
    // text alone: 6 operations a parameter of the linear maps and a token, and 12 l h d s^2 / 2 of causal attention
    let config = model("1b").unwrap();
    let load = Load::new(&config, 3, 2048, 0.0).unwrap();
    let task = Task::new(&config, &[Module::Language], load, CodecSettings::default()).unwrap();
    let rehearsed = task.rehearse(Device::Gpu).unwrap();
    let t = &config.text;
    let heads = t.num_attention_heads * t.head_dim;
    let layer = 2 * t.hidden_size * (heads + t.num_key_value_heads * t.head_dim)
        + 3 * t.hidden_size * t.intermediate_size;
    let (tokens, layers) = (2048u128, t.num_hidden_layers as u128);
    let maps = 6 * tokens * layers * layer as u128;
    let head = 6 * (tokens - 1) * (t.vocab_size * t.hidden_size) as u128;
    let attention = 12 * layers * heads as u128 * tokens * (tokens + 1) / 2;
    let setting = |keep| Setting {
        device: Device::Gpu,
        class: Class::Fast,
        keep,
        moments: MomentType::F32,
        offload: Offload::Nothing,
        values: Values::F32,
        frozen: Values::F32,
    };
    let kept = rehearsed.need(setting(Keep::Everything));
    assert_eq!(kept.model_flops, 3 * (maps + head + attention));
    assert_eq!(kept.executed_flops, 3 * (maps + head + attention / 12 * 14));
    let again = rehearsed.need(setting(Keep::Inputs));
    assert_eq!(again.model_flops, kept.model_flops);
    // queries, keys, values, gate and up are computed again; what goes out of attention and MLP is not
    let outwards = 2 * tokens * layers * (t.hidden_size * (heads + t.intermediate_size)) as u128;
    assert_eq!(again.executed_flops - kept.executed_flops, 3 * (maps / 3 - outwards));
}

#[test]
fn alignment_of_the_8b_model_fits_24_gib_where_frozen_weights_are_bf16() {
    let found = choose("8b", &[Module::Merger], (4, 2048), Wishes::default(), 24 * GIB);
    let cheapest = found.cheapest.unwrap();
    assert!(cheapest.need.device_bytes() <= 24 * GIB);
    assert!(
        cheapest.need.setting.frozen == Values::Bf16 && cheapest.lacks.contains(&"frozen weights in bf16")
    );
    assert!(found.cheapest_built.is_none());
    let exact = Wishes { class: Some(Class::Exact), ..Wishes::default() };
    let found = choose("8b", &[Module::Merger], (4, 2048), exact, 24 * GIB);
    assert!(found.cheapest.is_none(), "34 GB of f32 weights are more than 24 GiB");
}

/// What the first runs on GPUs are to keep. None of it was run on one yet.
#[test]
fn the_goals_for_home_gpus_are_answered() {
    for (name, modules, memory, longest) in [
        ("1b", &Module::ALL[..], 16 * GIB, 8192),
        ("4b", &Module::ALL, 24 * GIB, 8192),
        // its frozen weights leave no room for the values of longer packs
        ("8b", &[Module::Merger], 24 * GIB, 2048),
    ] {
        for tokens in [1024, 2048, 8192].into_iter().filter(|tokens| *tokens <= longest) {
            let found = choose(name, modules, (8, tokens), Wishes::default(), memory);
            let config = model(name).unwrap();
            let load = Load::new(&config, 8, tokens, 0.5).unwrap();
            let task = Task::new(&config, modules, load, CodecSettings::default()).unwrap();
            println!("{}\n", page(name, &task, &found));
            let cheapest = found.cheapest.unwrap_or_else(|| panic!("{name}, {tokens} tokens: nothing fits"));
            assert!(cheapest.need.device_bytes() <= memory, "{name}, {tokens}");
            assert!(found.smallest.need.device_bytes() <= memory, "{name}, {tokens}");
        }
    }
}

#[test]
fn a_step_that_nothing_can_fit_is_told_and_the_smallest_is_named() {
    let found = choose("4b", &Module::ALL, (1, 8192), Wishes::default(), 4 * GIB);
    assert!(found.cheapest.is_none() && !found.asked.fits);
    assert_eq!(found.smallest.need.setting.offload, Offload::Optimizer);
    let config = model("4b").unwrap();
    let load = Load::new(&config, 1, 8192, 0.5).unwrap();
    let task = Task::new(&config, &Module::ALL, load, CodecSettings::default()).unwrap();
    let text = page("4b", &task, &found);
    assert!(
        text.contains("No setting fits") && text.contains("not run") || text.contains("was run on one yet"),
        "{text}"
    );
}

#[test]
fn more_packs_cost_time_and_not_memory() {
    let need = |packs| choose("mid", &Module::ALL, (packs, 1024), Wishes::default(), GIB).asked.need;
    let (few, many) = (need(8), need(64));
    assert_eq!(few.device, many.device);
    assert_eq!(8 * few.executed_flops, many.executed_flops);
}

#[test]
fn loads_out_of_bounds_are_refused() {
    let config = model("demo").unwrap();
    for (packs, tokens, share) in
        [(0, 10, 0.0), (1, 1, 0.0), (1, MAX_TOKENS + 1, 0.0), (1, 10, f64::NAN), (1, 10, 1.0)]
    {
        assert!(matches!(Load::new(&config, packs, tokens, share), Err(PlanError::Load { .. })));
    }
    let load = Load::new(&config, 1, 100, 0.0).unwrap();
    assert!(matches!(
        Task::new(&config, &[], load, CodecSettings::default()),
        Err(PlanError::NothingTrained)
    ));
}

#[test]
fn every_name_is_a_model() {
    for name in MODELS {
        assert!(model(name).is_some_and(|config| config.validate().is_ok()), "{name}");
    }
    assert!(model("9b").is_none());
}

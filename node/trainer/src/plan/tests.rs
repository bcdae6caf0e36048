use super::*;
use crate::{contribution::CodecSettings, model::Keep, modules::Module, moments::MomentFormat};

/// No memory of a GPU is asked about here: that is `talkoot-cuda`'s to say.
fn no_gpu(_: &Setting) -> Result<Vec<Item>, PlanError> {
    Ok(Vec::new())
}

#[test]
fn operations_are_those_of_the_textbook() {
    // text alone: 6 operations a parameter of the linear maps and a token, and 12 l h d s^2 / 2 of causal attention
    let config = model("1b").unwrap();
    let load = Load::new(&config, 3, 2048, 0.0).unwrap();
    let task = Task::new(&config, &[Module::Language], load, CodecSettings::default()).unwrap();
    let t = &config.text;
    let heads = t.num_attention_heads * t.head_dim;
    let layer = 2 * t.hidden_size * (heads + t.num_key_value_heads * t.head_dim)
        + 3 * t.hidden_size * t.intermediate_size;
    let (tokens, layers) = (2048u128, t.num_hidden_layers as u128);
    let maps = 6 * tokens * layers * layer as u128;
    let head = 6 * (tokens - 1) * (t.vocab_size * t.hidden_size) as u128;
    let attention = 12 * layers * heads as u128 * tokens * (tokens + 1) / 2;
    let need = |keep| {
        let setting = Setting {
            device: Device::Gpu,
            class: Class::Fast,
            library: true,
            keep,
            moments: MomentFormat::F32,
            on_host: OnHost::NOTHING,
            frozen: Values::F32,
        };
        task.rehearse_keeping(Device::Gpu, keep).unwrap().need(setting, Vec::new())
    };
    let kept = need(Keep::Everything);
    assert_eq!(kept.model_flops, 3 * (maps + head + attention));
    assert_eq!(kept.executed_flops, 3 * (maps + head + attention / 12 * 14));
    let again = need(Keep::Inputs);
    assert_eq!(again.model_flops, kept.model_flops);
    // queries, keys, values, gate and up are computed again; what goes out of attention and MLP is not
    let outwards = 2 * tokens * layers * (t.hidden_size * (heads + t.intermediate_size)) as u128;
    assert_eq!(again.executed_flops - kept.executed_flops, 3 * (maps / 3 - outwards));
}

#[test]
fn more_packs_cost_time_and_not_memory() {
    let config = model("mid").unwrap();
    let need = |packs| {
        let load = Load::new(&config, packs, 1024, 0.5).unwrap();
        let task = Task::new(&config, &Module::ALL, load, CodecSettings::default()).unwrap();
        let rehearsed = task.rehearse(Device::Gpu).unwrap();
        answer(&rehearsed, &no_gpu, Wishes::default(), Budget::default(), Rates::default())
            .unwrap()
            .asked
            .need
    };
    let (few, many) = (need(8), need(64));
    assert_eq!(8 * few.executed_flops, many.executed_flops);
    assert_eq!(8 * few.bus_bytes, many.bus_bytes);
}

#[test]
fn what_rests_on_the_host_is_counted_there_and_on_the_bus() {
    let config = model("mid").unwrap();
    let load = Load::new(&config, 8, 1024, 0.5).unwrap();
    let task = Task::new(&config, &Module::ALL, load, CodecSettings::default()).unwrap();
    let rehearsed = task.rehearse(Device::Gpu).unwrap();
    let need = |on_host| {
        let wishes = Wishes { on_host: Some(on_host), moments: Some(MomentFormat::F32), ..Wishes::default() };
        answer(&rehearsed, &no_gpu, wishes, Budget::default(), Rates::default()).unwrap().asked.need
    };
    let plain = need(OnHost::NOTHING);
    let (_, trained) = task.parameters();
    let of = |on_host| {
        let need = need(on_host);
        (need.host_bytes() - plain.host_bytes(), need.bus_bytes - plain.bus_bytes)
    };
    assert_eq!(of(OnHost { moments: true, ..OnHost::NOTHING }), (8 * trained, 16 * trained));
    // packs of 1,024 tokens and 512 patches go through the model two at a time
    let groups = u64::from(load.packs.div_ceil(load.together()));
    assert!(groups > 1);
    assert_eq!(of(OnHost { gradients: true, ..OnHost::NOTHING }), (4 * trained, 8 * groups * trained));
    // at least inputs, middles and what attention mixed, of every layer and block
    let (t, v) = (&config.text, &config.vision);
    let layer = t.num_hidden_layers * (2 * t.hidden_size + t.num_attention_heads * t.head_dim);
    let (rows, patches) = (u64::from(load.tokens), load.patches());
    let least = 4 * (rows * layer as u64 + patches * (3 * v.depth * v.hidden_size) as u64);
    let (there, copied) = of(OnHost { values: true, ..OnHost::NOTHING });
    assert!(there >= u64::from(load.together()) * least, "{there} of {least}");
    assert!(copied >= 2 * u64::from(load.packs) * least, "{copied} of {least}");
}

#[test]
fn a_processor_has_nowhere_to_offload_to() {
    let config = model("demo").unwrap();
    let load = Load::new(&config, 1, 100, 0.0).unwrap();
    let task = Task::new(&config, &Module::ALL, load, CodecSettings::default()).unwrap();
    let rehearsed = task.rehearse(Device::Cpu { threads: 1 }).unwrap();
    let wishes = Wishes { on_host: Some(OnHost { moments: true, ..OnHost::NOTHING }), ..Wishes::default() };
    let refused = answer(&rehearsed, &no_gpu, wishes, Budget::default(), Rates::default());
    assert!(matches!(refused, Err(PlanError::Wishes(_))));
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

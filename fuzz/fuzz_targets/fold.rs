//! The fold: any bytes as entry 0, and any event, rightly signed, as entry 1. A refused entry changes nothing.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use talkoot_protocol::{
    canonical,
    digest::BlobRef,
    entry::{Entry, Statement},
    event::Event,
    identity::Keypair,
    manifest::{Bindings, DatasetBinding, Manifest, Terms},
    run::RunState,
};

static OPERATOR: LazyLock<Keypair> = LazyLock::new(|| Keypair::from_seed([1; 32]));

static START: LazyLock<RunState> = LazyLock::new(|| {
    let terms =
        Terms::from_toml(include_str!("../../src/demo/terms.toml")).expect("the demo's terms are valid");
    let dataset = |_: &_| DatasetBinding { index: BlobRef::of(b"index"), packs: 97, periods: None };
    let bindings = Bindings {
        operator: OPERATOR.id(),
        log_key: "example.org/run+00000000+AA==".to_owned(),
        config: BlobRef::of(b"config"),
        tokenizer: BlobRef::of(b"tokenizer"),
        initial_state: BlobRef::of(b"state"),
        datasets: terms.stages.iter().map(dataset).collect(),
    };
    let manifest = Manifest { terms, bindings };
    let run = manifest.id();
    let statement = Statement::sign(run, &OPERATOR, &Event::Manifest(Box::new(manifest)));
    RunState::begin(&Entry::new(0, 1_000, statement).to_bytes()).expect("the first entry is valid")
});

fuzz_target!(|data: &[u8]| {
    let _ = RunState::begin(data);
    let mut state = START.clone();
    let _ = state.apply(data);
    assert_eq!(state.size(), 1, "no such bytes are signed");
    if let Ok(event) = canonical::from_bytes::<Event>("event", data, 60_000) {
        let statement = Statement::sign(state.run(), &OPERATOR, &event);
        let before = state.root();
        let taken = state.apply(&Entry::new(1, 2_000, statement).to_bytes());
        assert_eq!(taken.is_ok(), state.size() == 2);
        assert_eq!(taken.is_err(), state.root() == before);
    }
});

//! Class `fast` between real processes: limits are measured, members whose arithmetics round differently pass within them, and a
//! liar does not.

mod support;

use std::{fs, ops::ControlFlow};

use support::{TERMS, World, run_badly, run_well};
use talkoot_cuda::{Cuda, fast::TensorCores};
use talkoot_dataset::{DatasetManifest, Tokenizer};
use talkoot_emulator::{Emulator, Order};
use talkoot_execution::{Job, Packs, execute_with, open_packs};
use talkoot_protocol::{
    digest::BlobRef,
    identity::Keypair,
    manifest::{Bindings, DatasetBinding, Manifest, Terms},
};
use talkoot_trainer::{presets::demo_model, state::State};
use talkoot_verifier::calibrate::{Calibration, TENSOR_CORES};

#[test]
fn members_of_two_arithmetics_pass_within_measured_limits_and_a_liar_does_not() {
    let terms = TERMS
        .replace("inner_steps = 2", "inner_steps = 4")
        .replace("rounds = 5", "rounds = 3")
        .replace("probation = 1", "probation = 100");
    // a run of class exact, for its data and its tokenizer
    let data = World::new(&terms);
    let written = data.path("fast.toml");
    fs::write(&written, &terms).expect("terms");
    let at = |name: &str| data.path(name).display().to_string();
    let asked = [
        "verifier",
        "calibrate",
        "--terms",
        &at("fast.toml"),
        "--dataset",
        &at("packed/instruct.manifest"),
        "--tokenizer",
        &at("drawn/tokenizer.json"),
        "--members",
        "2",
        "--device",
        "cpu",
        "--write",
    ]
    .map(str::to_owned);
    let report = run_well(&asked.each_ref().map(String::as_str));
    assert!(report.contains("distance"), "{report}");
    assert!(report.contains("no tensor cores here"), "what was not measured is said: {report}");
    let calibrated = fs::read_to_string(&written).expect("terms");
    assert!(calibrated.contains("class = \"fast\"") && calibrated.contains("tolerance"), "{calibrated}");

    let world = World::new(&calibrated);
    let _coordinator = world.coordinator();
    let exact = world.member("node", "exact", &[]);
    let library = world.member("node", "library", &["--arithmetic", "library"]);
    let _lazy = world.member("node", "lazy", &["--cheat", "lazy"]);
    world.wait_for("three members", |state| support::trainers(state) == 3);
    let verifier = world.member("verifier", "verifier", &[]);
    let state = world.wait_for_the_end();
    let excluded = |name: &str| state.members()[&world.id_of(name, "node.key")].excluded.is_some();
    assert!(!excluded("exact"), "{}", exact.log());
    assert!(!excluded("library"), "{}\n{}", library.log(), verifier.log());
    assert!(excluded("lazy"), "{}", verifier.log());
    let (code, report) = world.audit("all");
    assert_ne!(code, Some(1), "{report}");
    // In a run of class exact the library's sums would be taken for lies, so the node says so first.
    let link = format!("@{}", data.path("run/link.txt").display());
    let _other = data.coordinator();
    let refused = run_badly(&[
        "node",
        "--dir",
        &at("x"),
        "--join",
        &link,
        "--listen",
        "127.0.0.1:0",
        "--bulk-listen",
        "127.0.0.1:0",
        "--arithmetic",
        "library",
    ]);
    assert!(refused.contains("the run's verification class is exact"), "{refused}");
}

/// Tensor cores are much further from the exact arithmetic than a library's sums, so limits have to have seen them.
#[test]
fn limits_that_have_seen_tensor_cores_let_them_pass() {
    let Some(emulator) = Emulator::new(Order::Forward) else { return };
    let data = World::new(TERMS);
    let bytes = fs::read(data.path("packed/instruct.manifest")).expect("a manifest");
    let index = DatasetManifest::from_bytes(&bytes).expect("a manifest").index;
    let bindings = Bindings {
        operator: Keypair::from_seed([9; 32]).id(),
        log_key: "calibration".to_owned(),
        config: BlobRef::of(b""),
        tokenizer: BlobRef::of(b""),
        initial_state: BlobRef::of(b""),
        datasets: vec![DatasetBinding {
            index: BlobRef::of(&bytes),
            packs: index.totals.packs,
            periods: None,
        }],
    };
    let manifest = Manifest { terms: Terms::from_toml(TERMS).expect("terms"), bindings };
    let folder = data.path("packed");
    let packs = open_packs(&bytes, move |digest| Some(folder.join(digest.to_string()))).expect("packs");
    let words = fs::read(data.path("drawn/tokenizer.json")).expect("a tokenizer");
    let tokenizer = Tokenizer::from_bytes(&words).expect("a tokenizer");
    let mut config = demo_model(tokenizer.vocab_size());
    config.image_token_id = tokenizer.special_ids().image_pad;
    let class = TensorCores::of(&emulator).expect("tensor cores");
    let backend = Cuda::new(emulator).in_class(class);
    let emulated = |job: &Job<'_>, packs: &Packs| {
        execute_with(&backend, job, packs, &mut |_, _| ControlFlow::Continue(()))
    };
    let measure = |tensor_cores| {
        let calibration = Calibration {
            manifest: &manifest,
            config: &config,
            start: &State::initial(&config, 3),
            stage: 0,
            packs: &packs,
            members: 1,
            threads: &[1],
            tensor_cores,
            margin: 2.0,
        };
        calibration.run(&mut |_| {}).expect("it can be measured")
    };
    let (without, with) = (measure(None), measure(Some(&emulated)));
    let worst = |at: usize| {
        let seen = with.honest.iter().filter(|sample| sample.what == TENSOR_CORES);
        seen.map(|sample| sample.distances.numbers()[at]).fold(0.0, f64::max)
    };
    assert!(worst(0) > 10.0 * without.limits[0], "bf16 is to be seen: {} {:?}", worst(0), without.limits);
    for at in 0..with.limits.len() {
        assert!(worst(at) <= with.limits[at], "{at}: {} {:?}", worst(at), with.limits);
    }
    eprintln!("limits {:?}, not told apart {:?}", with.limits, with.unseparated());
}

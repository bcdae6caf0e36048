//! `talkoot model` as a user types it, on folders that a user has.

mod support;

use std::{fs, path::Path};

use support::{run_badly, run_well};
use talkoot_trainer::{huggingface, presets::demo_model, state::State};

fn folder(path: &Path) -> State {
    let (config, state) = (demo_model(64), State::initial(&demo_model(64), 1));
    huggingface::write_folder(path, &config, &state, &[("tokenizer.json", b"{}")]).expect("a model");
    state
}

#[test]
fn a_model_is_inspected_and_converted_there_and_back() {
    let parent = tempfile::tempdir().expect("a folder");
    let path = |name: &str| parent.path().join(name).display().to_string();
    let state = folder(&parent.path().join("a"));
    let said = run_well(&["model", "convert", &path("a"), "--shard-size", "1MB", "--out", &path("b")]);
    assert!(said.contains(&format!("{} parameters", state.parameter_count())), "{said}");
    assert!(said.contains("tokenizer.json, model.safetensors.index.json, config.json"), "{said}");
    run_well(&["model", "convert", &path("b"), "--out", &path("c")]);
    let weights = |name: &str| fs::read(parent.path().join(name).join("model.safetensors")).expect("weights");
    assert!(weights("a") == weights("c"), "not the same bytes after a round trip");

    run_well(&["model", "convert", &path("a"), "--dtype", "bf16", "--out", &path("half")]);
    let json: serde_json::Value =
        serde_json::from_str(&run_well(&["model", "inspect", &path("half"), "--json"])).expect("JSON");
    assert_eq!(json["total"]["parameters"], state.parameter_count());
    assert_eq!(json["total"]["bytes"], 2 * state.parameter_count());
    assert_eq!(json["total"]["dtypes"], serde_json::json!(["bf16"]));
    let page = run_well(&["model", "inspect", &path("half"), "--tensors"]);
    assert!(page.contains("visual.blocks.1.attn.qkv.weight") && page.contains("merger only"), "{page}");
}

#[test]
fn what_is_wrong_is_named_in_one_line() {
    let parent = tempfile::tempdir().expect("a folder");
    let path = |name: &str| parent.path().join(name).display().to_string();
    let mut state = folder(&parent.path().join("a"));
    let error = run_badly(&["model", "convert", &path("a"), "--out", &path("a")]);
    assert!(error.contains("is there already: choose an empty folder"), "{error}");
    let error = run_badly(&["model", "convert", &path("a"), "--dtype", "int8", "--out", &path("b")]);
    assert!(error.contains("f32, bf16 and f16 are"), "{error}");
    let error = run_badly(&["model", "convert", &path("a"), "--shard-size", "huge", "--out", &path("b")]);
    assert!(error.contains("like 5GB"), "{error}");
    let merge = ["model", "merge", "--vision", &path("a"), "--language", &path("a"), "--out", &path("b")];
    let error = run_badly(&merge);
    assert!(error.contains("config.json") && error.contains("missing field"), "{error}");
    state.tensors.remove("model.norm.weight");
    huggingface::write_folder(&parent.path().join("a"), &demo_model(64), &state, &[]).expect("a model");
    let error = run_badly(&["model", "inspect", &path("a")]);
    assert!(error.contains("tensor model.norm.weight is missing") && error.lines().count() == 1, "{error}");
}

//! Mixing as a user types it: lists become periods, periods become packs in order, and a run is bound to them.

mod support;

use std::fs;

use serde_json::Value;
use support::{
    TERMS,
    drawn::{Drawn, run_words, words},
    run_badly, run_well,
};
use talkoot_dataset::{DatasetManifest, ListReader, ListWriter, PackReader};

const MIX: &str = r#"
cuts = [0.5]

[[period]]
name = "easy-first"
share = 1
bands = [1, 0]

[[period]]
name = "as-it-comes"
share = 2

[[period]]
name = "hard-last"
share = 1
bands = [0, 1]
"#;

/// A folder with a filtered list of drawn samples. They are all equally hard, so each gets a difficulty of its own.
fn filtered() -> Drawn {
    let drawn = Drawn::new(60, 3, 5);
    let data = drawn.text("drawn");
    run_well(&[
        "dataset",
        "ingest",
        &drawn.text("drawn/instruct.json"),
        "--images",
        &data,
        "--out",
        &drawn.text("in"),
    ]);
    let list = drawn.text("in/data.samples.jsonl");
    run_well(&["dataset", "filter", "--samples", &list, "--out", &drawn.text("equal")]);
    let equal = ListReader::open(&drawn.path("equal/filtered.samples.jsonl")).expect("a list");
    fs::create_dir(drawn.path("filtered")).expect("a folder");
    let mut list =
        ListWriter::create(&drawn.path("filtered/filtered.samples.jsonl"), equal.roots()).expect("a list");
    for (number, placed) in (0u8..).zip(equal) {
        let mut sample = placed.expect("a sample").sample;
        sample.difficulty = Some(f32::from(number) / 100.0);
        list.write(&sample).expect("a line");
    }
    list.finish().expect("a list");
    fs::write(drawn.path("mix.toml"), MIX).expect("a file");
    drawn
}

fn mix(drawn: &Drawn, more: &[&str]) -> String {
    let (list, config) = (drawn.text("filtered/filtered.samples.jsonl"), drawn.text("mix.toml"));
    let fixed = ["dataset", "mix", "--samples", &list, "--config", &config, "--out", &drawn.text("mixed")];
    run_words(&words(&fixed, more))
}

/// The command that packs the three periods into the folder `out`.
fn pack(drawn: &Drawn, out: &str, more: &[&str]) -> Vec<String> {
    let list = |period: u32| drawn.text(&format!("mixed/mixed.00{period}.samples.jsonl"));
    let fixed = [
        "dataset",
        "pack",
        "--samples",
        &list(1),
        &list(2),
        &list(3),
        "--ordered",
        "--tokenizer",
        &drawn.text("drawn/tokenizer.json"),
        "--sequence-tokens",
        "256",
        "--shard-bytes",
        "32768",
        "--section",
        &format!("mix={}", drawn.text("mix.toml")),
        "--name",
        "mine",
        "--out",
        &drawn.text(out),
    ];
    words(&fixed, more)
}

#[test]
fn periods_go_from_the_mixture_through_the_packs_into_the_run() {
    let drawn = filtered();
    let report: Value = serde_json::from_str(&mix(&drawn, &["--json"])).expect("one line of JSON");
    assert_eq!(
        report["samples"].as_u64(),
        report["used"].as_u64().zip(report["left_out"].as_u64()).map(|(a, b)| a + b)
    );
    let said = mix(&drawn, &[]);
    assert!(said.contains("easy-first") && said.contains("mixed.003.samples.jsonl"), "{said}");

    let said = run_words(&pack(&drawn, "packed", &[]));
    assert!(said.contains("periods   3 of "), "{said}");
    let manifest = fs::read(drawn.path("packed/mine.manifest")).expect("the manifest");
    let index = DatasetManifest::from_bytes(&manifest).expect("a manifest").index;
    assert_eq!(index.periods.len(), 3);

    // The packs of each period have just the samples of its list.
    let reader = PackReader::in_folder(&manifest, &drawn.path("packed")).expect("the packs");
    let mut first = 0;
    for (number, packs) in (1..).zip(&index.periods) {
        let list =
            ListReader::open(&drawn.path(&format!("mixed/mixed.00{number}.samples.jsonl"))).expect("a list");
        let mut wanted: Vec<_> = list.map(|placed| placed.expect("a sample").sample.id).collect();
        let mut packed = Vec::new();
        for pack in first..first + packs {
            packed.extend(
                reader.with_parts(pack, |parts| Ok(parts.samples)).expect("a pack").into_iter().map(|s| s.id),
            );
        }
        wanted.sort_unstable();
        packed.sort_unstable();
        assert_eq!(packed, wanted, "period {number}");
        first += packs;
    }
    let told = run_well(&["dataset", "inspect", &drawn.text("packed/mine.manifest"), "--brief"]);
    assert!(told.contains("periods          3 of ") && told.contains("hard-last"), "{told}");
    run_well(&["dataset", "verify", &drawn.text("packed/mine.manifest"), "--depth", "pictures"]);

    fs::write(drawn.path("terms.toml"), TERMS).expect("the terms");
    let said = run_well(&[
        "run",
        "init",
        "--dir",
        &drawn.text("run"),
        "--terms",
        &drawn.text("terms.toml"),
        "--dataset",
        &drawn.text("packed/mine.manifest"),
        "--tokenizer",
        &drawn.text("drawn/tokenizer.json"),
    ]);
    let sum = index.periods.iter().map(u64::to_string).collect::<Vec<_>>().join(" + ");
    assert!(said.contains(&format!("{} packs in periods of {sum}", index.totals.packs)), "{said}");
}

#[test]
fn several_processes_pack_periods_as_one_does() {
    let drawn = filtered();
    mix(&drawn, &[]);
    run_words(&pack(&drawn, "whole", &[]));
    for part in ["2/3", "1/3", "3/3"] {
        run_words(&pack(&drawn, "split", &["--step", "measure", "--part", part]));
    }
    run_words(&pack(&drawn, "split", &["--step", "plan"]));
    for part in ["2/2", "1/2"] {
        run_words(&pack(&drawn, "split", &["--step", "write", "--part", part]));
    }
    run_words(&pack(&drawn, "split", &["--step", "finish"]));
    assert!(drawn.files("split") == drawn.files("whole"));
}

#[test]
fn what_is_wrong_is_named() {
    let drawn = filtered();
    let printed = run_well(&["dataset", "mix", "--print-config"]);
    fs::write(drawn.path("mix.toml"), printed).expect("a file");
    mix(&drawn, &[]);
    let list = drawn.text("filtered/filtered.samples.jsonl");
    let refused = |config: &str| {
        fs::write(drawn.path("mix.toml"), config).expect("a file");
        let out = drawn.text("none");
        run_badly(&["dataset", "mix", "--samples", &list, "--config", &drawn.text("mix.toml"), "--out", &out])
    };
    for (config, named) in [
        ("[[period]]\nname = \"a\"\nshare = -1", "period[0].share is -1"),
        ("[[period]]\nname = \"a\"\nsources = { nobody = 2 }", "\"nobody\""),
        ("[[period]]\nname = \"a\"\nother_sources = 0", "period[0], a"),
        ("[[period]", "line 1"),
    ] {
        let error = refused(config);
        assert!(error.contains(named), "{error}");
    }
    let (images, tokenizer) = (drawn.text("drawn"), drawn.text("drawn/tokenizer.json"));
    let error = run_badly(&[
        "dataset",
        "pack",
        "--records",
        &drawn.text("drawn/instruct.json"),
        "--images",
        &images,
        "--ordered",
        "--tokenizer",
        &tokenizer,
        "--out",
        &drawn.text("x"),
    ]);
    assert!(error.contains("--samples"), "{error}");
}

//! Packing as a user types it: split over processes, killed and begun again, looked at, checked and compared.

mod support;

use std::{fs, time::Duration};

use support::{
    drawn::{Drawn, kill_after, run_words, words},
    run_badly, run_well,
};

/// Pictures to pack: enough that packing takes longer than the last moment of a kill below.
const PICTURES: u32 = 120;

struct Place(Drawn);

impl Place {
    fn drawn() -> Self {
        Self(Drawn::new(PICTURES, 3, 5))
    }

    fn path(&self, name: &str) -> String {
        self.0.text(name)
    }

    /// The command that packs into the folder `out`.
    fn pack(&self, out: &str, more: &[&str]) -> Vec<String> {
        let (records, images) = (self.path("drawn/instruct.json"), self.path("drawn"));
        let (tokenizer, out) = (self.path("drawn/tokenizer.json"), self.path(out));
        let fixed = [
            "dataset",
            "pack",
            "--records",
            &records,
            "--images",
            &images,
            "--tokenizer",
            &tokenizer,
            "--name",
            "mine",
            "--sequence-tokens",
            "512",
            "--shard-bytes",
            "32768",
            "--out",
            &out,
        ];
        words(&fixed, more)
    }

    fn run_pack(&self, out: &str, more: &[&str]) -> String {
        run_words(&self.pack(out, more))
    }
}

#[test]
fn several_processes_write_what_one_writes() {
    let place = Place::drawn();
    place.run_pack("whole", &[]);
    for part in ["2/3", "1/3", "3/3"] {
        place.run_pack("split", &["--step", "measure", "--part", part]);
    }
    place.run_pack("split", &["--step", "plan"]);
    for part in ["2/2", "1/2"] {
        place.run_pack("split", &["--step", "write", "--part", part]);
    }
    place.run_pack("split", &["--step", "finish"]);
    let whole = place.0.files("whole");
    assert!(whole.len() > 5, "{:?}", whole.keys());
    assert!(place.0.files("split") == whole);
}

#[test]
fn a_process_that_is_killed_goes_on_where_it_was() {
    let place = Place::drawn();
    place.run_pack("whole", &[]);
    let whole = place.0.files("whole");
    for moment in [0, 5, 20, 60, 150, 400] {
        let out = format!("killed{moment}");
        kill_after(&place.pack(&out, &["--resume"]), Duration::from_millis(moment));
        place.run_pack(&out, &["--resume"]);
        assert!(place.0.files(&out) == whole, "killed after {moment} ms");
    }
}

#[test]
fn a_data_set_is_shown_checked_and_compared() {
    let place = Place::drawn();
    let report = place.run_pack("one", &["--key", &place.path("publisher.key"), "--json"]);
    let report: serde_json::Value = serde_json::from_str(&report).expect("one line of JSON");
    let publisher = report["publisher"].as_str().expect("it is signed").to_owned();
    place.run_pack("other", &["--seed", "2"]);
    let (one, other) = (place.path("one/mine.manifest"), place.path("other/mine.manifest"));

    let text = run_well(&["dataset", "inspect", &one]);
    assert!(text.contains(&publisher) && text.contains("first sample"), "{text}");
    let page = place.path("page.html");
    run_well(&["dataset", "inspect", &one, "--html", &page]);
    let page = fs::read_to_string(page).expect("the page");
    assert!(
        page.contains("<img alt=\"\" src=\"data:image/png;base64,") && !page.contains("://"),
        "a page by itself"
    );

    let found =
        run_well(&["dataset", "verify", &one, "--depth", "pictures", "--publisher", &publisher, "--json"]);
    let found: serde_json::Value = serde_json::from_str(&found).expect("one line of JSON");
    assert_eq!(found["packs"], report["totals"]["packs"]);
    let error = run_badly(&["dataset", "verify", &other, "--publisher", &publisher]);
    assert!(error.contains("signed by nobody"), "{error}");

    let difference = run_well(&["dataset", "diff", &one, &other]);
    assert!(difference.contains("seed: 0 -> 2"), "{difference}");

    let shard =
        report["shards"][0].as_str().expect("a shard").split(':').next().expect("a digest").to_owned();
    let path = place.0.path("one").join(&shard);
    let mut bytes = fs::read(&path).expect("the shard");
    bytes[600] ^= 1;
    fs::write(&path, bytes).expect("the shard");
    let error = run_badly(&["dataset", "verify", &one]);
    assert!(error.contains(&shard) && error.contains("damaged"), "{error}");
}

#[test]
fn a_folder_with_bad_records_is_packed_without_them_and_they_are_named() {
    let place = Place::drawn();
    let images = place.0.path("drawn/images");
    let whole = fs::read(images.join("t00000.png")).expect("a picture");
    fs::write(images.join("broken.png"), &whole[..whole.len() / 2]).expect("half a picture");
    let talk = |picture: &str, answer: &str| {
        format!(
            r#"{{"image":"images/{picture}","conversations":[{{"from":"human","value":"<image>\nx"}},{{"from":"gpt","value":"{answer}"}}]}}"#
        )
    };
    let lines = [
        talk("t00001.png", "red"),
        talk("broken.png", "red"),
        talk("missing.png", "red"),
        talk("t00002.png", ""),
        talk("t00003.png", "blue"),
    ];
    fs::write(place.path("mine.jsonl"), lines.join("\n")).expect("the records");
    let said = run_well(&[
        "dataset",
        "pack",
        "--records",
        &place.path("mine.jsonl"),
        "--images",
        &place.path("drawn"),
        "--tokenizer",
        &place.path("drawn/tokenizer.json"),
        "--name",
        "mine",
        "--sequence-tokens",
        "512",
        "--out",
        &place.path("packed"),
    ]);
    assert!(said.contains("5 = 2 samples + 3 rejects"), "{said}");
    let rejects = fs::read_to_string(place.path("packed/mine.rejects.jsonl")).expect("the rejects");
    for (line, named) in rejects.lines().zip(["broken.png", "missing.png", "empty answer"]) {
        assert!(line.contains(named), "{line}");
    }
    assert_eq!(rejects.lines().count(), 3);
}

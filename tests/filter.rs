//! Filtering as a user types it: bad samples are named with their rule, a kill changes nothing, people have a say, and
//! what is left is packed.

mod support;

use std::{fs, time::Duration};

use serde_json::Value;
use support::{
    drawn::{Drawn, kill_after, run_words, words},
    run_badly, run_well,
};
use talkoot_dataset::{ListWriter, Sample, ingest::ingest};

/// A folder with drawn pictures, records of them and of some bad ones, and the list of all.
struct Place(Drawn);

const LONG: &str = "a circle, and a square, and then a triangle, and beside it one more circle, then a star, and a ring below it";

/// What is planted: the record's id, its picture, its answer, and the rule that it breaks.
const PLANTED: [(&str, &str, &str, &str); 8] = [
    ("refuses", "t00001.png", "I'm sorry, but I can't see any picture.", "refusal.openings"),
    (
        "repeats",
        "t00002.png",
        "it is a very very very very very very very very red one",
        "answer.repeated_words",
    ),
    ("long", "t00003.png", LONG, "answer.max_characters"),
    (
        "german",
        "t00004.png",
        "Auf dem Bild ist ein großer roter Kreis zu sehen, der neben einem Quadrat steht.",
        "language.allowed",
    ),
    ("mark", "t00005.png", "see <img> for the picture", "mark.foreign"),
    ("blank", "blank.png", "a white wall", "picture.min_deviation"),
    ("small", "small.png", "a small thing", "picture.min_side"),
    ("half", "half.png", "a half picture", "picture.readable"),
];

const RULES: &str = "[answer]\nmax_characters = 100\n[language]\nallowed = [\"eng\"]\n";

impl Place {
    fn drawn() -> Self {
        let place = Self(Drawn::new(60, 3, 5));
        let images = place.0.path("drawn/images");
        let save = |name: &str, width: u32, height: u32, shade: fn(usize) -> u8| {
            let rgb: Vec<u8> = (0..(width * height * 3) as usize).map(shade).collect();
            image::save_buffer(images.join(name), &rgb, width, height, image::ExtendedColorType::Rgb8)
                .expect("a picture");
        };
        save("blank.png", 64, 64, |_| 250);
        save("small.png", 64, 12, |at| (at % 256) as u8);
        let whole = fs::read(images.join("t00000.png")).expect("a picture");
        fs::write(images.join("half.png"), &whole[..whole.len() / 2]).expect("half a picture");
        let mut records: Vec<Value> =
            serde_json::from_slice(&fs::read(place.0.path("drawn/instruct.json")).expect("the records"))
                .expect("JSON");
        let again = records[7].clone();
        for (id, picture, answer, _) in PLANTED {
            records
                .push(serde_json::json!({"id": id, "image": format!("images/{picture}"), "conversations": [
                {"from": "human", "value": "<image>\nWhat is there?"}, {"from": "gpt", "value": answer}]}));
        }
        records.push(again);
        fs::write(place.path("all.json"), serde_json::to_vec(&records).expect("JSON")).expect("the records");
        let ingested = ingest(&[place.0.path("all.json")], &place.0.path("drawn")).expect("samples");
        assert_eq!(ingested.samples.len(), records.len(), "{:?}", ingested.rejects);
        place.list("all.jsonl", &ingested.samples, &ingested.roots);
        fs::write(place.path("filter.toml"), RULES).expect("the rules");
        place
    }

    fn list(&self, name: &str, samples: &[Sample], roots: &talkoot_dataset::Roots) {
        let mut list = ListWriter::create(&self.0.path(name), roots).expect("a list");
        samples.iter().for_each(|sample| list.write(sample).expect("a line"));
        list.finish().expect("a list");
    }

    fn path(&self, name: &str) -> String {
        self.0.text(name)
    }

    /// The command that filters into the folder `out`.
    fn filter(&self, out: &str, more: &[&str]) -> Vec<String> {
        let (list, rules, out) = (self.path("all.jsonl"), self.path("filter.toml"), self.path(out));
        words(&["dataset", "filter", "--samples", &list, "--config", &rules, "--out", &out], more)
    }

    fn run_filter(&self, out: &str, more: &[&str]) -> String {
        run_words(&self.filter(out, more))
    }
}

fn lines(path: &str) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("a file");
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

#[test]
fn what_is_planted_is_named_with_its_rule_and_the_rest_is_reviewed_and_packed() {
    let place = Place::drawn();
    let report: Value =
        serde_json::from_str(&place.run_filter("out", &["--json"])).expect("one line of JSON");
    let rejects = lines(&place.path("out/filtered.rejects.jsonl"));
    for (id, _, _, rule) in PLANTED {
        let reject = rejects.iter().find(|reject| reject["id"] == id || reject["origin"]["id"] == id);
        let reject = reject.unwrap_or_else(|| panic!("{id} is not named in {rejects:#?}"));
        let reason = reject["reason"].as_str().expect("a reason");
        assert!(reason.starts_with(rule), "{id}: {reason}");
        assert!(reject["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{reject}");
    }
    assert!(rejects.iter().any(|reject| reject["kind"] == "duplicate"), "the record that is there twice");
    assert_eq!(report["samples"], 60 + PLANTED.len() + 1);
    assert_eq!(report["dropped"], rejects.len());

    // A person looks at some, and drops one.
    let list = place.path("out/filtered.samples.jsonl");
    let page = place.path("page.html");
    let said = run_well(&["dataset", "review", "export", &list, "--sample", "12", "--out", &page]);
    assert!(said.contains("samples   12 of"), "{said}");
    let page = fs::read_to_string(&page).expect("the page");
    let shown: Vec<&str> = page.split("data-id=\"").skip(1).map(|rest| &rest[..32]).collect();
    assert_eq!(shown.len(), 12);
    let verdicts = serde_json::json!({"review": "talkoot review", "version": 1, "page": "p", "samples": 12,
        "keep": [shown[1], "00000000000000000000000000000000"], "drop": [shown[0]]});
    fs::write(place.path("verdicts.json"), verdicts.to_string()).expect("verdicts");
    let reviewed = place.path("reviewed.jsonl");
    let said =
        run_well(&["dataset", "review", "import", &list, &place.path("verdicts.json"), "--out", &reviewed]);
    assert!(said.contains("unknown   00000000000000000000000000000000"), "{said}");
    assert_eq!(lines(&place.path("reviewed.rejects.jsonl")).len(), 1);
    let left = lines(&list).len() - 1;
    assert_eq!(lines(&reviewed).len(), left);

    let packed = run_well(&[
        "dataset",
        "pack",
        "--samples",
        &reviewed,
        "--tokenizer",
        &place.path("drawn/tokenizer.json"),
        "--sequence-tokens",
        "512",
        "--trust-pictures",
        "--section",
        &format!("filter={}", place.path("filter.toml")),
        "--name",
        "mine",
        "--out",
        &place.path("packed"),
    ]);
    assert!(packed.contains(&format!("records   {0} = {0} samples + 0 rejects", left - 2)), "{packed}");
    let told = run_well(&["dataset", "inspect", &place.path("packed/mine.manifest"), "--brief"]);
    assert!(told.contains("allowed = [\"eng\"]"), "the rules are in the manifest: {told}");
    run_well(&["dataset", "verify", &place.path("packed/mine.manifest"), "--depth", "pictures"]);
}

#[test]
fn a_kill_or_a_split_changes_no_byte() {
    let place = Place::drawn();
    let said = place.run_filter("whole", &[]);
    assert!(said.contains("kept +") && said.contains("refusal.openings"), "{said}");
    let whole = place.0.files("whole");
    assert_eq!(whole.len(), 4, "{:?}", whole.keys());
    for part in ["2/3", "1/3", "3/3"] {
        place.run_filter("split", &["--step", "examine", "--part", part]);
    }
    place.run_filter("split", &["--step", "finish"]);
    assert!(place.0.files("split") == whole);
    for moment in [0, 5, 20, 60, 150] {
        let out = format!("killed{moment}");
        kill_after(&place.filter(&out, &["--resume"]), Duration::from_millis(moment));
        place.run_filter(&out, &["--resume"]);
        assert!(place.0.files(&out) == whole, "killed after {moment} ms");
    }
}

#[test]
fn rules_are_printed_and_wrong_ones_are_named() {
    let place = Place::drawn();
    let printed = run_well(&["dataset", "filter", "--print-config"]);
    fs::write(place.path("filter.toml"), &printed).expect("the rules");
    place.run_filter("defaults", &[]);
    for (rules, named) in [
        ("[picture]\nmin_side = 0", "picture.min_side is 0, it must be from 1 to 16384"),
        ("[picture]\nmin_sides = 3", "unknown field `min_sides`"),
        ("[picture", "line 1"),
    ] {
        fs::write(place.path("filter.toml"), rules).expect("the rules");
        let arguments = place.filter("bad", &[]);
        let error = run_badly(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(error.contains(named) && error.contains("filter.toml"), "{error}");
    }
    let error =
        run_badly(&["dataset", "filter", "--samples", &place.path("all.json"), "--out", &place.path("x")]);
    assert!(error.contains("not a list of samples"), "{error}");
    let (list, page) = (place.path("all.jsonl"), place.path("page.html"));
    let error = run_badly(&["dataset", "review", "export", &list, "--sample", "0", "--out", &page]);
    assert!(error.contains("samples is 0, it must be from 1 to 5000"), "{error}");
    fs::write(place.path("no.json"), "{}").expect("a file");
    let error =
        run_badly(&["dataset", "review", "import", &list, &place.path("no.json"), "--out", &place.path("y")]);
    assert!(error.contains("no verdicts of a review"), "{error}");
}

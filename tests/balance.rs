//! Balancing as a user types it: rare things are drawn, a kill or a split changes nothing, a model's own rows serve, and
//! what is drawn is packed.

mod support;

use std::{fs, time::Duration};

use serde_json::Value;
use support::{
    drawn::{Drawn, kill_after, run_words, words},
    run_badly, run_well,
};
use talkoot_dataset::{ListReader, ListWriter, SampleId, Tokenizer, ingest::ingest};
use talkoot_trainer::{huggingface::write_folder, presets::demo_model, state::State};

/// A folder with drawn pictures, their records as a list, and concepts.
struct Place(Drawn);

/// Words of the drawn texts, and one that is in none.
const CONCEPTS: &str = "red\nblue\ngreen\nyellow\ncircle\nsquare\ntriangle\nstar\nleft\nright\nzeppelin\n";

/// The rarest concept of a sample decides: its mean would hide two rare words among many common ones, and then chance
/// decides in a set as small as this.
const RULES: &str = "[draw]\nshare = 0.4\n\n[weight]\ncombine = \"rarest\"\n";

impl Place {
    fn drawn() -> Self {
        let place = Self(Drawn::new(150, 3, 5));
        let records = [place.0.path("drawn/instruct.json"), place.0.path("drawn/midtraining.json")];
        let ingested = ingest(&records, &place.0.path("drawn")).expect("samples");
        let mut list = ListWriter::create(&place.0.path("all.jsonl"), &ingested.roots).expect("a list");
        ingested.samples.iter().for_each(|sample| list.write(sample).expect("a line"));
        list.finish().expect("a list");
        fs::write(place.0.path("concepts.txt"), CONCEPTS).expect("the concepts");
        fs::write(place.0.path("balance.toml"), RULES).expect("the rules");
        place
    }

    /// The command that balances into the folder `out`.
    fn balance(&self, out: &str, more: &[&str]) -> Vec<String> {
        let [list, concepts, rules, out] =
            ["all.jsonl", "concepts.txt", "balance.toml", out].map(|name| self.0.text(name));
        let fixed = ["dataset", "balance", "--samples", &list, "--concepts", &concepts, "--config", &rules];
        words(&fixed, &[&["--out", &out], more].concat())
    }

    fn run_balance(&self, out: &str, more: &[&str]) -> String {
        run_words(&self.balance(out, more))
    }

    fn ids(&self, list: &str) -> Vec<SampleId> {
        let list = ListReader::open(&self.0.path(list)).expect("a list");
        list.map(|placed| placed.expect("a sample").sample.id).collect()
    }

    /// A very small model with fresh weights.
    fn model(&self) -> String {
        let bytes = fs::read(self.0.path("drawn/tokenizer.json")).expect("a tokenizer");
        let tokenizer = Tokenizer::from_bytes(&bytes).expect("a tokenizer");
        let mut config = demo_model(tokenizer.vocab_size());
        config.image_token_id = tokenizer.special_ids().image_pad;
        let state = State::initial(&config, 3);
        let folder = self.0.path("model");
        write_folder(&folder, &config, &state, &[("tokenizer.json", &bytes)]).expect("a model");
        self.0.text("model")
    }
}

#[test]
fn what_is_drawn_is_packed_with_the_rules_in_its_manifest() {
    let place = Place::drawn();
    let report: Value =
        serde_json::from_str(&place.run_balance("out", &["--json"])).expect("one line of JSON");
    let all = place.ids("all.jsonl").len();
    let drawn = place.ids("out/balanced.samples.jsonl").len();
    assert_eq!(
        (report["samples"].as_u64(), report["drawn"].as_u64()),
        (Some(all as u64), Some(drawn as u64))
    );
    assert_eq!(drawn, (all * 2 + 2) / 5);
    let rejects = fs::read_to_string(place.0.path("out/balanced.rejects.jsonl")).expect("the rejects");
    assert_eq!(rejects.lines().count(), all - drawn, "samples in are samples out");
    assert!(report["before"]["covered"].as_u64() < Some(11), "{report}");
    assert!(report["after"]["effective"].as_f64() > report["before"]["effective"].as_f64(), "{report}");
    let page = fs::read_to_string(place.0.path("out/balanced.report.html")).expect("the page");
    assert_eq!(page.matches("<svg").count(), 2);

    let [list, tokenizer, packed] =
        ["out/balanced.samples.jsonl", "drawn/tokenizer.json", "packed"].map(|name| place.0.text(name));
    let settings = format!("balance={}", place.0.text("out/balanced.settings.toml"));
    let pack = ["dataset", "pack", "--samples", &list, "--tokenizer", &tokenizer, "--sequence-tokens", "512"];
    let said = run_words(&words(&pack, &["--section", &settings, "--name", "mine", "--out", &packed]));
    assert!(said.contains(&format!("records   {drawn} = {drawn} samples + 0 rejects")), "{said}");
    let told = run_well(&["dataset", "inspect", &place.0.text("packed/mine.manifest"), "--brief"]);
    assert!(told.contains("share = 0.4") && told.contains("covered_before"), "{told}");
    run_well(&["dataset", "verify", &place.0.text("packed/mine.manifest"), "--depth", "pictures"]);
}

#[test]
fn samples_that_are_drawn_several_times_are_packed_as_often() {
    let place = Place::drawn();
    let all = place.ids("all.jsonl").len();
    let count = (all + all / 2).to_string();
    let said = place.run_balance("out", &["--repeats", "3", "--count", &count]);
    assert!(said.contains(&format!("{count} lines")), "{said}");
    let [list, tokenizer, packed] =
        ["out/balanced.samples.jsonl", "drawn/tokenizer.json", "packed"].map(|name| place.0.text(name));
    let pack = ["dataset", "pack", "--samples", &list, "--tokenizer", &tokenizer, "--sequence-tokens", "512"];
    let said = run_words(&words(&pack, &["--name", "mine", "--out", &packed]));
    assert!(said.contains(&format!("records   {count} = {count} samples + 0 rejects")), "{said}");
    run_well(&["dataset", "verify", &place.0.text("packed/mine.manifest"), "--depth", "packs"]);
}

#[test]
fn a_kill_or_a_split_changes_no_byte() {
    let place = Place::drawn();
    let said = place.run_balance("whole", &[]);
    assert!(said.contains("drawn +") && said.contains("of 11 concepts before"), "{said}");
    let whole = place.0.files("whole");
    assert_eq!(whole.len(), 5, "{:?}", whole.keys());
    for part in ["2/3", "1/3", "3/3"] {
        place.run_balance("split", &["--step", "map", "--part", part]);
    }
    let counted = place.run_balance("split", &["--step", "count"]);
    assert!(counted.contains("of 11 concepts"), "{counted}");
    place.run_balance("split", &["--step", "draw"]);
    assert!(place.0.files("split") == whole);
    for moment in [0, 5, 15, 30, 60, 120] {
        let out = format!("killed{moment}");
        kill_after(&place.balance(&out, &["--resume"]), Duration::from_millis(moment));
        place.run_balance(&out, &["--resume"]);
        assert!(place.0.files(&out) == whole, "killed after {moment} ms");
    }
}

#[test]
fn rows_of_the_projects_own_model_serve_and_may_be_made_in_parts() {
    let place = Place::drawn();
    let [list, concepts, rows, concept_rows] =
        ["all.jsonl", "concepts.txt", "rows.safetensors", "concepts.npy"].map(|name| place.0.text(name));
    let model = place.model();
    let embed = ["dataset", "embed", "--model", &model, "--max-pixels", "12544"];
    let said = run_words(&words(&embed, &["--samples", &list, "--out", &rows]));
    assert!(said.contains("+ 0 without a row"), "{said}");
    run_words(&words(&embed, &["--concepts", &concepts, "--out", &concept_rows]));
    let parts = ["1/2", "2/2"].map(|part| {
        let more = ["--samples", &list, "--out", &rows, "--part", part, "--json"];
        let report: Value = serde_json::from_str(&run_words(&words(&embed, &more))).expect("a report");
        report["out"].as_str().expect("a file").to_owned()
    });
    let by = |files: &[&str]| -> Vec<String> {
        words(&[&["--embeddings"], files].concat(), &["--concept-embeddings", &concept_rows])
    };
    let balance = |out: &str, files: &[&str], more: &[&str]| [place.balance(out, more), by(files)].concat();
    let said = run_words(&balance("whole", &[&rows], &[]));
    assert!(said.contains("of 11 concepts before"), "{said}");
    let whole = place.0.files("whole");
    for part in ["1/2", "2/2"] {
        run_words(&balance("split", &[&parts[0], &parts[1]], &["--step", "map", "--part", part]));
    }
    run_words(&balance("split", &[&parts[0], &parts[1]], &["--step", "draw"]));
    assert!(place.0.files("split") == whole);
    for moment in [5, 30, 90] {
        let out = format!("killed{moment}");
        let arguments = balance(&out, &[&rows], &["--resume"]);
        kill_after(&arguments, Duration::from_millis(moment));
        run_words(&arguments);
        assert!(place.0.files(&out) == whole, "killed after {moment} ms");
    }
    let killed =
        words(&embed, &["--samples", &list, "--out", &place.0.text("killed.safetensors"), "--resume"]);
    kill_after(&killed, Duration::from_millis(200));
    run_words(&killed);
    let read = |name: &str| fs::read(place.0.path(name)).expect("rows");
    assert!(read("killed.safetensors") == read("rows.safetensors"));

    // Rows of one part alone are not those of the list.
    let refused =
        |file: &str| run_badly(&balance("bad", &[file], &[]).iter().map(String::as_str).collect::<Vec<_>>());
    let error = refused(&parts[0]);
    assert!(error.contains("has no row in the embeddings"), "{error}");
    fs::write(place.0.path("bad.npy"), b"\x93NUMPY\x01\x00\xff\xff{").expect("a file");
    let error = refused(&place.0.text("bad.npy"));
    assert!(error.contains("bad.npy") && error.contains("cut off"), "{error}");
}

#[test]
fn rules_are_printed_and_wrong_ones_are_named() {
    let place = Place::drawn();
    let printed = run_well(&["dataset", "balance", "--print-config"]);
    fs::write(place.0.path("balance.toml"), &printed).expect("the rules");
    place.run_balance("defaults", &[]);
    let refused =
        |more: &[&str]| run_badly(&place.balance("bad", more).iter().map(String::as_str).collect::<Vec<_>>());
    for (rules, named) in [
        ("[weight]\npower = 0.3", "weight.power is 0.3, it must be 0, 0.25, 0.5, 0.75 or 1"),
        ("[weight]\npowers = 1", "unknown field `powers`"),
        ("[[source]]\nname = \"x\"\ncount = 5", "no sample is of the source \"x\"; sources are"),
        ("[draw", "line 1"),
    ] {
        fs::write(place.0.path("balance.toml"), rules).expect("the rules");
        let error = refused(&[]);
        assert!(error.contains(named), "{error}");
    }
    fs::write(place.0.path("balance.toml"), "").expect("the rules");
    let error = refused(&["--count", "1000000"]);
    assert!(error.contains("1000000 samples are to be drawn of") && error.contains("can be"), "{error}");
    let error = refused(&["--part", "1/2", "--step", "draw"]);
    assert!(error.contains("--part is for --step map"), "{error}");
    fs::write(place.0.path("concepts.txt"), "red\nblue\nred\n").expect("the concepts");
    assert!(refused(&[]).contains("lines 1 and 3 of"));
}

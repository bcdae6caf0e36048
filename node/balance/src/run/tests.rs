use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use talkoot_dataset::{
    ListReader, ListWriter, Roots, Sample, SampleId, chat::Message, sample::Origin, work::Part,
};

use super::*;
use crate::{
    config::{SourceRule, WithoutConcept, WithoutEmbedding},
    embedding::EmbeddingWriter,
};

const WIDTH: usize = 6;
const CONCEPTS: [&str; 5] = ["cat", "dog", "boat", "night train", "unseen"];

struct Place {
    dir: tempfile::TempDir,
    samples: Vec<Sample>,
}

impl Place {
    /// Two hundred samples: many cats, fewer dogs, two boats, one night train, some about nothing.
    fn made() -> Self {
        let about = |number: u64| match number {
            77 => "a night train",
            5 | 150 => "a boat",
            _ if number % 10 == 3 => "nothing at all",
            _ if number.is_multiple_of(7) => "one dog",
            _ => "the cat",
        };
        let sample = |record: u64| {
            let source = if record.is_multiple_of(4) { "rare" } else { "web" };
            let origin = Origin { source: source.into(), file: "f".into(), record, id: None, licence: None };
            Sample::new(origin, vec![Message::user("What?"), Message::assistant(about(record))], Vec::new())
        };
        let place = Self { dir: tempfile::tempdir().unwrap(), samples: (0..200).map(sample).collect() };
        fs::write(place.path("concepts.txt"), CONCEPTS.join("\n")).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn list(&self, name: &str, samples: &[Sample]) -> PathBuf {
        let path = self.path(name);
        let mut list = ListWriter::create(&path, &Roots::new()).unwrap();
        samples.iter().for_each(|sample| list.write(sample).unwrap());
        list.finish().unwrap();
        path
    }

    fn options(&self, out: &str) -> BalanceOptions {
        let mut config = Config::default();
        config.concepts.per_sample = 2;
        config.draw.count = Some(60);
        BalanceOptions {
            name: "b".into(),
            lists: vec![self.list("all.jsonl", &self.samples)],
            concepts: self.path("concepts.txt"),
            matching: Matching::Text,
            config,
            keep: false,
            out: self.path(out),
        }
    }

    /// A row that points along a direction, with a little of the sample's own.
    fn row(towards: usize, number: u64) -> Vec<f32> {
        let mut row = vec![0.0; WIDTH];
        row[towards] = 1.0;
        row[WIDTH - 1] += (number % 17) as f32 * 0.01;
        row
    }

    fn rows_of(&self, samples: &[Sample], name: &str, with_ids: bool) -> PathBuf {
        let path = self.path(name);
        let mut writer = EmbeddingWriter::create(&path, samples.len() as u64, WIDTH, with_ids).unwrap();
        for sample in samples {
            let towards =
                CONCEPTS.iter().position(|name| sample.messages[1].text.contains(name)).unwrap_or(4);
            let ids: &[SampleId] = if with_ids { &[sample.id] } else { &[] };
            writer.write(&Self::row(towards, sample.origin.record), ids).unwrap();
        }
        writer.finish().unwrap();
        path
    }

    fn concept_rows(&self) -> PathBuf {
        let path = self.path("concepts.npy");
        let mut writer = EmbeddingWriter::create(&path, 5, WIDTH, false).unwrap();
        (0..5).for_each(|number| writer.write(&Self::row(number, 0), &[]).unwrap());
        writer.finish().unwrap();
        path
    }

    fn embedded(&self, out: &str, samples: Vec<PathBuf>) -> BalanceOptions {
        let concepts = self.concept_rows();
        BalanceOptions { matching: Matching::Embeddings { samples, concepts }, ..self.options(out) }
    }
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect()
}

fn samples_of(path: &Path) -> Vec<Sample> {
    ListReader::open(path).unwrap().map(|placed| placed.unwrap().sample).collect()
}

fn records(report: &BalanceReport) -> Vec<u64> {
    samples_of(&report.path_of(&report.list)).iter().map(|sample| sample.origin.record).collect()
}

#[test]
fn rare_concepts_are_drawn_and_frequent_ones_thinned_out() {
    let place = Place::made();
    let report = balance(&place.options("out")).unwrap();
    let drawn = records(&report);
    assert_eq!((report.samples, report.drawn, report.distinct, report.left_out), (200, 60, 60, 140));
    assert_eq!(drawn.len(), 60);
    assert!(drawn.is_sorted() && [5, 77, 150].iter().all(|rare| drawn.contains(rare)), "{drawn:?}");
    assert_eq!((report.before.covered, report.after.covered), (4, 4));
    assert!(report.covered_by_chance < 3.0 + 0.9, "{}", report.covered_by_chance);
    assert!(report.after.effective > report.before.effective, "{report:?}");
    assert_eq!(report.most_frequent[0].concept, "cat");
    let of: BTreeMap<&str, u64> =
        report.sources.iter().map(|source| (source.source.as_str(), source.samples)).collect();
    assert_eq!(of, BTreeMap::from([("rare", 50), ("web", 150)]));
    let rejects = fs::read_to_string(report.path_of("b.rejects.jsonl")).unwrap();
    assert_eq!(rejects.lines().count(), 140);
    assert!(rejects.lines().all(|line| line.contains("\"kind\":\"not_drawn\"")), "{rejects}");
    let settings = fs::read_to_string(report.path_of(&report.settings)).unwrap();
    for named in ["matching = \"text\"", "count = 60", "[rules.weight]", "drawn = 60"] {
        assert!(settings.contains(named), "{named} is not in {settings}");
    }
    let page = fs::read_to_string(report.path_of(&report.page)).unwrap();
    assert_eq!(page.matches("<svg").count(), 2);
    assert_eq!(page.matches("://").count(), page.matches("http://www.w3.org/2000/svg").count());
}

#[test]
fn neither_threads_nor_parts_nor_a_kill_change_a_byte() {
    let place = Place::made();
    let wanted = files(&balance(&place.options("whole")).unwrap().folder);
    assert_eq!(wanted.len(), 5, "{:?}", wanted.keys());
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let report = pool.install(|| balance(&place.options(&format!("threads{threads}")))).unwrap();
        assert!(files(&report.folder) == wanted, "{threads} threads");
    }
    let options = place.options("parts");
    for part in ["3/3", "1/3", "2/3"] {
        balance_step(&options, Step::Map(part.parse().unwrap()), true, &()).unwrap();
    }
    // A second split that is not whole is not in the way.
    balance_step(&options, Step::Map("2/5".parse().unwrap()), true, &()).unwrap();
    let Done::Counted(counted) = balance_step(&options, Step::Count, true, &()).unwrap() else { panic!() };
    assert_eq!((counted.samples, counted.without_concept, counted.coverage.covered), (200, 20, 4));
    balance_step(&options, Step::Draw, true, &()).unwrap();
    assert!(files(&options.out) == wanted, "three parts");

    // Killed while it wrote: the map, the counts and half a list are there.
    let options = place.options("killed");
    balance_step(&options, Step::Map(Part::WHOLE), true, &()).unwrap();
    balance_step(&options, Step::Count, true, &()).unwrap();
    fs::write(options.out.join("b.samples.jsonl.part"), "half").unwrap();
    balance_step(&options, Step::All, true, &()).unwrap();
    assert!(files(&options.out) == wanted, "killed");
}

#[test]
fn what_is_kept_is_drawn_from_again_by_other_rules() {
    let place = Place::made();
    let mut options = BalanceOptions { keep: true, ..place.options("out") };
    let first = balance(&options).unwrap();
    options.config.draw.seed = 9;
    let Done::Drawn(second) = balance_step(&options, Step::Draw, true, &()).unwrap() else { panic!() };
    assert_ne!(first.drawn_digest, second.drawn_digest);
    assert_eq!(first.concepts_found_digest, second.concepts_found_digest);
    options.config.concepts.per_sample = 1;
    let error = balance_step(&options, Step::Draw, true, &()).unwrap_err();
    assert!(
        matches!(error, BalanceError::Work(talkoot_dataset::work::WorkError::OtherWork { .. })),
        "{error}"
    );
}

#[test]
fn embeddings_in_any_files_give_what_one_file_gives() {
    let place = Place::made();
    let all = place.rows_of(&place.samples, "all.safetensors", true);
    let whole = balance(&place.embedded("whole", vec![all])).unwrap();
    let wanted = files(&whole.folder);
    assert!([5, 77, 150].iter().all(|rare| records(&whole).contains(rare)));
    // One after another, without ids.
    let (head, tail) = place.samples.split_at(33);
    let plain = vec![place.rows_of(head, "head.npy", false), place.rows_of(tail, "tail.npy", false)];
    assert!(files(&balance(&place.embedded("plain", plain)).unwrap().folder) == wanted);
    // By hash, with ids, in any order of files, and the map in parts of another number.
    let of = |index: u32| -> Vec<Sample> {
        place.samples.iter().filter(|sample| sample.id.part(3) == index).cloned().collect()
    };
    let parts = [2, 0, 1].map(|index| place.rows_of(&of(index), &format!("part{index}.npy"), true));
    let options = place.embedded("parts", parts.to_vec());
    for part in ["1/2", "2/2"] {
        balance_step(&options, Step::Map(part.parse().unwrap()), true, &()).unwrap();
    }
    balance_step(&options, Step::Draw, true, &()).unwrap();
    assert!(files(&options.out) == wanted);
    // With the means taken off as well, for any split.
    let centered = |out: &str, parts: &[&str]| {
        let mut options = place.embedded(out, vec![place.path("all.safetensors")]);
        options.config.concepts.center = true;
        for part in parts {
            balance_step(&options, Step::Map(part.parse().unwrap()), true, &()).unwrap();
        }
        balance_step(&options, Step::Draw, true, &()).unwrap();
        files(&options.out)
    };
    assert!(centered("center1", &["1/1"]) == centered("center3", &["2/3", "3/3", "1/3"]));
}

#[test]
fn embeddings_that_do_not_fit_the_lists_are_refused_with_the_place() {
    let place = Place::made();
    let error = |samples: Vec<PathBuf>| balance(&place.embedded("out", samples)).unwrap_err().to_string();
    let mut swapped = place.samples.clone();
    swapped.swap(7, 8);
    let said = error(vec![place.rows_of(&swapped, "swapped.safetensors", true)]);
    assert!(said.contains(&format!("sample {}", place.samples[7].id)), "{said}");
    assert!(said.contains(&format!("row 7 of {}", place.path("swapped.safetensors").display())), "{said}");
    let said = error(vec![place.rows_of(&place.samples[..150], "short.npy", false)]);
    assert!(said.contains(&place.samples[150].id.to_string()) && said.contains("all used"), "{said}");
    let mut more = place.samples.clone();
    more.push(place.samples[0].clone());
    let said = error(vec![place.rows_of(&more, "more.npy", false)]);
    assert!(said.contains("row 200 of") && said.contains("the lists have fewer"), "{said}");
    let said = error(vec![place.rows_of(&more, "more.safetensors", true)]);
    assert!(said.contains("row 200 of") && said.contains(&more[200].id.to_string()), "{said}");
    let both =
        vec![place.rows_of(&place.samples, "a.npy", true), place.rows_of(&place.samples, "b.npy", true)];
    assert!(error(both).contains("both have sample"));
    let mixed = vec![place.path("more.npy"), place.path("more.safetensors")];
    assert!(error(mixed).contains("give ids to all or to none"));

    let concepts = place.concept_rows();
    let mut writer = EmbeddingWriter::create(&concepts, 4, WIDTH, false).unwrap();
    writer.write(&[1.0; 4 * WIDTH], &[]).unwrap();
    writer.finish().unwrap();
    let samples = vec![place.rows_of(&place.samples, "all.npy", false)];
    let matching = Matching::Embeddings { samples, concepts };
    let options = BalanceOptions { matching, ..place.options("out") };
    assert!(balance(&options).unwrap_err().to_string().contains("4 rows for 5 concepts"));
}

#[test]
fn rows_without_a_direction_are_refused_and_missing_ones_can_be_allowed() {
    let place = Place::made();
    for (value, named) in [(f32::NAN, "bad.npy: row 9 has NaN"), (0.0, "bad.npy: row 9 is zero")] {
        let path = place.path("bad.npy");
        let mut writer = EmbeddingWriter::create(&path, 200, WIDTH, false).unwrap();
        for row in 0..200 {
            writer.write(&[if row == 9 { value } else { 1.0 }; WIDTH], &[]).unwrap();
        }
        writer.finish().unwrap();
        let error = balance(&place.embedded("out", vec![path])).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
    let some: Vec<Sample> =
        place.samples.iter().filter(|sample| sample.origin.record % 5 > 0).cloned().collect();
    let mut options = place.embedded("missing", vec![place.rows_of(&some, "some.safetensors", true)]);
    options.config.concepts.without_embedding = WithoutEmbedding::NoConcept;
    options.config.draw.without_concept = WithoutConcept::Drop;
    let report = balance(&options).unwrap();
    assert_eq!((report.without_concept, report.without_concept_left_out), (40, 40));
    assert!(records(&report).iter().all(|record| record % 5 > 0));
    let rejects = fs::read_to_string(report.path_of("b.rejects.jsonl")).unwrap();
    assert_eq!(rejects.matches("\"kind\":\"no_concept\"").count(), 40);
}

#[test]
fn sources_have_numbers_of_their_own_and_samples_can_be_repeated() {
    let place = Place::made();
    let mut options = place.options("out");
    options.config.source = vec![SourceRule { name: "rare".into(), count: Some(45), share: None }];
    let report = balance(&options).unwrap();
    let drawn: Vec<(&str, u64)> =
        report.sources.iter().map(|source| (source.source.as_str(), source.drawn)).collect();
    assert_eq!(drawn, [("rare", 45), ("web", 60)]);
    options.config.source[0].name = "elsewhere".into();
    let error = balance(&options).unwrap_err().to_string();
    assert!(error.contains("\"elsewhere\"; sources are \"rare\", \"web\""), "{error}");

    let mut options = place.options("repeated");
    (options.config.draw.repeats, options.config.draw.count) = (5, Some(300));
    let report = balance(&options).unwrap();
    assert_eq!((report.drawn, report.distinct + report.left_out), (300, 200));
    let drawn = records(&report);
    assert_eq!(drawn.iter().filter(|&&record| record == 77).count(), 5, "the rarest as often as can be");
    assert!(drawn.is_sorted());
    options.config.draw.count = Some(1_001);
    let error = balance(&options).unwrap_err().to_string();
    assert!(error.contains("1001 samples are to be drawn of 200 samples, but only 1000 can be"), "{error}");
}

#[test]
fn samples_without_a_concept_are_thinned_out_or_kept_or_dropped() {
    let place = Place::made();
    let about_nothing = |how: WithoutConcept| {
        let mut options = place.options("out");
        options.config.draw.without_concept = how;
        let report = balance(&options).unwrap();
        assert_eq!((report.without_concept, report.drawn), (20, 60));
        records(&report).iter().filter(|&&record| record % 10 == 3).count() as u64
    };
    assert_eq!(about_nothing(WithoutConcept::Keep), 20);
    assert_eq!(about_nothing(WithoutConcept::Drop), 0);
    // Nineteen are expected.
    assert!(about_nothing(WithoutConcept::OneConcept) >= 15);
}

#[test]
fn the_order_of_lists_changes_nothing_about_what_is_drawn() {
    let place = Place::made();
    let (a, b) = place.samples.split_at(70);
    let (a, b) = (place.list("a.jsonl", a), place.list("b.jsonl", b));
    let ids = |lists: Vec<PathBuf>, out: &str| {
        let report = balance(&BalanceOptions { lists, ..place.options(out) }).unwrap();
        let mut records = records(&report);
        records.sort_unstable();
        records
    };
    let all = ids(place.options("x").lists, "all");
    assert_eq!(ids(vec![a.clone(), b.clone()], "ab"), all);
    assert_eq!(ids(vec![b, a], "ba"), all);
}

#[test]
fn steps_too_early_and_changed_lists_are_refused() {
    let place = Place::made();
    let options = place.options("out");
    let error = balance_step(&options, Step::Draw, true, &()).unwrap_err().to_string();
    assert!(error.contains("the map is not done in"), "{error}");
    balance_step(&options, Step::Map(Part::WHOLE), true, &()).unwrap();
    place.list("all.jsonl", &place.samples[1..]);
    let error = balance_step(&options, Step::Draw, true, &()).unwrap_err().to_string();
    assert!(error.contains("other data"), "{error}");
    let empty = BalanceOptions { lists: vec![place.list("none.jsonl", &[])], ..place.options("empty") };
    assert!(matches!(balance(&empty), Err(BalanceError::NoSamples)));
    let unnamed = BalanceOptions { name: "a/b".into(), ..place.options("x") };
    assert!(matches!(balance(&unnamed), Err(BalanceError::Option { option: "name", .. })));
}

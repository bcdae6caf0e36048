use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use talkoot_dataset::{Sample, SampleId, chat::Message, sample::Origin};

use super::*;

/// A sample of source `source`, the `record`th.
fn sample(source: usize, record: u64, difficulty: Option<f32>) -> Sample {
    let origin = Origin {
        source: format!("source-{source}"),
        file: "made.json".into(),
        record,
        id: None,
        licence: None,
    };
    let messages = vec![Message::user("How much is it?"), Message::assistant(format!("It is {record}."))];
    Sample { difficulty, ..Sample::new(origin, messages, Vec::new()) }
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn list(&self, name: &str, samples: &[Sample]) -> PathBuf {
        let path = self.0.path().join(name);
        let mut list = ListWriter::create(&path, &Roots::new()).unwrap();
        samples.iter().for_each(|sample| list.write(sample).unwrap());
        list.finish().unwrap();
        path
    }

    fn options(&self, lists: Vec<PathBuf>, config: &str, out: &str) -> MixOptions {
        let config = Config::parse(config).unwrap();
        MixOptions { name: "m".into(), lists, config, out: self.0.path().join(out) }
    }
}

fn samples_of(path: &std::path::Path) -> Vec<Sample> {
    ListReader::open(path).unwrap().map(|placed| placed.unwrap().sample).collect()
}

/// The samples of each period.
fn periods(report: &MixReport) -> Vec<Vec<Sample>> {
    report.periods.iter().map(|period| samples_of(&report.path_of(period))).collect()
}

fn ids(samples: &[Sample]) -> BTreeSet<SampleId> {
    samples.iter().map(|sample| sample.id).collect()
}

fn some(count: u64) -> Vec<Sample> {
    let difficulty = |n: u64| (!n.is_multiple_of(7)).then_some((n % 50) as f32 / 50.0);
    (0..count).map(|n| sample(n as usize % 3, n, difficulty(n))).collect()
}

const THREE: &str = "cuts = [0.5, 0.8]\n\
    [[period]]\nname = \"easy\"\nshare = 2\nbands = [3, 1, 0]\n\
    [[period]]\nname = \"all\"\nshare = 5\nsources = { source-2 = 0.5 }\n\
    [[period]]\nname = \"hard\"\nshare = 3\nbands = [0, 1, 3]\nunscored = 0\n";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn nothing_is_lost_or_doubled_beyond_the_plan(
        made in prop::collection::vec((0usize..4, prop::option::of(0.0f32..=1.0)), 1..120),
        weights in prop::collection::vec((0.01f64..5.0, prop::collection::vec(0.0f64..4.0, 4)), 1..5),
        total in prop::option::of(1u64..300),
        split in 1usize..4,
        seed in 0u64..3,
    ) {
        let place = Place::new();
        let samples: Vec<Sample> =
            (0u64..).zip(made).map(|(n, (source, difficulty))| sample(source, n, difficulty)).collect();
        let mut config = format!("seed = {seed}\ncuts = [0.4, 0.7]\n");
        if let Some(total) = total {
            config += &format!("samples = {total}\n");
        }
        for (number, (share, bands)) in weights.iter().enumerate() {
            let [a, b, c, unscored] = bands[..] else { unreachable!("four weights are made") };
            config += &format!(
                "[[period]]\nname = \"p{number}\"\nshare = {share}\nbands = [{a}, {b}, {c}]\nunscored = {unscored}\n"
            );
        }
        let whole = place.options(vec![place.list("all.jsonl", &samples)], &config, "whole");
        let report = match mix(&whole, &()) {
            Err(MixError::EmptyPeriod { .. }) => return Ok(()),
            report => report.unwrap(),
        };
        let periods = periods(&report);
        let mut times: BTreeMap<SampleId, u64> = BTreeMap::new();
        for (samples, told) in periods.iter().zip(&report.periods) {
            prop_assert_eq!(samples.len() as u64, told.drawn);
            prop_assert_eq!(told.drawn, told.cells.iter().map(|cell| cell.drawn).sum::<u64>());
            prop_assert!(told.drawn <= told.asked);
            prop_assert_eq!(ids(samples).len(), samples.len(), "a sample comes twice in a period");
            samples.iter().for_each(|sample| *times.entry(sample.id).or_default() += 1);
        }
        let drawn: u64 = times.values().sum();
        prop_assert_eq!((report.samples, report.used), (samples.len() as u64, times.len() as u64));
        prop_assert_eq!(report.used + report.left_out, report.samples);
        prop_assert_eq!((report.drawn, report.repeated), (drawn, drawn - report.used));
        prop_assert_eq!(report.periods.iter().map(|period| period.asked).sum::<u64>(), total.unwrap_or(report.samples));
        // Of one cell no sample is used twice more than another.
        let mut cells: BTreeMap<(String, usize), Vec<u64>> = BTreeMap::new();
        for sample in &samples {
            let band = sample.difficulty.map_or(9, |d| report.least_difficulty.iter().filter(|l| **l <= d).count());
            let used = times.get(&sample.id).copied().unwrap_or(0);
            cells.entry((sample.origin.source.clone(), band)).or_default().push(used);
        }
        for used in cells.values() {
            prop_assert!(used.iter().max().unwrap() - used.iter().min().unwrap() <= 1);
        }

        // However the samples are spread over lists, each period has the same.
        let size = samples.len().div_ceil(split);
        let mut lists: Vec<PathBuf> = samples
            .chunks(size)
            .enumerate()
            .map(|(number, some)| place.list(&format!("{number}.jsonl"), some))
            .collect();
        lists.reverse();
        let other = mix(&place.options(lists, &config, "split"), &()).unwrap();
        for (one, other) in periods.iter().zip(self::periods(&other)) {
            prop_assert_eq!(ids(one), ids(&other));
        }
    }
}

#[test]
fn weights_say_how_much_more_of_something_a_period_has() {
    let place = Place::new();
    let options = place.options(vec![place.list("all.jsonl", &some(2_100))], THREE, "out");
    let report = mix(&options, &()).unwrap();
    let drawn: Vec<u64> = report.periods.iter().map(|period| period.drawn).collect();
    assert_eq!(drawn, [420, 1_050, 630]);
    let of = |period: usize, wanted: &dyn Fn(&crate::report::CellReport) -> bool| -> f64 {
        report.periods[period].cells.iter().filter(|cell| wanted(cell)).map(|cell| cell.drawn as f64).sum()
    };
    assert_eq!(of(0, &|cell| cell.band == Some(2)), 0.0);
    let [easy, middle] = [0, 1].map(|band| of(0, &|cell| cell.band == Some(band)));
    let there = |band: usize| -> f64 {
        report.periods[0]
            .cells
            .iter()
            .filter(|cell| cell.band == Some(band))
            .map(|cell| cell.there as f64)
            .sum()
    };
    let ratio = (easy / middle) / (there(0) / there(1));
    assert!((ratio - 3.0).abs() < 0.1, "{ratio}");
    let [one, half] = ["source-1", "source-2"].map(|source| of(1, &|cell| cell.source == source));
    assert!((one / half - 2.0).abs() < 0.05, "{one} {half}");
    assert_eq!(of(2, &|cell| cell.band.is_none() || cell.band == Some(0)), 0.0);
    let easiest = samples_of(&report.path_of(&report.periods[0]));
    let hardest = samples_of(&report.path_of(&report.periods[2]));
    let mean = |samples: &[Sample]| {
        let scored: Vec<f32> = samples.iter().filter_map(|sample| sample.difficulty).collect();
        scored.iter().sum::<f32>() / scored.len() as f32
    };
    assert!(mean(&easiest) + 0.2 < mean(&hardest), "{} {}", mean(&easiest), mean(&hardest));
    let table = report.table();
    assert!(table.contains("easy") && table.contains("  band  3") && table.contains("  source-2"), "{table}");
}

#[test]
fn another_seed_draws_others_and_the_same_one_the_same_bytes() {
    let place = Place::new();
    let lists = vec![place.list("all.jsonl", &some(300))];
    let bytes = |report: &MixReport| -> Vec<Vec<u8>> {
        let mut files: Vec<PathBuf> = report.periods.iter().map(|period| report.path_of(period)).collect();
        files.push(report.folder.join("m.report.json"));
        files.iter().map(|path| fs::read(path).unwrap()).collect()
    };
    let one = mix(&place.options(lists.clone(), THREE, "one"), &()).unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    let again = pool.install(|| mix(&place.options(lists.clone(), THREE, "again"), &())).unwrap();
    assert_eq!(bytes(&one), bytes(&again));
    let other = mix(&place.options(lists, &format!("seed = 1\n{THREE}"), "other"), &()).unwrap();
    assert_eq!(other.used, one.used);
    assert_ne!(periods(&other), periods(&one));
}

#[test]
fn an_earlier_mixture_leaves_nothing_behind() {
    let place = Place::new();
    let lists = vec![place.list("all.jsonl", &some(60))];
    mix(&place.options(lists.clone(), THREE, "out"), &()).unwrap();
    let out = place.0.path().join("out");
    fs::write(out.join("m.002.samples.jsonl.part"), "half a list").unwrap();
    mix(&place.options(lists, "[[period]]\nname = \"one\"", "out"), &()).unwrap();
    let names: BTreeSet<String> =
        fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["m.001.samples.jsonl", "m.report.json"]);
}

#[test]
fn what_cannot_be_mixed_is_refused_with_the_reason() {
    let place = Place::new();
    let list = place.list("all.jsonl", &some(60));
    let refused = |config: &str| {
        let error = mix(&place.options(vec![list.clone()], config, "out"), &()).unwrap_err();
        assert!(!place.0.path().join("out/m.report.json").exists());
        error.to_string()
    };
    let error = refused("[[period]]\nname = \"a\"\nsources = { orc = 2 }");
    assert!(error.contains("\"orc\"") && error.contains("source-0, source-1, source-2"), "{error}");
    let error = refused("[[period]]\nname = \"a\"\n[[period]]\nname = \"b\"\nother_sources = 0");
    assert!(error.contains("period[1], b: it asks for 30 samples"), "{error}");
    let report = mix(&place.options(vec![list], "[[period]]\nname = \"a\"", "out"), &()).unwrap();
    let own = report.path_of(&report.periods[0]);
    let error = mix(&place.options(vec![own.clone()], "[[period]]\nname = \"a\"", "out"), &()).unwrap_err();
    assert!(matches!(error, MixError::InTheWay { .. }), "{error}");
    let mut options = place.options(vec![own], "[[period]]\nname = \"a\"", "elsewhere");
    mix(&options, &()).unwrap();
    options.lists = vec![place.list("none.jsonl", &[])];
    assert!(matches!(mix(&options, &()), Err(MixError::EmptyPeriod { .. })));
    options.lists.clear();
    assert!(matches!(mix(&options, &()), Err(MixError::Option { option: "lists", .. })));
}

use std::{collections::BTreeMap, fs, path::Path};

use talkoot_dataset::{
    ListReader, ListWriter, PictureRef, Rgb, Roots, Sample, SampleId, SynthOptions, chat::Message,
    ingest::ingest, sample::Origin,
};

use super::*;
use crate::rule::{Dropped, Rule};

struct Place {
    dir: tempfile::TempDir,
    roots: Roots,
    samples: Vec<Sample>,
}

impl Place {
    /// Drawn pictures with conversations, and one bad sample for each of some rules.
    fn drawn() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let synth =
            SynthOptions { seed: 3, train_pictures: 30, heldout_pictures: 2, ..SynthOptions::default() };
        let report = synth.write(&dir.path().join("data")).unwrap();
        let ingested = ingest(&[report.instruct], &report.folder).unwrap();
        let mut place = Self { dir, roots: ingested.roots, samples: ingested.samples };
        place.picture("blank.png", &Rgb { width: 60, height: 40, rgb: vec![255; 60 * 40 * 3] });
        place.picture("tiny.png", &stripes(20, 300));
        place.plant(100, "images/blank.png", "What is it?", "a wall");
        place.plant(101, "images/tiny.png", "What is it?", "a thread");
        place.plant(102, "images/t00001.png", "What is it?", "I'm sorry, I cannot tell.");
        place.plant(103, "images/t00002.png", "What is it?", &"very ".repeat(8));
        let mut again = place.samples[4].clone();
        again.origin.record = 104;
        place.samples.push(Sample::new(again.origin, again.messages, again.pictures));
        place
    }

    fn picture(&self, name: &str, picture: &Rgb) {
        let path = self.dir.path().join("data/images").join(name);
        image::save_buffer(path, &picture.rgb, picture.width, picture.height, image::ExtendedColorType::Rgb8)
            .unwrap();
    }

    fn plant(&mut self, record: u64, path: &str, question: &str, answer: &str) {
        let bytes = fs::metadata(self.dir.path().join("data").join(path)).unwrap().len();
        let (root, path) = (self.samples[0].pictures[0].root.clone(), path.to_owned());
        let picture = PictureRef { root, path, offset: None, bytes, width: None, height: None };
        let origin =
            Origin { source: "planted".into(), file: "planted.json".into(), record, id: None, licence: None };
        let messages = vec![Message::user(format!("<image>\n{question}")), Message::assistant(answer)];
        self.samples.push(Sample::new(origin, messages, vec![picture]));
    }

    fn list(&self, name: &str, samples: &[Sample]) -> PathBuf {
        let path = self.dir.path().join(name);
        let mut list = ListWriter::create(&path, &self.roots).unwrap();
        samples.iter().for_each(|sample| list.write(sample).unwrap());
        list.finish().unwrap();
        path
    }

    fn options(&self, out: &str) -> FilterOptions {
        FilterOptions {
            name: "f".into(),
            lists: vec![self.list("all.jsonl", &self.samples)],
            config: Config::default(),
            out: self.dir.path().join(out),
        }
    }
}

fn stripes(width: u32, height: u32) -> Rgb {
    let rgb =
        (0..width * height).flat_map(|at| if at / 7 % 2 == 0 { [0; 3] } else { [250, 10, 99] }).collect();
    Rgb { width, height, rgb }
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

fn rejects_of(path: &Path) -> Vec<Dropped> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn each_bad_sample_is_named_with_its_rule_and_all_others_are_kept_with_scores() {
    let place = Place::drawn();
    let report = filter(&place.options("out")).unwrap();
    let rejects = rejects_of(&report.path_of("f.rejects.jsonl"));
    let named = |record: u64| -> Vec<Rule> {
        let reject = rejects.iter().find(|reject| reject.reject.origin.record == record);
        reject.map_or(Vec::new(), |reject| reject.broken.iter().map(|broken| broken.rule).collect())
    };
    assert_eq!(named(100), [Rule::Blank]);
    assert_eq!(named(101), [Rule::Side]);
    assert_eq!(named(102), [Rule::Refusal]);
    assert_eq!(named(103), [Rule::Repeated]);
    // Of the two that are the same the one with the smaller id is kept.
    let twins = [&place.samples[4], place.samples.last().unwrap()];
    let dropped = twins.iter().map(|twin| (twin.id, twin.origin.record)).max().unwrap();
    let twin = rejects.iter().find(|reject| reject.id == dropped.0).unwrap();
    assert_eq!(twin.broken[0].rule, Rule::Duplicate);
    let kept = twins.iter().map(|twin| twin.id).min().unwrap();
    assert!(twin.reject.reason.contains(&kept.to_string()[..16]), "{}", twin.reject.reason);

    let kept = samples_of(&report.path_of("f.samples.jsonl"));
    assert_eq!(report.samples, place.samples.len() as u64);
    assert_eq!((report.kept, report.dropped), (kept.len() as u64, rejects.len() as u64));
    assert!(kept.iter().all(|sample| sample.quality.is_some() && sample.difficulty.is_some()));
    let unscored = |sample: &Sample| Sample { quality: None, difficulty: None, ..sample.clone() };
    let unnamed: Vec<Sample> = kept.iter().map(unscored).collect();
    let gone = |sample: &&Sample| !rejects.iter().any(|reject| reject.id == sample.id);
    let wanted: Vec<Sample> = place.samples.iter().filter(gone).cloned().collect();
    assert_eq!(unnamed, wanted, "nothing else is changed, in the same order");

    let blank = report.rules.iter().find(|effect| effect.rule == Rule::Blank).unwrap();
    assert_eq!((blank.dropped, blank.only), (1, 1));
    assert!(
        blank.examples[0].starts_with("record 100 of planted.json: picture images/blank.png"),
        "{blank:?}"
    );
    let page = fs::read_to_string(report.path_of("f.report.html")).unwrap();
    assert_eq!(page.matches("<svg").count(), 5);
    assert!(
        !page.contains("://")
            || page.matches("://").count() == page.matches("http://www.w3.org/2000/svg").count()
    );
}

#[test]
fn neither_threads_nor_parts_nor_a_kill_change_a_byte() {
    let place = Place::drawn();
    let whole = filter(&place.options("whole")).unwrap();
    let wanted = files(&whole.folder);
    assert_eq!(wanted.len(), 4, "{:?}", wanted.keys());
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let report = pool.install(|| filter(&place.options(&format!("threads{threads}")))).unwrap();
        assert!(files(&report.folder) == wanted, "{threads} threads");
    }
    let options = place.options("parts");
    for part in ["3/3", "1/3", "2/3"] {
        filter_step(&options, Step::Examine(part.parse().unwrap()), true, &()).unwrap();
    }
    // A second split that is not whole is not in the way.
    filter_step(&options, Step::Examine("2/5".parse().unwrap()), true, &()).unwrap();
    filter_step(&options, Step::Finish, true, &()).unwrap().unwrap();
    assert!(files(&options.out) == wanted, "three parts");

    // Killed while it wrote: the examined part, the duplicates and half a list are there.
    let options = place.options("killed");
    filter_step(&options, Step::Examine(Part::WHOLE), true, &()).unwrap();
    fs::write(options.out.join("f.samples.jsonl.part"), "half").unwrap();
    filter_step(&options, Step::All, true, &()).unwrap().unwrap();
    assert!(files(&options.out) == wanted, "killed");
}

#[test]
fn the_order_of_lists_changes_nothing_about_what_is_kept() {
    let place = Place::drawn();
    let ids = |lists: Vec<PathBuf>, out: &str| {
        let report = filter(&FilterOptions { lists, ..place.options(out) }).unwrap();
        let mut ids: Vec<(SampleId, Option<u32>)> = samples_of(&report.path_of("f.samples.jsonl"))
            .iter()
            .map(|sample| (sample.id, sample.quality.map(f32::to_bits)))
            .collect();
        ids.sort_unstable();
        ids
    };
    let (a, b) = place.samples.split_at(11);
    let (a, b) = (place.list("a.jsonl", a), place.list("b.jsonl", b));
    let all = ids(place.options("x").lists, "all");
    assert_eq!(ids(vec![a.clone(), b.clone()], "ab"), all);
    assert_eq!(ids(vec![b, a], "ba"), all);
}

#[test]
fn lists_that_call_different_folders_by_one_name_are_filtered_together() {
    let (place, other) = (Place::drawn(), tempfile::tempdir().unwrap());
    let data = SynthOptions { seed: 8, train_pictures: 5, heldout_pictures: 1, ..SynthOptions::default() };
    let drawn = data.write(&other.path().join("data")).unwrap();
    let ingested = ingest(&[drawn.instruct], &drawn.folder).unwrap();
    let second = other.path().join("second.jsonl");
    let mut list = ListWriter::create(&second, &ingested.roots).unwrap();
    ingested.samples.iter().for_each(|sample| list.write(sample).unwrap());
    list.finish().unwrap();
    let mut options = place.options("both");
    options.lists.push(second);
    let report = filter(&options).unwrap();
    let path = report.path_of("f.samples.jsonl");
    let roots = ListReader::open(&path).unwrap().roots().clone();
    let names: Vec<&str> = roots.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["pictures", "pictures-2"]);
    for sample in samples_of(&path) {
        roots.read(&sample.pictures[0], 1 << 20).unwrap();
    }
}

#[test]
fn work_with_other_rules_or_a_step_too_early_is_refused() {
    let place = Place::drawn();
    let options = place.options("out");
    let error = filter_step(&options, Step::Finish, true, &()).unwrap_err();
    assert!(matches!(error, FilterError::Work(WorkError::NotYet { done: 0, .. })), "{error}");
    filter_step(&options, Step::Examine("1/2".parse().unwrap()), true, &()).unwrap();
    let error = filter_step(&options, Step::Finish, true, &()).unwrap_err();
    assert!(error.to_string().contains("1 parts are"), "{error}");
    let mut others = options.clone();
    others.config.picture.min_side = 29;
    let error = filter_step(&others, Step::All, true, &()).unwrap_err();
    assert!(matches!(error, FilterError::Work(WorkError::OtherWork { .. })), "{error}");
    // Anew it may begin with anything.
    filter_step(&others, Step::All, false, &()).unwrap().unwrap();
}

#[test]
fn unusable_lists_and_names_are_refused_with_the_reason() {
    let place = Place::drawn();
    let mut options = place.options("out");
    options.name = "a/b".into();
    assert!(matches!(filter(&options), Err(FilterError::Option { option: "name", .. })));
    let mut options = place.options("out");
    options.lists.clear();
    assert!(matches!(filter(&options), Err(FilterError::Option { option: "lists", .. })));
    let options = place.options("out");
    let whole = fs::read(&options.lists[0]).unwrap();
    for (bytes, named) in [
        (&whole[..whole.len() - 20], "cut off"),
        (b"{}".as_slice(), "not a list of samples"),
        (&[&whole[..200], b"\0\xff\n{".as_slice()].concat(), "bad line"),
    ] {
        fs::write(&options.lists[0], bytes).unwrap();
        let error = filter(&options).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
}

#[test]
fn a_list_that_changed_meanwhile_is_noticed() {
    let place = Place::drawn();
    let options = place.options("out");
    filter_step(&options, Step::Examine(Part::WHOLE), true, &()).unwrap();
    let mut others = place.samples.clone();
    others.swap(2, 3);
    place.list("all.jsonl", &others);
    assert!(matches!(
        filter_step(&options, Step::All, true, &()),
        Err(FilterError::Work(WorkError::OtherWork { .. }))
    ));
}

#[test]
fn an_empty_list_gives_an_empty_list() {
    let place = Place::drawn();
    let mut options = place.options("out");
    options.lists = vec![place.list("none.jsonl", &[])];
    let report = filter(&options).unwrap();
    assert_eq!((report.samples, report.kept, report.dropped), (0, 0, 0));
    assert_eq!(samples_of(&report.path_of("f.samples.jsonl")).len(), 0);
}

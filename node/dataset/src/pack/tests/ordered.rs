//! Packs of one period after those of another.

use std::path::PathBuf;

use super::*;
use crate::{
    ingest::ingest,
    sample::{ListWriter, Roots, Sample, SampleId},
};

struct Lists {
    drawn: Drawn,
    samples: Vec<Sample>,
    roots: Roots,
}

impl Lists {
    fn new() -> Self {
        let drawn = drawn();
        let Input::Records { files, pictures } = &drawn.options.input else { panic!("the input is records") };
        let ingested = ingest(files, pictures).unwrap();
        Self { drawn, samples: ingested.samples, roots: ingested.roots }
    }

    fn list(&self, name: &str, samples: &[Sample]) -> PathBuf {
        let path = self.drawn.dir.path().join(name);
        let mut list = ListWriter::create(&path, &self.roots).unwrap();
        samples.iter().for_each(|sample| list.write(sample).unwrap());
        list.finish().unwrap();
        path
    }

    /// Three periods; the last has some samples of the first once more.
    fn periods(&self) -> [&[Sample]; 3] {
        [&self.samples[..7], &self.samples[7..30], &self.samples[3..14]]
    }

    fn options(&self, out: &str) -> PackOptions {
        let lists =
            (0..).zip(self.periods()).map(|(number, some)| self.list(&format!("{number}.jsonl"), some));
        PackOptions {
            input: Input::Lists(lists.collect()),
            ordered: true,
            out: self.drawn.dir.path().join(out),
            ..self.drawn.options.clone()
        }
    }
}

fn ids(samples: impl IntoIterator<Item = SampleId>) -> Vec<SampleId> {
    let mut ids: Vec<SampleId> = samples.into_iter().collect();
    ids.sort_unstable();
    ids
}

#[test]
fn each_list_is_a_period_with_packs_and_shards_of_its_own() {
    let lists = Lists::new();
    let report = pack_dataset(&lists.options("out")).unwrap();
    assert_eq!((report.periods.len(), report.periods.iter().sum()), (3, report.totals.packs));
    let reader = reader(&report);
    assert_eq!(reader.index().periods, report.periods);
    let mut first = 0;
    for (samples, &packs) in lists.periods().into_iter().zip(&report.periods) {
        let of = |pack| reader.with_parts(pack, |parts| Ok(parts.samples)).unwrap();
        let packed = (first..first + packs).flat_map(of).map(|sample| sample.id);
        assert_eq!(ids(packed), ids(samples.iter().map(|sample| sample.id)));
        first += packs;
        let ends = reader.index().shards.iter().any(|s| s.first_pack + u64::from(s.packs) == first);
        assert!(ends, "a shard goes on after pack {first}");
    }
    let together = PackOptions { ordered: false, ..lists.options("together") };
    let together = pack_dataset(&together).unwrap();
    assert!(together.periods.is_empty() && together.totals.samples == report.totals.samples);
    let read = |report: &PackReport| DatasetManifest::from_bytes(&manifest(report)).unwrap();
    let difference = inspect::diff(&read(&together), &read(&report));
    assert!(difference.changes.iter().any(|(what, before, _)| what == "periods" && before.is_empty()));
    let told = inspect::describe_manifest(&read(&report));
    assert!(told.contains("periods          3 of "), "{told}");
}

#[test]
fn periods_that_are_packed_in_parts_are_the_same() {
    let lists = Lists::new();
    let whole = lists.options("whole");
    pack_dataset(&whole).unwrap();
    let wanted = files(&whole.out);
    for (measured_by, written_by) in [(1, 3), (5, 2)] {
        let options = lists.options(&format!("split{measured_by}"));
        let step = |step| pack_step(&options, step, true, &()).unwrap();
        for index in (0..measured_by).rev() {
            step(Step::Measure(Part::new(index, measured_by).unwrap()));
        }
        step(Step::Plan);
        for index in (0..written_by).rev() {
            step(Step::Write(Part::new(index, written_by).unwrap()));
        }
        step(Step::Finish).unwrap();
        assert_eq!(differing(&files(&options.out), &wanted), [""; 0], "{measured_by} {written_by}");
    }
}

#[test]
fn a_period_without_samples_is_named() {
    let lists = Lists::new();
    let mut options = lists.options("out");
    let Input::Lists(paths) = &mut options.input else { panic!("the input is lists") };
    paths.insert(1, lists.list("none.jsonl", &[]));
    let error = pack_dataset(&options).unwrap_err();
    assert!(matches!(&error, PackError::EmptyPeriod { list, .. } if list.ends_with("none.jsonl")), "{error}");
    options.input = lists.drawn.options.input.clone();
    let error = pack_dataset(&options).unwrap_err();
    assert!(matches!(error, PackError::Option { option: "ordered", .. }), "{error}");
}

use std::{fs, path::PathBuf};

use talkoot_dataset::{
    ListReader, ListWriter, PictureRef, Reject, Roots, Sample, chat::Message, sample::Origin,
};

use super::*;

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let pixels: Vec<u8> = (0..50 * 40 * 3).map(|at| (at % 251) as u8).collect();
        image::save_buffer(place.path("p.png"), &pixels, 50, 40, image::ExtendedColorType::Rgb8).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn sample(&self, source: &str, record: u64, answer: &str) -> Sample {
        let origin = Origin { source: source.into(), file: "f.json".into(), record, id: None, licence: None };
        let bytes = fs::metadata(self.path("p.png")).unwrap().len();
        let picture = PictureRef {
            root: "r".into(),
            path: "p.png".into(),
            offset: None,
            bytes,
            width: None,
            height: None,
        };
        let messages = vec![Message::user("<image>What?"), Message::assistant(answer)];
        let mut sample = Sample::new(origin, messages, vec![picture]);
        sample.quality = Some(0.3217);
        sample
    }

    fn list(&self, samples: &[Sample]) -> PathBuf {
        let mut roots = Roots::new();
        roots.add("r", self.0.path()).unwrap();
        let path = self.path("list.jsonl");
        let mut list = ListWriter::create(&path, &roots).unwrap();
        samples.iter().for_each(|sample| list.write(sample).unwrap());
        list.finish().unwrap();
        path
    }

    fn export(&self, samples: usize) -> (Exported, String) {
        let options = ExportOptions {
            list: self.path("list.jsonl"),
            samples,
            seed: 0,
            picture_bytes: 1 << 20,
            out: self.path("page.html"),
        };
        let exported = export(&options, &()).unwrap();
        (exported, fs::read_to_string(self.path("page.html")).unwrap())
    }

    fn import(&self, verdicts: &str) -> Result<Imported, ReviewError> {
        fs::write(self.path("verdicts.json"), verdicts).unwrap();
        import(
            &self.path("list.jsonl"),
            &self.path("verdicts.json"),
            &self.path("out.jsonl"),
            &self.path("out.rejects.jsonl"),
            &(),
        )
    }
}

fn verdicts(keep: &[&Sample], drop: &[&Sample]) -> String {
    let ids = |samples: &[&Sample]| samples.iter().map(|sample| sample.id).collect::<Vec<_>>();
    let (keep, drop) = (ids(keep), ids(drop));
    serde_json::json!({"review": "talkoot review", "version": 1, "page": "x", "samples": 3, "keep": keep, "drop": drop})
        .to_string()
}

/// The ids of the page, in order.
fn shown(page: &str) -> Vec<&str> {
    page.split("data-id=\"").skip(1).map(|rest| &rest[..32]).collect()
}

#[test]
fn a_page_shows_each_source_and_escapes_whatever_stands_in_the_data() {
    let place = Place::new();
    let evil = "</p><script>alert(1)</script> & \"quotes\" 'here'";
    let mut samples: Vec<Sample> = (0..20).map(|n| place.sample("large", n, "a dog")).collect();
    samples.push(place.sample("<b>small", 99, evil));
    place.list(&samples);
    let (exported, page) = place.export(6);
    assert_eq!((exported.samples, exported.of), (6, 21));
    let shares: Vec<(&str, u64, u64)> =
        exported.sources.iter().map(|share| (share.source.as_str(), share.samples, share.of)).collect();
    assert_eq!(shares, [("<b>small", 1, 1), ("large", 5, 20)]);
    assert_eq!(shown(&page).len(), 6);
    assert_eq!(shown(&page)[0], samples[20].id.to_string());
    assert!(
        !page.contains("<script>alert")
            && page.contains("&lt;/p&gt;&lt;script&gt;alert(1)&lt;/script&gt; &amp;")
    );
    assert!(page.contains("&lt;b&gt;small, record 99") && !page.contains("<b>small"));
    assert_eq!(page.matches("<img alt=\"Picture 1 of sample").count(), 6);
    assert!(!page.contains("://"), "it loads nothing");
    assert_eq!(page.matches("<script>").count(), 1);
    // Once more it is the same page; another seed draws others.
    assert_eq!(place.export(6).1, page);
}

#[test]
fn pictures_that_do_not_fit_or_cannot_be_read_are_named() {
    let place = Place::new();
    let mut gone = place.sample("s", 1, "a dog");
    gone.pictures[0].path = "gone.png".into();
    place.list(&[place.sample("s", 0, "a cat"), gone]);
    let (exported, page) = place.export(2);
    assert_eq!(exported.missing_pictures, 1);
    assert!(page.contains("&quot;gone.png&quot; cannot be found"), "{page}");
    let options = ExportOptions {
        list: place.path("list.jsonl"),
        samples: 2,
        seed: 0,
        picture_bytes: 10,
        out: place.path("page.html"),
    };
    assert_eq!(export(&options, &()).unwrap().missing_pictures, 2);
    assert!(fs::read_to_string(place.path("page.html")).unwrap().contains("p.png is not shown"));
}

#[test]
fn the_script_is_the_only_one_that_may_run() {
    use sha2::Digest as _;
    let place = Place::new();
    place.list(&[place.sample("s", 0, "a cat")]);
    let (_, page) = place.export(1);
    let script = page.split_once("<script>").unwrap().1.split_once("</script>").unwrap().0;
    let hash = data_encoding::BASE64.encode(&sha2::Sha256::digest(script.as_bytes()));
    assert!(page.contains(&format!("script-src 'sha256-{hash}'")));
}

#[test]
fn verdicts_drop_what_they_say_and_change_nothing_else() {
    let place = Place::new();
    let samples: Vec<Sample> = (0..5).map(|n| place.sample("s", n, "a dog")).collect();
    place.list(&samples);
    let stranger = place.sample("elsewhere", 7, "?");
    let imported = place.import(&verdicts(&[&samples[0]], &[&samples[3], &stranger])).unwrap();
    assert_eq!(imported.unknown, [stranger.id]);
    assert_eq!((imported.samples, imported.kept, imported.dropped, imported.approved), (5, 4, 1, 1));
    let lines = |name: &str| {
        fs::read_to_string(place.path(name)).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let mut wanted = lines("list.jsonl");
    wanted.remove(4);
    *wanted.last_mut().unwrap() = "{\"samples\":4}".into();
    assert_eq!(lines("out.jsonl"), wanted, "line by line");
    let reject: Reject = serde_json::from_str(&lines("out.rejects.jsonl")[0]).unwrap();
    assert_eq!((reject.origin.record, reject.kind), (3, talkoot_dataset::RejectKind::Reviewed));
    assert!(ListReader::open(&place.path("out.jsonl")).unwrap().all(|placed| placed.is_ok()));
}

#[test]
fn verdicts_that_are_none_are_refused_and_nothing_is_written() {
    let place = Place::new();
    let samples: Vec<Sample> = (0..2).map(|n| place.sample("s", n, "a dog")).collect();
    place.list(&samples);
    let good = verdicts(&[&samples[0]], &[&samples[1]]);
    let stranger = place.sample("elsewhere", 7, "?");
    for (text, named) in [
        ("", "EOF"),
        ("[]", "verdicts of a review"),
        ("{\"keep\": []}", "missing field"),
        (&good.replace("talkoot review", "other"), "\"other\""),
        (&good.replace("\"version\":1", "\"version\":2"), "version 2"),
        (&good.replace("\"page\":\"x\"", "\"page\":\"x\",\"more\":1"), "unknown field"),
        (&good.replace(&samples[1].id.to_string(), "x"), "hexadecimal"),
        (&good.replace(&samples[1].id.to_string(), &samples[0].id.to_string()), "two verdicts"),
        (&format!("{good}{}", " ".repeat(5 << 20)), "bytes"),
        (&verdicts(&[], &[&stranger]), "none of the 1 verdicts"),
    ] {
        let error = place.import(text).unwrap_err().to_string();
        assert!(error.contains(named), "{named}: {error}");
        assert!(!place.path("out.jsonl").exists() && !place.path("out.jsonl.part").exists());
    }
    let none = place.import(&verdicts(&[], &[])).unwrap();
    assert_eq!((none.kept, none.dropped), (2, 0), "a page that nobody judged");
}

#[test]
fn an_empty_list_or_no_samples_cannot_be_shown() {
    let place = Place::new();
    place.list(&[]);
    let options = |samples| ExportOptions {
        list: place.path("list.jsonl"),
        samples,
        seed: 0,
        picture_bytes: 1,
        out: place.path("page.html"),
    };
    assert!(matches!(export(&options(5), &()), Err(ReviewError::Empty { .. })));
    assert!(matches!(export(&options(0), &()), Err(ReviewError::Option { .. })));
    assert!(matches!(export(&options(MAX_SAMPLES + 1), &()), Err(ReviewError::Option { .. })));
}

use std::fs;

use proptest::prelude::*;

use super::*;

/// A sample with one picture of `bytes` bytes at `path` under the root `pictures`.
pub(crate) fn sample(record: u64, path: &str, bytes: u64) -> Sample {
    let origin = Origin {
        source: "test".into(),
        file: "a.json".into(),
        record,
        id: None,
        licence: Some("CC0-1.0".into()),
    };
    let picture = PictureRef {
        root: "pictures".into(),
        path: path.into(),
        offset: None,
        bytes,
        width: None,
        height: None,
    };
    let messages = vec![Message::user("<image>\nwhat?"), Message::assistant("a cat")];
    Sample::new(origin, messages, vec![picture])
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("pictures")).unwrap();
        fs::write(dir.path().join("pictures/a.png"), b"0123456789").unwrap();
        fs::write(dir.path().join("secret.png"), b"outside").unwrap();
        Self(dir)
    }

    fn roots(&self) -> Roots {
        let mut roots = Roots::new();
        roots.add("pictures", &self.0.path().join("pictures")).unwrap();
        roots
    }

    fn list(&self) -> std::path::PathBuf {
        self.0.path().join("samples.jsonl")
    }

    fn write(&self, samples: &[Sample]) {
        let mut writer = ListWriter::create(&self.list(), &self.roots()).unwrap();
        samples.iter().for_each(|sample| writer.write(sample).unwrap());
        assert!(!self.list().exists(), "a list is whole or not there");
        assert_eq!(writer.finish().unwrap(), samples.len() as u64);
    }
}

#[test]
fn what_is_read_is_what_was_written_one_by_one_or_at_an_offset() {
    let folder = Folder::new();
    let mut samples: Vec<Sample> = (0..50).map(|record| sample(record, "a.png", 10)).collect();
    samples[3].difficulty = Some(0.1);
    samples[4].kind = Some("ocr".into());
    folder.write(&samples);
    let reader = ListReader::open(&folder.list()).unwrap();
    assert_eq!(*reader.roots(), folder.roots());
    let placed: Vec<Placed> = reader.map(|placed| placed.unwrap()).collect();
    assert!(placed.iter().map(|placed| &placed.sample).eq(&samples));
    let mut file = fs::File::open(folder.list()).unwrap();
    for placed in placed.iter().rev() {
        assert_eq!(list::read_at(&mut file, &folder.list(), placed.offset).unwrap(), placed.sample);
    }
    // Not the start of a line, and the line after the last sample.
    assert!(matches!(list::read_at(&mut file, &folder.list(), 3), Err(ListError::BadLine { offset: 3, .. })));
}

#[test]
fn the_parts_of_a_list_are_the_list() {
    let folder = Folder::new();
    let samples: Vec<Sample> = (0..200).map(|record| sample(record, "a.png", 10)).collect();
    folder.write(&samples);
    let mut seen = 0;
    for part in 0..3 {
        let mut reader = ListReader::open(&folder.list()).unwrap();
        let mut here = 0;
        while let Some(placed) = reader.next_where(|id| id.part(3) == part) {
            assert_eq!(placed.unwrap().sample.id.part(3), part);
            here += 1;
        }
        assert!((30..110).contains(&here), "{here} of 200 in a third");
        seen += here;
    }
    assert_eq!(seen, 200);
}

#[test]
fn a_list_that_was_cut_off_or_changed_is_refused() {
    let folder = Folder::new();
    folder.write(&[sample(0, "a.png", 10), sample(1, "a.png", 10)]);
    let good = fs::read_to_string(folder.list()).unwrap();
    let lines: Vec<&str> = good.lines().collect();
    let read = |text: &str| -> Result<usize, ListError> {
        fs::write(folder.list(), text).unwrap();
        let mut count = 0;
        for placed in ListReader::open(&folder.list())? {
            placed?;
            count += 1;
        }
        Ok(count)
    };
    assert_eq!(read(&good).unwrap(), 2);
    let error = read(&format!("{}\n", lines[..3].join("\n"))).unwrap_err();
    assert!(matches!(&error, ListError::CutOff { reason, .. } if reason.contains("no last line")), "{error}");
    let error = read(&good[..good.len() - 30]).unwrap_err();
    assert!(matches!(error, ListError::CutOff { .. }), "{error}");
    let error = read(&format!("{}\n{}\n{}\n", lines[0], lines[1], lines[3])).unwrap_err();
    assert!(
        matches!(&error, ListError::CutOff { reason, .. } if reason.contains("2 samples and has 1")),
        "{error}"
    );
    let error = read(&good.replace("a.png", "../secret.png")).unwrap_err();
    assert!(
        matches!(&error, ListError::BadLine { reason, .. } if reason.contains("plain relative")),
        "{error}"
    );
    let error = read(&good.replace("<image>", "")).unwrap_err();
    assert!(
        matches!(&error, ListError::BadLine { reason, .. } if reason.contains("placeholders")),
        "{error}"
    );
    let error = read("{}\n").unwrap_err();
    assert!(matches!(error, ListError::NotAList { .. }), "{error}");
    let error = read(&good.replace("pictures\":\"", "pictures\":\"gone/")).unwrap_err();
    assert!(matches!(error, ListError::Read { .. }), "{error}");
}

#[test]
fn a_root_beside_the_list_moves_with_it() {
    let folder = Folder::new();
    folder.write(&[sample(0, "a.png", 10)]);
    let moved = folder.0.path().join("elsewhere");
    fs::create_dir(&moved).unwrap();
    fs::rename(folder.0.path().join("pictures"), moved.join("pictures")).unwrap();
    fs::rename(folder.list(), moved.join("samples.jsonl")).unwrap();
    let mut reader = ListReader::open(&moved.join("samples.jsonl")).unwrap();
    let placed = reader.next().unwrap().unwrap();
    assert_eq!(reader.roots().read(&placed.sample.pictures[0], 10).unwrap(), b"0123456789");
}

#[test]
fn a_reference_never_gives_more_than_its_bytes() {
    let folder = Folder::new();
    let roots = folder.roots();
    let picture = |offset, bytes| PictureRef { offset, ..sample(0, "a.png", bytes).pictures.remove(0) };
    assert_eq!(roots.read(&picture(Some(2), 3), 100).unwrap(), b"234");
    for (picture, limit, words) in [
        (picture(Some(8), 3), 100, "does not hold them"),
        (picture(Some(u64::MAX), 3), 100, "does not hold them"),
        (picture(None, 9), 100, "does not hold them"),
        (picture(None, u64::MAX), 100, "more than the limit"),
        (picture(None, 10), 9, "more than the limit"),
    ] {
        let (kind, reason) = roots.read(&picture, limit).unwrap_err();
        assert_eq!(kind, RejectKind::BadPicture);
        assert!(reason.contains(words), "{reason}");
    }
    let other = PictureRef { root: "other".into(), ..picture(None, 10) };
    assert_eq!(roots.read(&other, 100).unwrap_err().0, RejectKind::MissingPicture);
    for path in ["../secret.png", "/etc/hostname", "..\\secret.png", "", "c:a.png"] {
        let (kind, reason) = roots.file("pictures", path).unwrap_err();
        assert_eq!(kind, RejectKind::UnsafePath, "{reason}");
    }
}

/// Pinned: balancing and packing draw by it, so another value would be another data set.
#[test]
fn the_names_and_draws_of_samples_never_change() {
    let sample = sample(7, "a.png", 10);
    assert_eq!(sample.id.to_string(), "afcdf163296ea854b80dccf41babe3e7");
    assert_eq!(sample.id.draw("test", 1), 18_277_467_736_964_271_993);
    assert_ne!(sample.id.draw("test", 2), sample.id.draw("test", 1));
    assert_eq!(sample.id.to_string().parse(), Ok(sample.id));
}

#[test]
fn each_part_of_a_sample_is_in_its_name() {
    let first = sample(0, "a.png", 10);
    let mut names = vec![first.id, sample(1, "a.png", 10).id, sample(0, "a.png", 11).id];
    let mut origin = first.origin.clone();
    origin.source = "other".into();
    names.push(SampleId::of(&origin, &first.messages, &first.pictures));
    let turns = [Message::user("<image>\nwhat?"), Message::assistant("a dog")];
    names.push(SampleId::of(&first.origin, &turns, &first.pictures));
    // Bytes on the other side of a border are other bytes.
    let turns = [Message::user("<image>\nwhat?a"), Message::assistant(" cat")];
    names.push(SampleId::of(&first.origin, &turns, &first.pictures));
    names.push(SampleId::of(&first.origin, &first.messages, &[]));
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    assert_eq!(sample(0, "elsewhere.png", 10).id, first.id, "a picture may move");
}

proptest! {
    #[test]
    fn any_bytes_end_in_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..400), keep_head in any::<bool>()) {
        let folder = Folder::new();
        folder.write(&[sample(0, "a.png", 10)]);
        let mut content = fs::read(folder.list()).unwrap();
        let head = if keep_head { content.iter().position(|&b| b == b'\n').unwrap() + 1 } else { 0 };
        content.truncate(head);
        content.extend(&bytes);
        fs::write(folder.list(), &content).unwrap();
        if let Ok(reader) = ListReader::open(&folder.list()) {
            prop_assert!(reader.take(1000).any(|placed| placed.is_err()), "random bytes are no list");
        }
    }

    #[test]
    fn a_damaged_line_never_gives_a_sample_that_fails_its_check(at in 0_usize..300, byte in any::<u8>()) {
        let folder = Folder::new();
        folder.write(&[sample(0, "a.png", 10)]);
        let mut content = fs::read(folder.list()).unwrap();
        let at = at % content.len();
        content[at] = byte;
        fs::write(folder.list(), &content).unwrap();
        if let Ok(reader) = ListReader::open(&folder.list()) {
            for placed in reader.flatten() {
                prop_assert!(placed.sample.check().is_ok());
            }
        }
    }
}

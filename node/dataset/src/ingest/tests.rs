use std::{fs, path::Path};

use super::*;

struct Folder(tempfile::TempDir);

impl Folder {
    /// A picture folder with `a.png`, and a secret beside it.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("pictures/sub")).unwrap();
        fs::write(dir.path().join("pictures/a.png"), b"not looked at here").unwrap();
        fs::write(dir.path().join("pictures/sub/b.png"), b"nor this").unwrap();
        fs::write(dir.path().join("secret.png"), b"outside").unwrap();
        Self(dir)
    }

    fn ingest(&self, name: &str, content: &str) -> Result<Ingested, IngestError> {
        let file = self.0.path().join(name);
        fs::write(&file, content).unwrap();
        let out = ingest(&[file], &self.0.path().join("pictures"))?;
        assert_eq!(
            out.records,
            (out.samples.len() + out.rejects.len()) as u64,
            "records in = samples + rejects"
        );
        Ok(out)
    }

    fn one_reject(&self, record: &str) -> Reject {
        let mut out = self.ingest("one.json", &format!("[{record}]")).unwrap();
        assert_eq!(out.samples, [], "{record}");
        out.rejects.pop().unwrap()
    }
}

fn turns(question: &str, answer: &str) -> String {
    format!(
        r#""conversations":[{{"from":"human","value":"{question}"}},{{"from":"gpt","value":"{answer}"}}]"#
    )
}

#[test]
fn the_usual_shapes_are_read() {
    let folder = Folder::new();
    let talk = turns("hi", "yes");
    let asked = turns("<image>\\nwhat?", "a cat");
    let both = turns("<image><image> same?", "no");
    let lines = [
        format!(r#"{{"id":7,"image":"a.png",{asked}}}"#),
        format!(r#"{{"id":"t",{talk}}}"#),
        String::new(),
        format!(r#"{{"images":["a.png","./sub/b.png"],{both}}}"#),
        r#"{"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"},{"role":"assistant","content":"d"}]}"#.into(),
    ];
    let out = folder.ingest("good.jsonl", &lines.join("\n")).unwrap();
    assert_eq!(out.rejects, []);
    let pictures: Vec<usize> = out.samples.iter().map(|sample| sample.pictures.len()).collect();
    assert_eq!(pictures, [1, 0, 2, 0]);
    assert_eq!(out.samples[0].origin.id.as_deref(), Some("7"));
    let origin =
        Origin { source: "good".into(), file: "good.jsonl".into(), record: 2, id: None, licence: None };
    assert_eq!(out.samples[2].origin, origin);
    assert_eq!(out.samples[3].messages.len(), 5);
}

#[test]
fn each_bad_record_is_refused_for_its_reason() {
    let folder = Folder::new();
    let asked = turns("<image>what?", "a cat");
    for (record, kind, words) in [
        ("5".to_owned(), RejectKind::Malformed, "invalid type"),
        (r#"{"id":"x"}"#.into(), RejectKind::Malformed, "conversations"),
        (r#"{"conversations":[{"from":"robot","value":"x"}]}"#.into(), RejectKind::Malformed, "robot"),
        (format!("{{{asked}}}"), RejectKind::Conversation, "1 <image> placeholders for 0 pictures"),
        (
            format!(r#"{{"image":"a.png",{}}}"#, turns("what?", "x")),
            RejectKind::Conversation,
            "0 <image> placeholders for 1 pictures",
        ),
        (
            format!(r#"{{"image":"a.png",{}}}"#, turns("<image>", "  ")),
            RejectKind::Conversation,
            "empty answer",
        ),
        (
            format!(r#"{{"image":"a.png",{}}}"#, turns("<image>", "a<|im_end|>")),
            RejectKind::Conversation,
            "<|im_end|>",
        ),
        (r#"{"conversations":[]}"#.into(), RejectKind::Conversation, "no turns"),
        (format!(r#"{{"image":"none.png",{asked}}}"#), RejectKind::MissingPicture, "none.png"),
        (format!(r#"{{"image":"sub",{asked}}}"#), RejectKind::MissingPicture, "not a file"),
        (format!(r#"{{"image":"../secret.png",{asked}}}"#), RejectKind::UnsafePath, "plain relative"),
        (format!(r#"{{"image":"sub/../../secret.png",{asked}}}"#), RejectKind::UnsafePath, "plain relative"),
        (format!(r#"{{"image":"/etc/hostname",{asked}}}"#), RejectKind::UnsafePath, "plain relative"),
        (format!(r#"{{"image":"..\\secret.png",{asked}}}"#), RejectKind::UnsafePath, "plain relative"),
        (format!(r#"{{"image":"",{asked}}}"#), RejectKind::UnsafePath, "plain relative"),
    ] {
        let reject = folder.one_reject(&record);
        assert_eq!(reject.kind, kind, "{record}: {}", reject.reason);
        assert!(reject.reason.contains(words), "{record}: {}", reject.reason);
        assert_eq!((reject.origin.file.as_str(), reject.origin.record), ("one.json", 0));
        assert!(!reject.remedy.is_empty());
    }
}

#[cfg(unix)]
#[test]
fn a_link_out_of_the_folder_is_not_followed() {
    let folder = Folder::new();
    std::os::unix::fs::symlink(folder.0.path().join("secret.png"), folder.0.path().join("pictures/link.png"))
        .unwrap();
    let reject = folder.one_reject(&format!(r#"{{"image":"link.png",{}}}"#, turns("<image>what?", "x")));
    assert_eq!(reject.kind, RejectKind::UnsafePath, "{}", reject.reason);
    assert!(reject.reason.contains("link out of"));
}

#[test]
fn one_bad_line_does_not_take_its_neighbours_with_it() {
    let folder = Folder::new();
    let good = format!("{{{}}}", turns("hi", "yes"));
    let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(MAX_LINE_BYTES as usize + 5));
    let out = folder.ingest("mixed.jsonl", &format!("{good}\n{{oops\n{long}\n{good}\n")).unwrap();
    assert_eq!((out.records, out.samples.len()), (4, 2));
    assert_eq!(out.samples[1].origin.record, 3);
    assert!(out.rejects.iter().all(|reject| reject.kind == RejectKind::Malformed));
}

#[test]
fn a_file_that_is_no_array_is_an_error() {
    let error = Folder::new().ingest("bad.json", "{\"a\": [").unwrap_err();
    assert!(matches!(error, IngestError::NotAnArray { .. }), "{error}");
    let error = ingest(&[], Path::new("no such folder")).unwrap_err();
    assert!(matches!(error, IngestError::Read { .. }), "{error}");
}

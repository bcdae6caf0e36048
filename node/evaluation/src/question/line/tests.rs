use std::path::Path;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("in")).unwrap();
    for name in ["a.png", "in/b c.png"] {
        std::fs::write(folder.path().join(name), b"not looked into").unwrap();
    }
    folder
}

fn roots(folder: &Path) -> Roots {
    let mut roots = Roots::new();
    roots.add(PICTURES, folder).unwrap();
    roots
}

fn read(line: &serde_json::Value) -> Result<Question, String> {
    let folder = folder();
    parse(line.to_string().as_bytes(), 7, &roots(folder.path()), None)
}

fn refused(line: serde_json::Value, reason: &str) {
    let error = read(&line).unwrap_err();
    assert!(error.contains(reason), "{line}: {error:?} does not say {reason:?}");
}

#[test]
fn a_short_question_gets_what_it_leaves_out() {
    let question = read(&json!({"question": "What is it?", "answer": "a cat"})).unwrap();
    assert_eq!((question.id.as_str(), question.line), ("7", 7));
    assert_eq!(question.messages, [Message::user("What is it?")]);
    assert_eq!((question.answers, question.metric), (vec!["a cat".to_owned()], Metric::Exact));
    assert_eq!((question.kind, question.right, question.extra), (None, None, None));
}

#[test]
fn every_field_is_read() {
    let question = read(&json!({
        "id": 12, "images": ["a.png", "./in/b c.png"], "kind": "chart", "metric": "anls", "extra": {"source": 1},
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Here <image> and <image>"},
            {"role": "assistant", "content": "Fine."},
            {"role": "user", "content": "How many?"}],
        "answers": [3, "three"],
    }))
    .unwrap();
    assert_eq!(question.id, "12");
    assert_eq!(question.pictures.len(), 2);
    assert!(question.pictures[1].ends_with("in/b c.png"));
    assert_eq!(question.answers, ["3", "three"]);
    assert_eq!((question.metric, question.kind.as_deref()), (Metric::Anls, Some("chart")));
    assert_eq!(question.asked(), "How many?");
    assert_eq!(question.extra, Some(json!({"source": 1})));
}

#[test]
fn pictures_without_a_place_come_first() {
    let question = read(&json!({"question": "Same?", "image": ["a.png", "a.png"], "answer": "yes"})).unwrap();
    assert_eq!(question.messages[0].text, "<image>\n<image>\nSame?");
    assert_eq!(question.asked(), "Same?");
}

#[test]
fn the_usual_metric_follows_the_answer() {
    let metric = |line| read(&line).unwrap().metric;
    assert_eq!(metric(json!({"question": "?", "answer": 4.5})), Metric::Relaxed);
    assert_eq!(metric(json!({"question": "?", "answers": ["4", "four"]})), Metric::Exact);
    assert_eq!(metric(json!({"question": "?", "answer": "A", "choices": [1, 2]})), Metric::Choice);
    let folder = folder();
    let line = json!({"question": "?", "answer": "x", "metric": "exact"}).to_string();
    let forced = parse(line.as_bytes(), 1, &roots(folder.path()), Some(Metric::Anls)).unwrap();
    assert_eq!(forced.metric, Metric::Anls);
}

#[test]
fn the_right_choice_is_named_by_letter_text_or_number() {
    let right = |answer: serde_json::Value| {
        let mut line = json!({"question": "?", "choices": ["cat", "dog", "A"]});
        line.as_object_mut().unwrap().extend(answer.as_object().unwrap().clone());
        read(&line).map(|question| (question.right, question.answers))
    };
    assert_eq!(right(json!({"answer": "b"})), Ok((Some(1), vec!["dog".to_owned()])));
    assert_eq!(right(json!({"answer": "dog"})), Ok((Some(1), vec!["dog".to_owned()])));
    assert_eq!(right(json!({"answer_index": 2})), Ok((Some(2), vec!["A".to_owned()])));
    assert!(right(json!({"answer": "A"})).unwrap_err().contains("answer_index"));
    assert!(right(json!({"answer_index": 3})).unwrap_err().contains("3 choices"));
    assert!(right(json!({"answer": "bird"})).unwrap_err().contains("neither"));
    assert!(right(json!({"answer": ["cat", "dog"]})).unwrap_err().contains("one answer"));
}

#[test]
fn what_is_wrong_is_said() {
    refused(json!([]), "invalid");
    refused(json!({"question": "?", "anwser": "x"}), "unknown field `anwser`");
    refused(json!({"answer": "x"}), "neither question nor messages");
    refused(json!({"question": "?", "messages": [], "answer": "x"}), "both");
    refused(json!({"messages": [], "answer": "x"}), "no turns");
    refused(json!({"messages": [{"role": "assistant", "content": "x"}], "answer": "x"}), "User must speak");
    refused(json!({"question": "?"}), "no answer");
    refused(json!({"question": "?", "answers": []}), "no answer");
    refused(json!({"question": "?", "answer": " "}), "empty");
    refused(json!({"question": "?", "answer": "<|im_end|>"}), "special token");
    refused(json!({"question": "a <|image_pad|>", "answer": "x"}), "special token");
    refused(json!({"question": "<image>", "answer": "x"}), "1 <image> placeholders for 0 pictures");
    refused(json!({"question": "?", "answer": "x", "metric": "bleu"}), "unknown variant `bleu`");
    refused(json!({"question": "?", "answer": "x", "metric": "choice"}), "needs choices");
    refused(json!({"question": "?", "answer": "x", "answer_index": 1}), "no choices");
    refused(json!({"question": "?", "answer": "A", "choices": ["x"]}), "1 choices");
    refused(json!({"question": "?", "answer": "A", "choices": vec!["x"; 27]}), "27 choices");
    refused(json!({"question": "?", "answers": vec!["x"; 101]}), "101 answers");
    refused(json!({"question": "?", "answer": "x".repeat(5000), "metric": "anls"}), "4096");
    for (name, reason) in [
        ("nowhere.png", "cannot be found"),
        ("../a.png", "plain relative path"),
        ("/etc/passwd", "plain relative path"),
        ("in\\b.png", "plain relative path"),
        ("in", "not a file"),
    ] {
        refused(json!({"question": "?", "answer": "x", "image": name}), reason);
    }
}

#[cfg(unix)]
#[test]
fn a_link_out_of_the_folder_is_refused() {
    let folder = folder();
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link.png")).unwrap();
    let line = json!({"question": "?", "answer": "x", "image": "link.png"}).to_string();
    let error = parse(line.as_bytes(), 1, &roots(folder.path()), None).unwrap_err();
    assert!(error.contains("link out of"), "{error}");
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in ".{0,80}") {
        let folder = &roots(Path::new("/"));
        let _ = parse(&bytes, 1, folder, None);
        let line = json!({"question": text, "answer": text, "image": text, "choices": [text, "x"]}).to_string();
        let _ = parse(line.as_bytes(), 1, folder, None);
        let _ = parse(&line.as_bytes()[..line.len() / 2], 1, folder, None);
    }
}

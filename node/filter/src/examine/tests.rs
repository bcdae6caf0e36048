use std::path::Path;

use talkoot_dataset::{PictureRef, chat::Message, sample::Origin};

use super::*;

fn origin(record: u64) -> Origin {
    Origin { source: "s".into(), file: "s.json".into(), record, id: None, licence: None }
}

fn said(answer: &str) -> Sample {
    Sample::new(origin(0), vec![Message::user("What is it?"), Message::assistant(answer)], Vec::new())
}

fn examined(config: &str, sample: &Sample) -> Vec<Broken> {
    let examiner = Examiner::new(&Config::parse(config).unwrap()).unwrap();
    examiner.examine(sample, &Roots::new()).broken
}

fn rules(config: &str, sample: &Sample) -> Vec<Rule> {
    examined(config, sample).into_iter().map(|broken| broken.rule).collect()
}

#[test]
fn lengths_count_characters_and_both_limits_are_inside() {
    let config = "[answer]\nmin_characters = 3\nmax_characters = 5";
    assert_eq!(rules(config, &said("äöü")), []);
    assert_eq!(rules(config, &said(" äöüxy\n")), []);
    assert_eq!(rules(config, &said("äö")), [Rule::Short]);
    assert_eq!(rules(config, &said("äöüxyz")), [Rule::Long]);
    let broken = examined(config, &said("äö"));
    assert_eq!(broken[0].measured, "answer \"äö\" has 2 characters");
    assert_eq!(broken[0].limit, "at least 3");
}

#[test]
fn eight_equal_words_in_a_row_are_too_many_and_seven_are_not() {
    let of = |times: usize| said(&format!("It is {}so.", "very, ".repeat(times)));
    assert_eq!(rules("", &of(7)), []);
    assert_eq!(rules("", &of(8)), [Rule::Repeated]);
    assert_eq!(rules("[answer]\nrepeated_words = 0", &of(80)), []);
    assert_eq!(rules("", &said("No NO no nO no no no no!")), [Rule::Repeated], "case does not count");
    assert_eq!(rules("", &said("no no no no yes no no no no")), [], "in a row");
    assert!(examined("", &of(9))[0].measured.contains("9 times"));
    assert_eq!(rules("", &said("哈哈哈哈哈哈哈哈")), [Rule::Repeated], "words without spaces between them");
}

#[test]
fn refusals_are_known_by_how_they_begin() {
    for refusal in ["I'm sorry, but no.", "  “I’m sorry”", "I CANNOT see it", "I can't.", "I am sorry"]
    {
        assert_eq!(rules("", &said(refusal)), [Rule::Refusal], "{refusal}");
    }
    for answer in ["I cannoth", "It says: I'm sorry", "Sorry, a dog", "im sorry"] {
        assert_eq!(rules("", &said(answer)), [], "{answer}");
    }
    assert_eq!(rules("[refusal]\nanywhere = true", &said("It says: I'm sorry")), [Rule::Refusal]);
    assert_eq!(rules("[refusal]\nopenings = []", &said("I'm sorry")), []);
    assert_eq!(rules("[refusal]\nopenings = [\"As an AI\"]", &said("as an ai model")), [Rule::Refusal]);
}

#[test]
fn marks_of_other_layouts_are_found_in_any_turn() {
    let asked = |question: &str| {
        Sample::new(origin(0), vec![Message::user(question), Message::assistant("a dog")], Vec::new())
    };
    assert_eq!(rules("", &asked("What is <img>?")), [Rule::Mark]);
    assert_eq!(rules("", &asked("What is <b>?")), []);
    assert_eq!(rules("", &said("see <image_1>")), [Rule::Mark]);
    assert_eq!(rules("[mark]\nforeign = [\"<b>\"]", &asked("What is <b>?")), [Rule::Mark]);
}

#[test]
fn a_language_that_is_not_wanted_is_named() {
    let german = "Auf dem Bild ist ein großer Hund zu sehen, der über eine grüne Wiese läuft und einen Ball im Maul trägt.";
    let english = "The picture shows a large dog that runs across a green meadow with a ball in its mouth.";
    let only = "[language]\nallowed = [\"eng\"]";
    assert_eq!(rules("", &said(german)), [], "all languages are taken when none is named");
    assert_eq!(rules(only, &said(english)), []);
    assert_eq!(rules(only, &said("Ein großer Hund")), [], "too short to judge");
    let broken = examined(only, &said(german));
    assert_eq!(broken[0].rule, Rule::Language);
    assert!(broken[0].measured.contains("deu"), "{broken:?}");
    assert_eq!(rules("[language]\nallowed = [\"eng\", \"deu\"]", &said(german)), []);
    assert_eq!(rules(only, &said(&"图片里有一只大狗在绿色的草地上奔跑。".repeat(4))), [Rule::Language]);
}

#[test]
fn quality_at_the_limit_passes() {
    let mut sample = said("a dog");
    sample.quality = Some(0.5);
    assert_eq!(rules("[score]\nmin_quality = 0.5", &sample), []);
    assert_eq!(rules("[score]\nmin_quality = 0.51", &sample), [Rule::Quality]);
    // Two different words: sqrt(2) / (sqrt(2) + 4).
    assert_eq!(rules("[score]\nmin_quality = 0.3\nkeep_given = false", &sample), [Rule::Quality]);
    assert_eq!(rules("[score]\nmin_quality = 0.26\nkeep_given = false", &sample), []);
}

#[test]
fn scores_are_as_they_are_defined() {
    let examiner = Examiner::new(&Config::default()).unwrap();
    let scores = |sample: &Sample| examiner.examine(sample, &Roots::new()).scores;
    let short = scores(&said("a dog"));
    assert_eq!(short.quality, 0.2612, "sqrt(2) / (sqrt(2) + 4)");
    assert_eq!(short.difficulty, 0.3542, "mean of 2 / 32, 0 and 1");
    let longer = scores(&said("a dog runs over the wide meadow while it rains"));
    assert!(longer.quality > short.quality && longer.difficulty > short.difficulty);
    let monotonous = scores(&said(&"dog ".repeat(7)));
    assert!(monotonous.quality < short.quality, "many words, one different");
    assert_eq!(scores(&said("What is it")).difficulty, 0.0303, "mean of 3 / 33, 0 and 0: nothing new");
    let mut given = said("a dog");
    given.difficulty = Some(0.75);
    assert_eq!(scores(&given), Scores { quality: 0.2612, difficulty: 0.75 });
    assert_eq!(scores(&said("…")).quality, 0.0, "no words");
}

fn with_picture(folder: &Path, name: &str, bytes: &[u8]) -> (Sample, Roots) {
    std::fs::write(folder.join(name), bytes).unwrap();
    let mut roots = Roots::new();
    roots.add("p", folder).unwrap();
    let picture = PictureRef {
        root: "p".into(),
        path: name.into(),
        offset: None,
        bytes: bytes.len() as u64,
        width: None,
        height: None,
    };
    let turns = vec![Message::user("<image>What is it?"), Message::assistant("I'm sorry")];
    (Sample::new(origin(4), turns, vec![picture]), roots)
}

#[test]
fn an_unreadable_picture_is_named_beside_what_else_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let (sample, roots) = with_picture(folder.path(), "half.png", b"\x89PNG\r\n\x1a\nhalf");
    let examined = Examiner::new(&Config::default()).unwrap().examine(&sample, &roots);
    let dropped = examined.dropped(&sample).unwrap();
    assert_eq!(dropped.reject.kind, RejectKind::BadPicture);
    assert_eq!(dropped.broken.iter().map(|b| b.rule).collect::<Vec<_>>(), [Rule::Readable, Rule::Refusal]);
    assert!(
        dropped.reject.reason.starts_with("picture.readable: cannot decode picture half.png"),
        "{dropped:?}"
    );
    assert_eq!(dropped.reject.remedy, Rule::Readable.remedy());
    // The line is a reject to whoever knows no more of it.
    let line = serde_json::to_string(&dropped).unwrap();
    let reject: talkoot_dataset::Reject = serde_json::from_str(&line).unwrap();
    assert_eq!(reject, dropped.reject);

    let mut gone = sample.clone();
    gone.pictures[0].path = "gone.png".into();
    let examined = Examiner::new(&Config::default()).unwrap().examine(&gone, &roots);
    assert_eq!(examined.kind, RejectKind::MissingPicture);
}

use super::*;
use crate::{heldout, preprocess::PreprocessOptions};

fn small() -> SynthOptions {
    SynthOptions { seed: 5, train_pictures: 60, heldout_pictures: 20, ..SynthOptions::default() }
}

fn tree(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for sub in ["", "images"] {
        for entry in fs::read_dir(folder.join(sub)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                files.insert(path.strip_prefix(folder).unwrap().to_path_buf(), fs::read(&path).unwrap());
            }
        }
    }
    files
}

#[test]
fn the_same_seed_writes_the_same_bytes_and_another_does_not() {
    let (a, b, c) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    small().write(a.path()).unwrap();
    small().write(b.path()).unwrap();
    SynthOptions { seed: 6, ..small() }.write(c.path()).unwrap();
    let first = tree(a.path());
    assert_eq!(first.len(), 60 + 20 + 4);
    assert!(first == tree(b.path()));
    assert!(first != tree(c.path()));
}

#[test]
fn held_out_scenes_are_not_learnt_and_questions_are_balanced() {
    let options = SynthOptions::default();
    let mut taken = BTreeSet::new();
    let heldout = Composer::new(options.seed, "heldout").compose(200, |s| taken.insert(s.full())).unwrap();
    let train = Composer::new(options.seed, "train").compose(1500, |s| !taken.contains(&s.full())).unwrap();
    assert_eq!(taken.len(), heldout.len());
    assert!(train.iter().all(|scene| !taken.contains(&scene.full())));

    let dir = tempfile::tempdir().unwrap();
    let report = SynthOptions { train_pictures: 10, ..options }.write(dir.path()).unwrap();
    let questions = heldout::load(&report.heldout, &report.folder).unwrap();
    assert_eq!(questions.len(), 400);
    let mut answers: BTreeMap<QuestionKind, BTreeMap<&str, usize>> = BTreeMap::new();
    for question in &questions {
        *answers.entry(question.kind.unwrap()).or_default().entry(&question.answer).or_default() += 1;
    }
    assert_eq!(answers.len(), 6);
    let mut best_by_kind = 0;
    for (kind, answers) in answers {
        let (asked, best) = (answers.values().sum::<usize>(), *answers.values().max().unwrap());
        eprintln!("{:<7} {asked:>4} asked, {:>2} answers, best constant {best}", kind.name(), answers.len());
        assert!(asked >= 40, "{kind:?}");
        assert!(best * 100 <= asked * 21, "{kind:?}: {best} of {asked}");
        best_by_kind += best;
    }
    assert!(best_by_kind * 100 < questions.len() * 18, "{best_by_kind} of {}", questions.len());
}

#[test]
fn pictures_show_what_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let report = small().write(dir.path()).unwrap();
    for question in heldout::load(&report.heldout, &report.folder).unwrap() {
        let picture = PreprocessOptions::default().load(&question.pictures[0]).unwrap();
        assert!((9..=16).contains(&picture.llm_tokens()));
        // The corner is ground; a shape or print covers a good part of the rest.
        let ground = &picture.rgb[..3];
        let drawn = picture
            .rgb
            .chunks_exact(3)
            .filter(|pixel| pixel.iter().zip(ground).any(|(a, b)| a.abs_diff(*b) > 40));
        let share = drawn.count() as f64 / f64::from(picture.width * picture.height);
        assert!((0.03..0.6).contains(&share), "{}: {share}", question.id);
    }
}

#[test]
fn questions_in_a_conversation_do_not_answer_one_another() {
    let mut composer = Composer::new(1, "test");
    for scene in composer.compose(300, |_| true).unwrap() {
        let asked = scene.questions();
        for (at, one) in asked.iter().enumerate() {
            for (other_at, other) in asked.iter().enumerate() {
                if at != other_at {
                    assert!(!one.question.contains(&format!(" {}", other.answer)), "{one:?} tells {other:?}");
                }
            }
        }
    }
}

#[test]
fn options_out_of_bounds_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = SynthOptions { turns: 4, ..small() }.write(dir.path()).unwrap_err();
    assert!(matches!(error, SynthError::Option { option: "turns", got: 4, least: 1, most: 3 }));
    let mut taken = BTreeSet::new();
    let most = Composer::new(9, "heldout").compose(1000, |scene| taken.insert(scene.full())).unwrap();
    assert_eq!(most.len(), 1000, "as many as the options promise");
    let error = SynthOptions { heldout_pictures: 20_000, ..small() }.write(dir.path()).unwrap_err();
    assert!(matches!(error, SynthError::OutOfScenes { .. }), "{error}");
}

use std::path::PathBuf;

use talkoot_trainer::evaluate::mean_loss;

use super::*;
use crate::{assistant::tests::World, question, report::Tally};

fn options(choice: ChoiceMode) -> Options {
    Options { sampling: Sampling::default(), max_new_tokens: 6, batch: 3, choice, skip_bad: false }
}

fn ask(assistant: &Assistant, file: QuestionFile, options: Options) -> (Vec<SampleResult>, Vec<BadLine>) {
    let mut evaluation = Evaluation::new(assistant, file, options).unwrap();
    let mut results = Vec::new();
    while let Some(batch) = evaluation.next_batch().unwrap() {
        assert!(batch.len() <= options.batch);
        results.extend(batch);
    }
    assert_eq!(evaluation.left(), 0);
    (results, evaluation.bad().to_vec())
}

fn question(line: usize, metric: Metric, text: &str, pictures: Vec<PathBuf>, answers: &[&str]) -> Question {
    Question {
        line,
        id: format!("q{line}"),
        kind: Some(["even", "odd"][line % 2].to_owned()),
        messages: vec![Message::user("<image>\n".repeat(pictures.len()) + text)],
        pictures,
        answers: answers.iter().map(|&answer| answer.to_owned()).collect(),
        choices: Vec::new(),
        right: None,
        listed: false,
        metric,
        extra: None,
    }
}

fn file(questions: Vec<Question>) -> QuestionFile {
    QuestionFile { questions, bad: Vec::new() }
}

#[test]
fn an_answer_that_the_model_gives_is_right_and_another_is_wrong() {
    let world = World::new();
    let assistant = world.assistant();
    let prompt = assistant.prompt(&[Message::user("<image>\ncount")], &[world.picture(0)]).unwrap();
    let said = assistant.generator().answer(&[prompt], assistant.ends(), 6).unwrap();
    let said = assistant.tokenizer().decode(&said[0]).unwrap();
    let asked = |line, metric, answer| question(line, metric, "count", vec![world.picture(0)], &[answer]);
    let questions = vec![
        asked(1, Metric::Literal, said.as_str()),
        asked(2, Metric::Literal, "surely not"),
        asked(3, Metric::Exact, said.as_str()),
        asked(4, Metric::Anls, said.as_str()),
        asked(5, Metric::Relaxed, said.as_str()),
    ];
    let (results, _) = ask(&assistant, file(questions), options(ChoiceMode::Words));
    let scores: Vec<f64> = results.iter().map(|result| result.score.unwrap()).collect();
    assert_eq!(scores, [1.0, 0.0, 1.0, 1.0, 1.0]);
    assert!(results.iter().all(|result| result.prediction.as_deref() == Some(said.trim())));
    assert!(results.iter().all(|result| result.truncated == (result.generated_tokens == 6)));
}

#[test]
fn answers_do_not_depend_on_the_size_of_batches() {
    let world = World::new();
    let assistant = world.assistant();
    let questions: Vec<Question> = (1..8)
        .map(|line| {
            let text = "count ".repeat(line);
            question(line, Metric::Exact, &text, vec![world.picture(line % 4); line % 3], &["x"])
        })
        .collect();
    let warm = Sampling { temperature: 1.0, seed: 4, ..Sampling::default() };
    let with = |batch| {
        let options = Options { batch, sampling: warm, ..options(ChoiceMode::Words) };
        ask(&assistant, file(questions.clone()), options).0
    };
    let one = with(1);
    assert_eq!(one, with(3));
    assert_eq!(one, with(100));
    assert!(one.iter().any(|result| result.prediction != one[0].prediction), "{one:?}");
}

#[test]
fn a_captions_loss_is_that_of_training() {
    let world = World::new();
    let assistant = world.assistant();
    let questions = vec![
        question(1, Metric::CaptionLoss, "Describe it.", vec![world.picture(0)], &["a red circle", "one"]),
        question(2, Metric::CaptionLoss, "Describe it.", vec![], &["a"]),
    ];
    let (results, _) = ask(&assistant, file(questions.clone()), options(ChoiceMode::Words));
    let mut packs = Vec::new();
    for (question, result) in questions.iter().zip(&results) {
        let mut learned = 0;
        let mut nats = 0.0;
        for answer in &question.answers {
            let prompt = assistant.prompt(&question.messages, &question.pictures).unwrap();
            let answer = assistant.answer_tokens(answer).unwrap();
            let mut labels = vec![-100; prompt.tokens.len()];
            labels.extend(answer.iter().map(|&token| i64::from(token)));
            let tokens = [prompt.tokens, answer].concat();
            let pack = talkoot_trainer::batch::Pack {
                sample_lengths: vec![tokens.len() as u32],
                tokens,
                labels,
                images: prompt.images,
            };
            let count = pack.learned_tokens() as usize;
            learned += count;
            nats +=
                mean_loss(&world.config, &world.state, std::slice::from_ref(&pack)).unwrap() * count as f64;
            packs.push(pack);
        }
        assert_eq!(result.loss_tokens, Some(learned));
        assert!((result.nats.unwrap() - nats).abs() < 1e-3, "{} {nats}", result.nats.unwrap());
        assert_eq!((result.score, &result.prediction), (None, &None));
    }
    let pooled = mean_loss(&world.config, &world.state, &packs).unwrap();
    let mut tally = Tally::default();
    tally.add(&results);
    let rows = tally.rows();
    assert!((rows[0].pooled_loss.unwrap() - pooled).abs() < 1e-4, "{rows:?} {pooled}");
}

#[test]
fn choices_are_found_by_words_and_by_likelihood() {
    let world = World::new();
    let assistant = world.assistant();
    let choices: Vec<String> = ["red", "a green square", "two blue circles"].map(str::to_owned).to_vec();
    let asked = |right: usize| Question {
        choices: choices.clone(),
        right: Some(right),
        ..question(right + 1, Metric::Choice, "colour?", vec![world.picture(1)], &[choices[right].as_str()])
    };
    let (results, _) = ask(&assistant, file((0..3).map(asked).collect()), options(ChoiceMode::Likelihood));
    // exactly one of the three right answers is the likeliest, and it is the one of least loss
    assert_eq!(results.iter().map(|result| result.score.unwrap()).sum::<f64>(), 1.0);
    let losses: Vec<Question> =
        (0..3).map(|right| Question { metric: Metric::CaptionLoss, ..asked(right) }).collect();
    let (losses, _) = ask(&assistant, file(losses), options(ChoiceMode::Words));
    let least = losses.iter().min_by(|a, b| a.loss.unwrap().total_cmp(&b.loss.unwrap())).unwrap();
    assert_eq!(results[0].choice, Some(choice::letter(least.line - 1)));
    // in words, the choices are listed, and an answer that means none is wrong
    let (spoken, _) = ask(&assistant, file(vec![asked(0)]), options(ChoiceMode::Words));
    assert!(spoken[0].prompt_tokens > results[0].prompt_tokens + 10);
    assert_eq!(spoken[0].score, Some(f64::from(spoken[0].choice == Some('A'))));
}

#[test]
fn questions_that_cannot_be_asked_are_named_or_counted() {
    let mut world = World::new();
    world.config.text.max_position_embeddings = 64;
    let assistant = world.assistant();
    let broken = world.folder.path().join("broken.png");
    std::fs::write(&broken, b"no picture").unwrap();
    let questions = vec![
        question(1, Metric::Exact, "count", vec![], &["x"]),
        question(2, Metric::Exact, "count", vec![broken], &["x"]),
        question(3, Metric::Exact, &"count ".repeat(70), vec![], &["x"]),
        question(4, Metric::CaptionLoss, "count", vec![], &["x ".repeat(70).as_str()]),
        question(5, Metric::CaptionLoss, "count", vec![], &["x"]),
    ];
    let strict = options(ChoiceMode::Words);
    let mut evaluation = Evaluation::new(&assistant, file(questions.clone()), strict).unwrap();
    let error = evaluation.next_batch().unwrap_err();
    assert!(error.to_string().starts_with("line 2: cannot decode picture"), "{error}");
    let (results, bad) = ask(&assistant, file(questions), Options { skip_bad: true, ..strict });
    assert_eq!(results.iter().map(|result| result.line).collect::<Vec<_>>(), [1, 5]);
    assert_eq!(bad.iter().map(|bad| bad.line).collect::<Vec<_>>(), [2, 3, 4]);
    assert!(bad[1].reason.contains("the model is meant for 64"), "{}", bad[1]);
    let told =
        QuestionFile { questions: Vec::new(), bad: vec![BadLine { line: 9, reason: "odd".to_owned() }] };
    let error = Evaluation::new(&assistant, told, strict).unwrap_err();
    assert!(error.to_string().contains("line 9: odd") && error.to_string().contains("--skip-bad"), "{error}");
}

#[test]
fn held_out_questions_score_as_they_score_themselves() {
    let world = World::new();
    let assistant = world.assistant();
    let questions = question::read(&world.drawn.heldout, &question::ReadOptions::default()).unwrap();
    let held_out = talkoot_dataset::heldout::load(&world.drawn.heldout, &world.drawn.folder).unwrap();
    let (results, _) = ask(&assistant, questions, options(ChoiceMode::Words));
    assert_eq!(results.len(), world.drawn.heldout_questions);
    for (result, question) in results.iter().zip(held_out) {
        let right = question.is_right(result.prediction.as_deref().unwrap());
        assert_eq!(result.score, Some(f64::from(right)));
        assert_eq!(
            (&result.id, result.kind.as_deref()),
            (&question.id, question.kind.map(|kind| kind.name()))
        );
    }
}

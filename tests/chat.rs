//! `talkoot chat` and `talkoot eval` as a user runs them, on a very small model with fresh weights.

mod support;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use serde_json::{Value, json};
use support::{json as read_json, run, run_badly, run_well, talkoot};
use talkoot_dataset::{SynthOptions, SynthReport, Tokenizer, build_demo_tokenizer};
use talkoot_trainer::{config::ModelConfig, huggingface, presets::demo_model, state::State};

/// Drawn pictures, and a model's folder.
struct World {
    folder: tempfile::TempDir,
    drawn: SynthReport,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let options = SynthOptions { train_pictures: 4, heldout_pictures: 6, ..SynthOptions::default() };
        let drawn = options.write(&folder.path().join("drawn")).expect("data");
        let tokenizer = build_demo_tokenizer(&drawn.texts, 300).expect("a tokenizer");
        let config = config(&tokenizer);
        let state = State::initial(&config, 5);
        let extra: &[(&str, &[u8])] = &[
            ("tokenizer.json", &tokenizer),
            ("preprocessor_config.json", br#"{"min_pixels": 784, "max_pixels": 6272, "patch_size": 14}"#),
            ("generation_config.json", br#"{"max_new_tokens": 5, "eos_token_id": [1, 2]}"#),
        ];
        huggingface::write_folder(&folder.path().join("model"), &config, &state, extra).expect("a model");
        Self { folder, drawn }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn picture(&self, number: usize) -> String {
        self.drawn.folder.join(format!("images/h{number:05}.png")).display().to_string()
    }

    /// Talks with the model; what is typed comes through a pipe.
    fn chat(&self, arguments: &[&str], typed: &str) -> Output {
        let mut child = talkoot()
            .args(["chat", "--model", &self.text("model")])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        child.stdin.take().expect("a pipe").write_all(typed.as_bytes()).expect("it listens");
        child.wait_with_output().expect("it ends")
    }

    /// Writes questions and has them asked; the report and the lines about each.
    fn eval(&self, questions: &[Value], more: &[&str]) -> (Value, Vec<Value>, String) {
        self.write(questions);
        let (report, samples) = (self.text("report.json"), self.text("samples.jsonl"));
        let mut arguments = self.arguments();
        arguments.extend(["--json", &report, "--samples", &samples].map(str::to_owned));
        arguments.extend(more.iter().map(|&text| text.to_owned()));
        let table = run_well(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        let lines = fs::read_to_string(&samples).expect("samples");
        let lines = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        (read_json(Path::new(&report)), lines, table)
    }

    fn write(&self, questions: &[Value]) {
        let lines: Vec<String> = questions.iter().map(Value::to_string).collect();
        fs::write(self.path("questions.jsonl"), lines.join("\n")).expect("questions");
    }

    fn arguments(&self) -> Vec<String> {
        ["eval", "--model", &self.text("model"), "--questions", &self.text("questions.jsonl"), "--images"]
            .map(str::to_owned)
            .into_iter()
            .chain([self.drawn.folder.display().to_string()])
            .collect()
    }
}

fn config(tokenizer: &[u8]) -> ModelConfig {
    let tokenizer = Tokenizer::from_bytes(tokenizer).expect("a tokenizer");
    let mut config = demo_model(tokenizer.vocab_size());
    config.image_token_id = tokenizer.special_ids().image_pad;
    config.vision.depth = 1;
    config.text.num_hidden_layers = 2;
    config
}

fn replies(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

#[test]
fn one_question_gets_one_answer_the_same_in_words_and_as_json() {
    let world = World::new();
    let picture = world.picture(0);
    let asked = ["--image", &picture, "--question", "What is it?"];
    let words = world.chat(&asked, "");
    assert!(words.status.success(), "{}", String::from_utf8_lossy(&words.stderr));
    let output = world.chat(&[&asked[..], &["--json"]].concat(), "");
    let reply = &replies(&output)[0];
    assert_eq!(
        String::from_utf8_lossy(&words.stdout),
        format!("{}\n", reply["answer"].as_str().expect("text"))
    );
    // the limits are those of the folder: five tokens, and eight for a picture of 112 x 56 at most
    assert!(reply["answer_tokens"].as_u64() <= Some(5), "{reply}");
    assert_eq!(reply["stop"] == "length", reply["answer_tokens"] == 5, "{reply}");
    assert!(reply["tokens_per_s"].as_f64() > Some(0.0) && reply["seconds"].as_f64() > Some(0.0), "{reply}");
    let without = replies(&world.chat(&["--question", "What is it?", "--json"], ""))[0].clone();
    let pictured =
        reply["prompt_tokens"].as_u64().expect("a count") - without["prompt_tokens"].as_u64().expect("one");
    assert!((2..=12).contains(&pictured), "{pictured} tokens for a picture");
    // draws follow their seed
    let draw = |seed| {
        let more = ["--temperature", "1.5", "--max-tokens", "20", "--seed", seed, "--json"];
        replies(&world.chat(&[&asked[..], &more].concat(), ""))[0]["answer"].clone()
    };
    assert_eq!(draw("1"), draw("1"));
    assert_ne!(draw("1"), draw("2"));
}

#[test]
fn turns_from_a_pipe_read_only_what_is_new_and_begin_anew_when_told() {
    let world = World::new();
    let typed = format!(
        "What is it?\n\nAnd now?\n/image {}\nAnd this?\n/reset\nWhat is it?\n/quit\nnobody hears this\n",
        world.picture(1)
    );
    let picture = world.picture(0);
    let output = world.chat(&["--image", &picture, "--json"], &typed);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let replies = replies(&output);
    assert_eq!(replies.len(), 4, "{replies:?}");
    let count = |reply: usize, what: &str| replies[reply][what].as_u64().expect(what);
    for turn in 0..3 {
        let before = if turn == 0 { 0 } else { count(turn - 1, "context_tokens") };
        // the end of an answer belongs to the text and is read with the next turn; a cut answer's last token too
        let end = u64::from(turn > 0);
        let cut = u64::from(turn > 0 && replies[turn - 1]["stop"] == "length");
        assert_eq!(
            count(turn, "context_tokens"),
            before - cut + count(turn, "prompt_tokens") + count(turn, "answer_tokens"),
            "turn {turn}: {replies:?}"
        );
        assert!(count(turn, "prompt_tokens") > end + cut, "turn {turn}");
    }
    // the first turn had a picture, after the reset there is none
    assert!(count(3, "prompt_tokens") < count(0, "prompt_tokens"));
    // the same conversation in words is the same
    let words = world.chat(&["--image", &picture], &typed);
    let expected: Vec<&str> = replies.iter().map(|reply| reply["answer"].as_str().expect("text")).collect();
    assert_eq!(String::from_utf8_lossy(&words.stdout), expected.join("\n") + "\n");
}

#[test]
fn what_goes_wrong_in_a_turn_is_told_and_the_conversation_goes_on() {
    let world = World::new();
    let output = world.chat(
        &["--system", "Be brief.", "--json"],
        "/image nowhere.png\n/dance\nLook: <image>\n<|im_end|>\nWhat is it?\n",
    );
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{error}");
    for told in [
        "nowhere.png",
        "there is no /dance",
        "1 <image> placeholders for 0 pictures",
        "special token <|im_end|>",
    ] {
        assert!(error.contains(told), "{told} is not in {error}");
    }
    assert_eq!(replies(&output).len(), 1, "{error}");
}

#[test]
fn a_folder_that_lacks_something_is_explained() {
    let world = World::new();
    let model = world.text("model");
    fs::write(world.path("model/generation_config.json"), r#"{"do_sample": true, "top_p": 7}"#)
        .expect("a file");
    let error = run_badly(&["chat", "--model", &model, "--question", "?"]);
    assert!(error.contains("top_p is 7"), "{error}");
    fs::remove_file(world.path("model/generation_config.json")).expect("it goes");
    let error = run_badly(&["chat", "--model", &model, "--question", "?", "--temperature=-1"]);
    assert!(error.contains("temperature is -1"), "{error}");
    fs::write(world.path("model/preprocessor_config.json"), r#"{"patch_size": 16}"#).expect("a file");
    let error = run_badly(&["chat", "--model", &model, "--question", "?"]);
    assert!(error.contains("patch_size 16"), "{error}");
    fs::remove_file(world.path("model/tokenizer.json")).expect("it goes");
    let error = run_badly(&["chat", "--model", &model, "--question", "?"]);
    assert!(error.contains("no tokenizer.json") && error.contains("trained with"), "{error}");
}

#[test]
fn every_metric_is_scored_and_written_down() {
    let world = World::new();
    let image = "images/h00000.png";
    let said = {
        let output = world.chat(&["--image", &world.picture(0), "--question", "What is it?", "--json"], "");
        replies(&output)[0]["answer"].as_str().expect("text").to_owned()
    };
    assert!(!said.is_empty(), "the model says something");
    let ask = |metric: &str, answer: &str, kind: &str| json!({"question": "What is it?", "image": image, "answer": answer, "metric": metric, "kind": kind});
    let mut questions: Vec<Value> = ["literal", "exact", "relaxed", "anls"]
        .into_iter()
        .flat_map(|metric| [ask(metric, &said, "said"), ask(metric, "0123456789012345678901234567", "other")])
        .collect();
    questions.push(json!({"question": "Which?", "choices": ["red", "blue"], "answer": "A", "extra": [1]}));
    questions.push(json!({"question": "Which?", "choices": ["red", "blue"], "answer": "B"}));
    questions.push(json!({"question": "Describe it.", "image": image, "answer": "a red circle", "metric": "caption-loss"}));
    let (report, samples, table) = world.eval(&questions, &["--max-tokens", "5", "--choice", "likelihood"]);
    assert_eq!(samples.len(), questions.len());
    assert_eq!(report["questions"], questions.len());
    let score = |metric: &str, kind: Value| {
        let rows = report["scores"].as_array().expect("scores");
        let row = rows.iter().find(|row| row["metric"] == metric && row["kind"] == kind);
        row.unwrap_or_else(|| panic!("no {metric} of {kind} in {report}")).clone()
    };
    for metric in ["literal", "exact", "relaxed", "anls"] {
        assert_eq!(score(metric, Value::Null)["score"], 0.5, "{metric}");
        assert_eq!(score(metric, "said".into())["score"], 1.0, "{metric}");
        assert_eq!(score(metric, "other".into())["score"], 0.0, "{metric}");
        let interval = &score(metric, Value::Null)["interval"];
        assert!(interval["low"].as_f64() < Some(0.5) && interval["high"].as_f64() > Some(0.5), "{interval}");
        assert!(table.contains(metric), "{table}");
    }
    // one of the two is the likeliest, and right once
    assert_eq!(score("choice", Value::Null)["score"], 0.5);
    assert_eq!(samples[8]["extra"], json!([1]));
    assert!(samples[8].get("prediction").is_none() && samples[8]["choice"].is_string(), "{}", samples[8]);
    let loss = score("caption-loss", Value::Null);
    assert_eq!(loss["pooled_loss"], samples[10]["loss"]);
    // fresh weights know nothing: about the logarithm of 300 tokens
    assert!((3.0..9.0).contains(&loss["score"].as_f64().expect("a loss")), "{loss}");
    assert_eq!(samples[0]["prediction"], said.as_str());
    assert_eq!(report["state"].as_str().map(str::len), Some(64), "{}", report["state"]);
    let hash =
        talkoot_protocol::digest::Digest::of(&fs::read(world.path("model/model.safetensors")).expect("it"));
    assert_eq!(report["state"], hash.to_string());
    assert_eq!(report["max_new_tokens"], 5);
    // the metric can be forced, and questions counted off
    let (report, samples, _) = world.eval(&questions[..4], &["--metric", "caption-loss", "--limit", "3"]);
    assert_eq!((samples.len(), report["scores"][0]["metric"].as_str()), (3, Some("caption-loss")));
}

#[test]
fn held_out_records_of_drawn_data_are_asked_as_they_are() {
    let world = World::new();
    let file = world.drawn.heldout.display().to_string();
    let model = world.text("model");
    let table = run_well(&["eval", "--model", &model, "--questions", &file, "--max-tokens", "3"]);
    let all = table.lines().nth(1).expect("a row");
    assert!(
        all.starts_with("literal") && all.contains(&world.drawn.heldout_questions.to_string()),
        "{table}"
    );
}

#[test]
fn bad_questions_are_named_by_line_and_counted_when_they_are_skipped() {
    let world = World::new();
    fs::write(world.drawn.folder.join("broken.png"), b"no picture").expect("a file");
    let questions = [
        json!({"question": "What is it?", "answer": "red"}),
        json!({"question": "What is it?", "anwser": "red"}),
        json!({"question": "What is it?", "answer": "red", "image": "nowhere.png"}),
        json!({"question": "What is it?", "answer": "red", "image": "broken.png"}),
    ];
    let refused = |questions: &[Value], told: &[&str]| {
        world.write(questions);
        let arguments = world.arguments();
        let error = run_badly(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        for told in told {
            assert!(error.contains(told), "{told} is not in {error}");
        }
    };
    refused(&questions, &["questions.jsonl", "line 2: unknown field `anwser`", "--skip-bad"]);
    refused(&questions[2..], &["line 1: picture", "nowhere.png"]);
    refused(&questions[3..], &["line 1: cannot decode picture", "broken.png"]);
    refused(&[], &["there is no question"]);
    let (report, samples, _) = world.eval(&questions, &["--skip-bad"]);
    assert_eq!(samples.len(), 1);
    let bad: Vec<u64> =
        report["bad"].as_array().expect("a list").iter().filter_map(|bad| bad["line"].as_u64()).collect();
    assert_eq!(bad, [2, 3, 4]);
    let arguments = world.arguments();
    let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    arguments.push("--skip-bad");
    assert!(
        String::from_utf8_lossy(&run(&arguments).stderr).contains("left out  line 4: cannot decode picture")
    );
    world.write(&questions[1..]);
    let error = run_badly(&arguments);
    assert!(error.contains("none of the questions"), "{error}");
}

//! From what people have to trained steps: every kind of input goes through the commands that a user types, and the
//! shards that come of it train a model.

mod support;

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use arrow_array::{ArrayRef, BinaryArray, RecordBatch, StringArray, StructArray};
use arrow_schema::{DataType, Field};
use parquet::arrow::ArrowWriter;
use support::{
    drawn::{Drawn, kill_after, run_words, words},
    run_badly, run_well, talkoot,
};
use talkoot_dataset::DatasetManifest;
use talkoot_execution::open_packs;
use talkoot_trainer::{
    inner::{InnerPlan, Normalisation, OptimizerSettings, run_inner_steps},
    modules::Module,
    moments::MomentFormat,
    presets::demo_model,
    state::State,
};

struct Place(Drawn);

impl Place {
    fn drawn() -> Self {
        Self(Drawn::new(12, 2, 7))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }

    fn text(&self, name: &str) -> String {
        self.0.text(name)
    }

    fn picture(&self, number: usize) -> Vec<u8> {
        fs::read(self.path(&format!("drawn/images/t{number:05}.png"))).expect("a picture")
    }

    /// Ingests `input` into `out`, packs the list and trains two steps on the packs; the report of the ingest.
    fn train(&self, input: &str, out: &str, more: &[&str]) -> serde_json::Value {
        let folder = self.text(out);
        let fixed = ["dataset", "ingest", input, "--out", &folder, "--json"];
        let said = run_well(&fixed.iter().chain(more).copied().collect::<Vec<_>>());
        let report: serde_json::Value = serde_json::from_str(&said).expect("one line of JSON");
        let rejects: u64 =
            report["rejects"].as_object().expect("counts").values().filter_map(|n| n.as_u64()).sum();
        assert_eq!(report["records"], report["samples"].as_u64().expect("a count") + rejects, "{report}");
        let packed = self.text(&format!("{out}/packed"));
        run_well(&[
            "dataset",
            "pack",
            "--samples",
            report["list"].as_str().expect("a path"),
            "--tokenizer",
            &self.text("drawn/tokenizer.json"),
            "--sequence-tokens",
            "1024",
            "--max-pixels",
            "12544",
            "--name",
            "mine",
            "--out",
            &packed,
        ]);
        trained_steps(Path::new(&packed));
        report
    }
}

/// Trains two steps on the first pack; the loss has to fall.
fn trained_steps(folder: &Path) {
    let manifest = fs::read(folder.join("mine.manifest")).expect("a manifest");
    let index = DatasetManifest::from_bytes(&manifest).expect("a manifest").index;
    let shards = folder.to_path_buf();
    let packs = open_packs(&manifest, move |digest| Some(shards.join(digest.to_string()))).expect("packs");
    let mut config = demo_model(index.vocab_size);
    config.image_token_id = index.image_pad;
    let optimizer = OptimizerSettings {
        peak_learning_rate: 3e-3,
        final_learning_rate: 1e-3,
        warmup_steps: 1,
        total_steps: 3,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.0,
        clip_norm: 1.0,
        moments: MomentFormat::F32,
    };
    let plan = InnerPlan {
        trainable: Module::ALL.to_vec(),
        optimizer,
        normalisation: Normalisation::Token,
        first_step: 0,
        steps: vec![vec![0]; 3],
        digest_interval: 0,
    };
    let start = State::initial(&config, 5);
    let outcome = run_inner_steps(&config, &start, &plan, &packs, &mut |_, _| ControlFlow::Continue(()))
        .expect("steps");
    let losses: Vec<f32> = outcome.trace.steps.iter().map(|step| step.loss).collect();
    assert!(losses[0] > 0.0 && losses[2] < losses[0], "the same pack is learnt: {losses:?}");
}

fn talk(picture: &str, answer: &str) -> String {
    format!(
        r#"{{"image":"{picture}","conversations":[{{"from":"human","value":"<image>\nx"}},{{"from":"gpt","value":"{answer}"}}]}}"#
    )
}

#[test]
fn a_folder_with_a_broken_a_missing_and_an_unanswered_picture_is_trained_on_without_them() {
    let place = Place::drawn();
    fs::create_dir(place.path("mine")).expect("a folder");
    for number in 1..4 {
        fs::write(place.path(&format!("mine/{number}.png")), place.picture(number)).expect("a picture");
    }
    let whole = place.picture(0);
    fs::write(place.path("mine/broken.png"), &whole[..whole.len() / 2]).expect("half a picture");
    let lines = [
        talk("1.png", "red"),
        talk("broken.png", "red"),
        talk("missing.png", "red"),
        talk("2.png", ""),
        talk("3.png", "blue"),
        r#"{"messages":[{"role":"user","content":"no picture"},{"role":"assistant","content":"none"}]}"#
            .into(),
        r#"{"images":["1.png","2.png"],"caption":"two pictures"}"#.into(),
    ];
    fs::write(place.path("mine/records.jsonl"), lines.join("\n")).expect("records");
    let report = place.train(&place.text("mine"), "jsonl", &[]);
    assert_eq!((&report["records"], &report["samples"]), (&7.into(), &5.into()), "{report}");
    let rejects = [place.path("jsonl/data.rejects.jsonl"), place.path("jsonl/packed/mine.rejects.jsonl")];
    let rejects: String = rejects.iter().map(|path| fs::read_to_string(path).expect("rejects")).collect();
    assert_eq!(rejects.lines().count(), 3, "{rejects}");
    for named in ["broken.png", "missing.png", "empty answer"] {
        let line = rejects.lines().find(|line| line.contains(named)).expect(named);
        assert!(line.contains("records.jsonl") && line.contains("\"remedy\""), "{line}");
    }
}

#[test]
fn json_arrays_become_trained_steps() {
    let place = Place::drawn();
    let report = place.train(&place.text("drawn/instruct.json"), "json", &["--images", &place.text("drawn")]);
    assert_eq!(report["records"], report["samples"]);
    assert_eq!(report["stored_bytes"], 0, "pictures are referred to where they lie");
}

fn archive(place: &Place, name: &str) {
    let mut tar = tar::Builder::new(File::create(place.path(name)).expect("a file"));
    let mut add = |name: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, content).expect("a member");
    };
    add("a.png", &place.picture(0));
    add("a.txt", b"a caption");
    add("b.json", br#"{"id":"own","messages":[{"role":"user","content":"<image><image>same?"},{"role":"assistant","content":"no"}]}"#);
    add("b.0.png", &place.picture(1));
    add("b.1.png", &place.picture(2));
    add("c.png", &place.picture(3));
    tar.finish().expect("a tar");
}

#[test]
fn archives_become_trained_steps_with_their_pictures_in_place() {
    let place = Place::drawn();
    archive(&place, "shard.tar");
    let report = place.train(&place.text("shard.tar"), "tar", &[]);
    assert_eq!(
        (&report["records"], &report["samples"], &report["pictures"]),
        (&3.into(), &2.into(), &3.into())
    );
    assert_eq!(report["stored_bytes"], 0);
    let rejects = fs::read_to_string(place.path("tar/data.rejects.jsonl")).expect("rejects");
    assert!(rejects.contains("no .json and no .txt"), "{rejects}");
    // Cut off within the second record: the first is taken, the rest is named.
    let bytes = fs::read(place.path("shard.tar")).expect("the tar");
    fs::write(place.path("cut.tar"), &bytes[..bytes.len() - 4_000]).expect("a tar");
    let report = place.train(&place.text("cut.tar"), "cut", &[]);
    assert_eq!(report["rejects"]["damaged_file"], 1, "{report}");
}

fn table(place: &Place, path: &Path, rows: usize) {
    let pictures: Vec<Vec<u8>> = (0..rows).map(|row| place.picture(row % 10)).collect();
    let bytes: ArrayRef = Arc::new(BinaryArray::from_iter_values(&pictures));
    let names: ArrayRef = Arc::new(StringArray::from(vec![Some("x.png"); rows]));
    let image: ArrayRef = Arc::new(StructArray::from(vec![
        (Arc::new(Field::new("bytes", DataType::Binary, true)), bytes),
        (Arc::new(Field::new("path", DataType::Utf8, true)), names),
    ]));
    let captions: ArrayRef = Arc::new(StringArray::from_iter_values(
        (0..rows).map(|row| if row == 1 { String::new() } else { format!("number {row}") }),
    ));
    let batch = RecordBatch::try_from_iter([("image", image), ("caption", captions)]).expect("a batch");
    let mut writer =
        ArrowWriter::try_new(File::create(path).expect("a file"), batch.schema(), None).expect("a table");
    writer.write(&batch).expect("rows");
    writer.close().expect("a table");
}

#[test]
fn tables_become_trained_steps_and_damaged_ones_a_reject() {
    let place = Place::drawn();
    fs::create_dir(place.path("hub")).expect("a folder");
    table(&place, &place.path("hub/a.parquet"), 20);
    fs::write(place.path("hub/b.parquet"), b"PAR1 nothing PAR1").expect("a file");
    let report = place.train(&place.text("hub"), "parquet", &[]);
    assert_eq!((&report["records"], &report["samples"]), (&21.into(), &19.into()), "{report}");
    assert_eq!(
        (&report["rejects"]["conversation"], &report["rejects"]["damaged_file"]),
        (&1.into(), &1.into())
    );
    let stored = fs::metadata(place.path("parquet/data.pictures/0000000.tar")).expect("a store").len();
    let once: usize = (0..10).map(|number| place.picture(number).len() + 1024).sum();
    assert!(stored < once as u64 + 2048, "each picture is stored once");
}

#[test]
fn videos_become_trained_steps() {
    let place = Place::drawn();
    fs::create_dir(place.path("clips")).expect("a folder");
    let made = Command::new("ffmpeg")
        .args([
            "-v",
            "error",
            "-f",
            "lavfi",
            "-i",
            "testsrc=size=64x48:rate=10:duration=3",
            "-pix_fmt",
            "yuv420p",
        ])
        .arg(place.path("clips/a.mp4"))
        .stdin(Stdio::null())
        .status();
    let lines = [
        r#"{"video":"a.mp4","conversations":[{"from":"human","value":"<video>what?"},{"from":"gpt","value":"bars"}]}"#,
        r#"{"video":"b.mp4","conversations":[{"from":"human","value":"<video>what?"},{"from":"gpt","value":"bars"}]}"#,
    ];
    fs::write(place.path("clips/r.jsonl"), lines.join("\n")).expect("records");
    fs::write(place.path("clips/b.mp4"), b"no video").expect("a file");
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: ffmpeg isn't here, so no frames are taken of videos");
        return;
    }
    let report = place.train(&place.text("clips"), "video", &[]);
    assert_eq!(
        (&report["samples"], &report["pictures"]),
        (&1.into(), &6.into()),
        "two frames a second: {report}"
    );
    assert_eq!(report["rejects"]["bad_video"], 1);

    let output = talkoot()
        .args(["dataset", "ingest", &place.text("clips"), "--out", &place.text("none")])
        .env("PATH", place.path("empty"))
        .output()
        .expect("the program starts");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.contains("install ffmpeg"), "{error}");
}

/// A hub on the loopback with one table, whose first answer of the file stops half way.
fn hub(content: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    thread::spawn(move || {
        let mut cut = true;
        for stream in listener.incoming().flatten() {
            answer(&stream, &content, &mut cut);
        }
    });
    endpoint
}

fn answer(mut stream: &TcpStream, content: &[u8], cut: &mut bool) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let Some(request) = lines.next() else { return };
    let range = lines
        .filter_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned))
        .find_map(|range| range.trim_end_matches('-').parse::<usize>().ok());
    let json = |text: String| {
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{text}", text.len())
            .into_bytes()
    };
    let said = if request.contains("/revision/") {
        json(r#"{"sha":"abc123"}"#.into())
    } else if request.contains("/tree/abc123") {
        json(format!(r#"[{{"type":"file","path":"data/t.parquet","size":{}}}]"#, content.len()))
    } else if request.contains("/resolve/abc123/data/t.parquet") {
        let from = range.unwrap_or(0);
        let (status, more) = match range {
            Some(from) => (
                "206 Partial Content",
                format!("Content-Range: bytes {from}-{}/{}\r\n", content.len() - 1, content.len()),
            ),
            None => ("200 OK", String::new()),
        };
        let end = if std::mem::take(cut) { content.len() / 2 } else { content.len() };
        assert!(*cut || from == 0 || from == content.len() / 2, "what has come is not asked for again");
        let head = format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\nETag: \"v1\"\r\n{more}Content-Length: {}\r\n\r\n",
            content.len() - from
        );
        [head.as_bytes(), &content[from..end]].concat()
    } else {
        b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_vec()
    };
    let _ = stream.write_all(&said);
}

#[test]
fn addresses_become_trained_steps_though_the_connection_breaks() {
    let place = Place::drawn();
    table(&place, &place.path("t.parquet"), 20);
    let endpoint = hub(fs::read(place.path("t.parquet")).expect("a table"));
    // The program under test takes the hub from its environment, as this process's children do.
    let said = talkoot()
        .args([
            "dataset",
            "ingest",
            "hf://datasets/someone/things/data",
            "--out",
            &place.text("hf"),
            "--json",
        ])
        .env("HF_ENDPOINT", &endpoint)
        .env_remove("HTTP_PROXY")
        .env_remove("http_proxy")
        .env_remove("ALL_PROXY")
        .env_remove("all_proxy")
        .output()
        .expect("the program starts");
    let error = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.status.success(), "{error}");
    let fetched =
        fs::read_dir(place.path("hf/data.fetched")).expect("a folder").flatten().next().expect("one").path();
    assert_eq!(
        fs::read(fetched.join("t.parquet")).expect("the table"),
        fs::read(place.path("t.parquet")).expect("the table")
    );
    let list = fs::read_to_string(place.path("hf/data.samples.jsonl")).expect("a list");
    assert!(list.contains(r#""source":"things","file":"data/t.parquet""#), "{list:.300}");
    let report = place.train(&fetched.display().to_string(), "again", &[]);
    assert_eq!(report["samples"], 19);
}

#[test]
fn work_that_is_killed_ends_with_the_same_bytes() {
    let place = Place::drawn();
    fs::create_dir(place.path("many")).expect("a folder");
    for number in 0..40 {
        table(&place, &place.path(&format!("many/{number:02}.parquet")), 60);
    }
    let ingest = |out: &str| {
        words(&["dataset", "ingest", &place.text("many"), "--out", &place.text(out), "--resume"], &[])
    };
    run_words(&ingest("whole"));
    let killed = |wait: &u64| kill_after(&ingest("killed"), Duration::from_millis(*wait));
    let kills = [1, 5, 20, 60, 120].iter().filter(|wait| killed(wait)).count();
    assert!(kills > 0, "it was never killed while it worked");
    run_words(&ingest("killed"));
    for name in ["data.samples.jsonl", "data.rejects.jsonl", "data.pictures/0000039.tar"] {
        let (one, other) =
            (fs::read(place.path("whole").join(name)), fs::read(place.path("killed").join(name)));
        assert!(one.expect(name) == other.expect(name), "{name} differs");
    }
    assert!(!place.path("killed/data.work").exists());
    let error = run_badly(&["dataset", "ingest", &place.text("none.tar"), "--out", &place.text("x")]);
    assert!(error.contains("no input"), "{error}");
}

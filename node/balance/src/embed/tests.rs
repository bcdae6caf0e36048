use std::fs;

use talkoot_dataset::{
    ListReader, ListWriter, Roots, Sample, SampleId, SynthOptions, Tokenizer, build_demo_tokenizer,
    chat::Message, ingest::ingest, sample::Origin,
};
use talkoot_trainer::{huggingface::write_folder, presets::demo_model, state::State};

use super::*;
use crate::embedding::EmbeddingFile;

/// Drawn pictures with conversations, two texts, and a very small model with fresh weights.
struct World {
    folder: tempfile::TempDir,
    samples: Vec<Sample>,
    roots: Roots,
    tokenizer: Tokenizer,
    state: State,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = SynthOptions { train_pictures: 9, heldout_pictures: 2, ..SynthOptions::default() };
        let drawn = options.write(&folder.path().join("data")).unwrap();
        let bytes = build_demo_tokenizer(&drawn.texts, 300).unwrap();
        let tokenizer = Tokenizer::from_bytes(&bytes).unwrap();
        let mut config = demo_model(tokenizer.vocab_size());
        config.image_token_id = tokenizer.special_ids().image_pad;
        let state = State::initial(&config, 5);
        write_folder(&folder.path().join("model"), &config, &state, &[("tokenizer.json", &bytes)]).unwrap();
        let ingested = ingest(&[drawn.instruct], &drawn.folder).unwrap();
        let mut samples = ingested.samples;
        for (record, answer) in [(100, "a red circle"), (101, "a blue square")] {
            let origin = Origin { source: "text".into(), file: "f".into(), record, id: None, licence: None };
            let turns = vec![Message::user("What is there?"), Message::assistant(answer)];
            samples.insert(record as usize % 7, Sample::new(origin, turns, Vec::new()));
        }
        let world = Self { folder, samples, roots: ingested.roots, tokenizer, state };
        let mut list = ListWriter::create(&world.path("all.jsonl"), &world.roots).unwrap();
        world.samples.iter().for_each(|sample| list.write(sample).unwrap());
        list.finish().unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn options(&self, out: &str) -> EmbedOptions {
        EmbedOptions {
            model: self.path("model"),
            subject: Subject::Samples(vec![self.path("all.jsonl")]),
            out: self.path(out),
            part: Part::WHOLE,
            max_pixels: 56 * 56,
        }
    }

    fn part(&self, out: &str, part: &str) -> EmbedOptions {
        EmbedOptions { part: part.parse().unwrap(), ..self.options(out) }
    }
}

fn rows_of(path: &Path) -> Vec<(SampleId, Vec<f32>)> {
    let mut file = EmbeddingFile::open(path).unwrap();
    let (mut rows, mut ids) = (Vec::new(), Vec::new());
    file.read(0, file.rows() as usize, &mut rows).unwrap();
    file.read_ids(0, file.rows() as usize, &mut ids).unwrap();
    ids.into_iter().zip(rows.chunks(file.width()).map(<[f32]>::to_vec)).collect()
}

#[test]
fn each_sample_has_a_row_of_its_own_and_parts_give_the_same() {
    let world = World::new();
    let report = embed(&world.options("x.safetensors"), false, &()).unwrap();
    assert_eq!((report.entries, report.rows, report.rejected), (11, 11, 0));
    assert_eq!((report.width, report.rejects), (128, None));
    let whole = rows_of(&report.out);
    let ids: Vec<SampleId> = world.samples.iter().map(|sample| sample.id).collect();
    assert_eq!(whole.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ids);
    assert!(whole.iter().all(|(_, row)| row.iter().all(|value| value.is_finite())));
    let mut different: Vec<Vec<u32>> =
        whole.iter().map(|(_, row)| row.iter().map(|value| value.to_bits()).collect()).collect();
    different.sort();
    different.dedup();
    assert_eq!(different.len(), 11);
    let mut parts = Vec::new();
    for part in ["2/2", "1/2"] {
        let report = embed(&world.part("p.npy", part), false, &()).unwrap();
        let number = &part[..1];
        assert!(report.out.ends_with(format!("p.0000{number}-of-00002.npy")), "{report:?}");
        parts.extend(rows_of(&report.out));
    }
    parts.sort_by_key(|(id, _)| ids.iter().position(|other| other == id));
    assert_eq!(parts, whole);
}

#[test]
fn words_have_the_mean_of_their_tokens_rows() {
    let world = World::new();
    fs::write(world.path("concepts.txt"), "circle\nblue square\n").unwrap();
    let subject = Subject::Concepts(world.path("concepts.txt"));
    let report = embed(&EmbedOptions { subject, ..world.options("c.npy") }, false, &()).unwrap();
    assert_eq!((report.rows, report.width), (2, 128));
    let mut rows = Vec::new();
    let mut file = EmbeddingFile::open(&report.out).unwrap();
    assert!(!file.has_ids());
    file.read(0, 2, &mut rows).unwrap();
    let table = &world.state.tensors["model.embed_tokens.weight"].values;
    let tokens = world.tokenizer.encode(" blue square").unwrap();
    for (at, &value) in rows[128..].iter().enumerate() {
        let sum: f64 = tokens.iter().map(|&token| f64::from(table[token as usize * 128 + at])).sum();
        assert_eq!(value, (sum / tokens.len() as f64) as f32);
    }
}

#[test]
fn a_sample_whose_picture_is_broken_has_no_row_but_a_line() {
    let world = World::new();
    let broken = world.samples.iter().find(|sample| !sample.pictures.is_empty()).unwrap();
    let picture = &broken.pictures[0];
    let path = world.roots.file(&picture.root, &picture.path).unwrap();
    fs::write(path, vec![7; picture.bytes as usize]).unwrap();
    let report = embed(&world.options("x.npy"), false, &()).unwrap();
    let same = |sample: &&Sample| sample.pictures.first().is_some_and(|other| other.path == picture.path);
    let rejected = world.samples.iter().filter(same).count() as u64;
    assert_eq!((report.rows, report.rejected), (11 - rejected, rejected));
    let lines = fs::read_to_string(report.rejects.unwrap()).unwrap();
    assert!(lines.contains("bad_picture") && lines.lines().count() as u64 == rejected, "{lines}");
    assert!(!rows_of(&report.out).iter().any(|(id, _)| *id == broken.id));
}

#[test]
fn work_goes_on_where_it_was_and_only_with_the_same_model() {
    let world = World::new();
    let wanted = embed(&world.options("x.safetensors"), false, &()).unwrap();
    let wanted = fs::read(wanted.out).unwrap();
    // A finished part whose rows are not gathered yet.
    let options = world.options("y.safetensors");
    let cpu = Cpu::default();
    let senses = Senses::open(&cpu, &options.model, options.max_pixels).unwrap();
    let lists = vec![world.path("all.jsonl")];
    samples::embed_only(&options, &lists, &senses).unwrap();
    for picture in fs::read_dir(world.path("data/images")).unwrap() {
        fs::remove_file(picture.unwrap().path()).unwrap();
    }
    let report = embed(&options, true, &()).unwrap();
    assert!(fs::read(report.out).unwrap() == wanted, "what was embedded is not embedded again");
    assert!(!world.path("y.safetensors.work").exists());

    samples::embed_only(&world.options("z.npy"), &lists, &senses).unwrap();
    let other = EmbedOptions { max_pixels: 28 * 28, ..world.options("z.npy") };
    let error = embed(&other, true, &()).unwrap_err().to_string();
    assert!(error.contains("other options"), "{error}");
}

#[test]
fn what_cannot_be_used_is_refused_with_the_reason() {
    let world = World::new();
    let refused = |options: &EmbedOptions| embed(options, false, &()).unwrap_err().to_string();
    assert!(refused(&world.options("x.txt")).contains("neither .npy nor .safetensors"));
    assert!(refused(&EmbedOptions { max_pixels: 3, ..world.options("x.npy") }).contains("max_pixels is 3"));
    let subject = Subject::Concepts(world.path("none.txt"));
    let options = EmbedOptions { subject: subject.clone(), ..world.part("x.npy", "1/2") };
    assert!(refused(&options).contains("embedded as a whole"));
    assert!(refused(&EmbedOptions { subject, ..world.options("x.npy") }).contains("none.txt"));
    let options = EmbedOptions { model: world.path("data"), ..world.options("x.npy") };
    assert!(refused(&options).contains("tokenizer.json"));
    let other = build_demo_tokenizer(&["other words".to_owned()], 290).unwrap();
    fs::write(world.path("model/tokenizer.json"), other).unwrap();
    // A tokenizer of another size may still fit; one whose picture token is elsewhere does not.
    let mut config: serde_json::Value =
        serde_json::from_slice(&fs::read(world.path("model/config.json")).unwrap()).unwrap();
    config["image_token_id"] = 9.into();
    fs::write(world.path("model/config.json"), config.to_string()).unwrap();
    assert!(refused(&world.options("x.npy")).contains("another model's: pictures are token 9"));
    assert_eq!(ListReader::open(&world.path("all.jsonl")).unwrap().count(), 11);
}

use std::{collections::BTreeMap, fs, path::Path};

use talkoot_protocol::digest::Digest;

use super::*;
use crate::{
    inspect,
    reader::{PackReader, ReadError},
    synth::SynthOptions,
    tokenizer::build_demo_tokenizer,
};

struct Drawn {
    dir: tempfile::TempDir,
    options: PackOptions,
}

fn drawn() -> Drawn {
    let dir = tempfile::tempdir().unwrap();
    let synth = SynthOptions { seed: 3, train_pictures: 40, heldout_pictures: 4, ..SynthOptions::default() };
    let report = synth.write(&dir.path().join("data")).unwrap();
    let options = PackOptions {
        name: "instruct".into(),
        records: vec![report.instruct],
        pictures: report.folder,
        tokenizer: build_demo_tokenizer(&report.texts, 512).unwrap(),
        sequence_tokens: 300,
        shard_bytes: 48 << 10,
        preprocess: PreprocessOptions { max_pixels: 12_544, ..PreprocessOptions::default() },
        seed: 1,
        out: dir.path().join("packed"),
    };
    Drawn { dir, options }
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect()
}

fn reader(report: &PackReport) -> PackReader {
    PackReader::in_folder(&fs::read(report.path_of(&report.index)).unwrap(), &report.folder).unwrap()
}

#[test]
fn the_same_data_pack_to_the_same_bytes_on_any_number_of_threads() {
    let Drawn { dir, options } = drawn();
    let first = pack_dataset(&options).unwrap();
    for threads in [1, 3] {
        let out = dir.path().join(format!("again{threads}"));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let again =
            pool.install(|| pack_dataset(&PackOptions { out: out.clone(), ..options.clone() })).unwrap();
        assert_eq!(again.index, first.index);
        assert!(files(&out) == files(&options.out));
    }
    let other =
        pack_dataset(&PackOptions { seed: 2, out: dir.path().join("other"), ..options.clone() }).unwrap();
    assert_ne!(other.index, first.index, "another seed, another order");
    assert_eq!(other.totals.tokens, first.totals.tokens);
    for blob in first.blobs() {
        assert_eq!(blob, talkoot_protocol::digest::BlobRef::of(&fs::read(first.path_of(&blob)).unwrap()));
    }
}

#[test]
fn what_is_read_is_what_was_said_and_drawn() {
    let Drawn { dir: _dir, options } = drawn();
    let report = pack_dataset(&options).unwrap();
    assert_eq!((report.records, report.totals.samples, report.rejects.len()), (40, 40, 0));
    assert!(report.shards.len() > 1, "{} shards", report.shards.len());
    let reader = reader(&report);
    let tokenizer = Tokenizer::from_bytes(&options.tokenizer).unwrap();
    let ingested = ingest::ingest(&options.records, &options.pictures).unwrap();
    let mut expected: Vec<(Vec<u32>, Vec<i64>, Vec<Rgb>)> = ingested
        .samples
        .iter()
        .map(|sample| prepare(sample, &options, &ingested.roots, &tokenizer).unwrap())
        .map(|ready| (ready.encoded.tokens, ready.encoded.labels, ready.pictures))
        .collect();
    let mut totals = (0, 0);
    for pack in 0..reader.packs() {
        let pack = reader.read(pack).unwrap();
        assert!(pack.tokens.len() <= 300);
        totals = (totals.0 + pack.tokens.len() as u64, totals.1 + pack.learned_tokens() as u64);
        let (mut at, mut images) = (0, pack.images.into_iter());
        for length in pack.sample_lengths {
            let end = at + length as usize;
            let image = images.next().unwrap();
            let got = (pack.tokens[at..end].to_vec(), pack.labels[at..end].to_vec(), vec![image]);
            let place =
                expected.iter().position(|sample| *sample == got).expect("a sample of the data, whole");
            expected.swap_remove(place);
            at = end;
        }
    }
    assert!(expected.is_empty());
    assert_eq!(totals, (report.totals.tokens, report.totals.learned_tokens));
    assert!(matches!(reader.read(reader.packs()), Err(ReadError::Index(IndexError::NoSuchPack { .. }))));
}

#[test]
fn a_flipped_bit_anywhere_in_a_shard_names_the_shard() {
    let Drawn { dir: _dir, options } = drawn();
    let report = pack_dataset(&options).unwrap();
    let path = report.path_of(&report.shards[0]);
    let good = fs::read(&path).unwrap();
    for at in [0, 9, 40, 66, 200, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 4;
        fs::write(&path, &bad).unwrap();
        let error = reader(&report).read(0).unwrap_err();
        assert!(
            matches!(&error, ReadError::WrongDigest { shard, got, .. }
                if *shard == report.shards[0].digest && *got == Digest::of(&bad)),
            "{error}"
        );
        assert!(error.to_string().contains(&report.shards[0].digest.to_string()));
    }
    fs::write(&path, &good[..good.len() - 1]).unwrap();
    assert!(matches!(reader(&report).read(0), Err(ReadError::WrongLength { .. })));
    fs::remove_file(&path).unwrap();
    let error = reader(&report).read(0).unwrap_err();
    assert!(matches!(error, ReadError::Missing { pack: 0, .. }), "{error}");
    // The other shards are as good as they were.
    let last = reader(&report).packs() - 1;
    reader(&report).read(last).unwrap();
}

#[test]
fn only_the_shards_of_an_assignment_are_needed() {
    let Drawn { dir: _dir, options } = drawn();
    let report = pack_dataset(&options).unwrap();
    let whole = reader(&report);
    let last = whole.packs() - 1;
    let needed = whole.shards_of([last]).unwrap();
    assert_eq!(needed, [*report.shards.last().unwrap()]);
    for shard in &report.shards[..report.shards.len() - 1] {
        fs::remove_file(report.path_of(shard)).unwrap();
    }
    assert_eq!(whole.shards_of(0..=last).unwrap(), report.shards);
    reader(&report).read(last).unwrap();
}

#[test]
fn a_reader_is_shared_between_threads() {
    let Drawn { dir: _dir, options } = drawn();
    let reader = reader(&pack_dataset(&options).unwrap());
    let alone: Vec<_> = (0..reader.packs()).map(|pack| reader.read(pack).unwrap()).collect();
    let together: Vec<_> =
        (0..reader.packs()).into_par_iter().map(|pack| reader.read(pack).unwrap()).collect();
    assert_eq!(alone, together);
}

#[test]
fn bad_records_are_counted_and_explained() {
    let Drawn { dir, mut options } = drawn();
    let pictures = options.pictures.join("images");
    fs::write(pictures.join("torn.png"), &fs::read(pictures.join("t00000.png")).unwrap()[..60]).unwrap();
    let talk = |picture: &str, answer: &str| {
        format!(
            r#"{{"id":"r","image":"images/{picture}","conversations":[{{"from":"human","value":"<image>\nx"}},{{"from":"gpt","value":"{answer}"}}]}}"#
        )
    };
    let lines = [
        talk("t00001.png", "red"),
        talk("torn.png", "red"),
        talk("t00001.png", &"word ".repeat(400)),
        talk("../../x.png", "red"),
        talk("gone.png", "red"),
        "{".into(),
    ];
    let records = dir.path().join("mixed.jsonl");
    fs::write(&records, lines.join("\n")).unwrap();
    options.records = vec![records.clone()];
    let report = pack_dataset(&options).unwrap();
    assert_eq!((report.records, report.totals.samples), (6, 1));
    let kinds: Vec<RejectKind> = report.rejects.keys().copied().collect();
    use RejectKind::{BadPicture, Malformed, MissingPicture, TooLong, UnsafePath};
    assert_eq!(kinds, [Malformed, UnsafePath, MissingPicture, BadPicture, TooLong]);
    let rejects: Vec<Reject> = fs::read_to_string(&report.rejects_path)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rejects.len() as u64 + report.totals.samples, report.records);
    assert_eq!(rejects.iter().map(|reject| reject.origin.record).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert!(rejects[0].reason.contains("images/torn.png"), "{}", rejects[0].reason);
    assert!(!rejects[0].reason.contains(&options.pictures.display().to_string()), "{}", rejects[0].reason);
    assert!(rejects[1].reason.contains("a sequence has 300"), "{}", rejects[1].reason);

    fs::write(&records, lines[1..].join("\n")).unwrap();
    let error = pack_dataset(&options).unwrap_err();
    assert!(matches!(error, PackError::NothingLeft { records: 5, .. }), "{error}");
}

#[test]
fn options_out_of_bounds_are_named() {
    let Drawn { dir: _dir, options } = drawn();
    let refused = |change: fn(&mut PackOptions)| {
        let mut options = options.clone();
        change(&mut options);
        pack_dataset(&options).unwrap_err().to_string()
    };
    assert!(refused(|o| o.name = "../x".into()).starts_with("name is"));
    assert!(refused(|o| o.sequence_tokens = 0).starts_with("sequence_tokens is 0"));
    assert!(refused(|o| o.shard_bytes = 10).starts_with("shard_bytes is 10"));
    assert!(refused(|o| o.preprocess.max_pixels = 700).starts_with("max_pixels is 700"));
    assert!(refused(|o| o.shard_bytes = 2000).contains("raise shard_bytes"));
}

#[test]
fn people_can_look_inside() {
    let Drawn { dir: _dir, options } = drawn();
    let report = pack_dataset(&options).unwrap();
    let tokenizer = Tokenizer::from_bytes(&options.tokenizer).unwrap();
    let text =
        inspect::describe_shard(&fs::read(report.path_of(&report.shards[0])).unwrap(), &tokenizer).unwrap();
    assert!(text.contains("<|im_start|>system\nYou are a helpful assistant.<|im_end|>"), "{text}");
    assert!(text.contains(" x <|image_pad|>]<|vision_end|>\n"), "{text}");
    assert!(text.contains("<|im_end|>»"), "{text}");
    let text = inspect::describe_index(reader(&report).index());
    assert!(text.contains(&report.shards[0].to_string()), "{text}");
    assert!(matches!(inspect::describe_shard(b"short", &tokenizer), Err(inspect::InspectError::Shard(_))));
}

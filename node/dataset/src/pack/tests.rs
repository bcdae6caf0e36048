use std::{collections::BTreeMap, fs, path::Path};

use rayon::prelude::*;
use talkoot_protocol::digest::Digest;

use super::*;
use crate::{
    index::IndexError,
    inspect::{self, Depth},
    manifest::DatasetManifest,
    preprocess::{PreprocessOptions, Rgb},
    progress::Unit,
    reader::{AheadOptions, PackReader, ReadAhead, ReadError},
    sample::{ListReader, Reject, RejectKind},
    synth::SynthOptions,
    tokenizer::{Tokenizer, build_demo_tokenizer},
};

mod ordered;

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
        input: Input::Records { files: vec![report.instruct], pictures: report.folder },
        tokenizer: build_demo_tokenizer(&report.texts, 512).unwrap(),
        fit: FitRules { capacity: 300, ..FitRules::default() },
        shard_bytes: 24 << 10,
        preprocess: PreprocessOptions { max_pixels: 12_544, ..PreprocessOptions::default() },
        pixels: PixelCheck::Decode,
        ordered: false,
        seed: 1,
        sections: BTreeMap::new(),
        publisher: None,
        out: dir.path().join("packed"),
    };
    Drawn { dir, options }
}

fn pictures(options: &PackOptions) -> &Path {
    match &options.input {
        Input::Records { pictures, .. } => pictures,
        Input::Lists(_) => panic!("the input is records"),
    }
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect()
}

/// Names of files that differ.
fn differing(one: &BTreeMap<String, Vec<u8>>, other: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let names = one.keys().chain(other.keys().filter(|name| !one.contains_key(*name)));
    names.filter(|name| one.get(*name) != other.get(*name)).cloned().collect()
}

fn manifest(report: &PackReport) -> Vec<u8> {
    fs::read(report.path_of(&report.manifest)).unwrap()
}

fn reader(report: &PackReport) -> PackReader {
    PackReader::in_folder(&manifest(report), &report.folder).unwrap()
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
        assert_eq!(again.manifest, first.manifest);
        assert_eq!(differing(&files(&out), &files(&options.out)), [""; 0]);
    }
    let other =
        pack_dataset(&PackOptions { seed: 2, out: dir.path().join("other"), ..options.clone() }).unwrap();
    assert_ne!(other.content, first.content, "another seed, another order");
    assert_eq!(other.totals.tokens, first.totals.tokens);
    for blob in first.blobs() {
        assert_eq!(blob, talkoot_protocol::digest::BlobRef::of(&fs::read(first.path_of(&blob)).unwrap()));
    }
}

#[test]
fn work_that_is_split_writes_the_same_files() {
    let Drawn { dir, options } = drawn();
    pack_dataset(&options).unwrap();
    let wanted = files(&options.out);
    for (measured_by, written_by) in [(1, 3), (4, 1), (7, 5)] {
        let out = dir.path().join(format!("split{measured_by}"));
        let options = PackOptions { out: out.clone(), ..options.clone() };
        let step = |step| pack_step(&options, step, true, &()).unwrap();
        // In any order of the parts.
        for index in (0..measured_by).rev() {
            assert!(step(Step::Measure(Part::new(index, measured_by).unwrap())).is_none());
        }
        step(Step::Plan);
        for index in (0..written_by).rev() {
            step(Step::Write(Part::new(index, written_by).unwrap()));
        }
        assert!(step(Step::Finish).is_some());
        assert_eq!(differing(&files(&out), &wanted), [""; 0], "{measured_by} {written_by}");
    }
}

#[test]
fn steps_out_of_order_say_what_comes_first() {
    let Drawn { dir: _dir, options } = drawn();
    let refused = |step| pack_step(&options, step, true, &()).unwrap_err().to_string();
    assert!(refused(Step::Plan).contains("measuring"), "{}", refused(Step::Plan));
    pack_step(&options, Step::Measure(Part::new(0, 2).unwrap()), true, &()).unwrap();
    assert!(refused(Step::Plan).contains("1 parts are done"), "{}", refused(Step::Plan));
    assert!(refused(Step::Finish).contains("the plan"), "{}", refused(Step::Finish));
    pack_step(&options, Step::Measure(Part::WHOLE), true, &()).unwrap();
    pack_step(&options, Step::Plan, true, &()).unwrap();
    assert!(refused(Step::Finish).contains("shard 0"), "{}", refused(Step::Finish));
    let other = PackOptions { seed: 9, ..options.clone() };
    let error = pack_step(&other, Step::Plan, true, &()).unwrap_err();
    assert!(matches!(error, PackError::Work(WorkError::OtherWork { .. })), "{error}");
}

/// Panics when it is told of the `left`th piece of progress: a process that dies there.
struct Dies {
    left: std::sync::atomic::AtomicI64,
}

impl Progress for Dies {
    fn begin(&self, _: &'static str, _: u64, _: Unit) {
        self.advance(0);
    }

    fn advance(&self, _: u64) {
        let left = self.left.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
        assert!(left != 0, "the process is killed here");
    }

    fn end(&self) {
        self.advance(0);
    }
}

#[test]
fn whoever_is_killed_goes_on_and_ends_with_the_same_files() {
    let Drawn { dir, options } = drawn();
    pack_dataset(&options).unwrap();
    let wanted = files(&options.out);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let mut finished = false;
    for kill_at in 0..40 {
        let out = dir.path().join(format!("killed{kill_at}"));
        let options = PackOptions { out: out.clone(), ..options.clone() };
        let dies = Dies { left: kill_at.into() };
        let run = || pack_step(&options, Step::All, true, &dies).map(|report| report.is_some());
        let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pool.install(run))).is_err();
        finished |= !died;
        if died {
            // What a kill may leave half written.
            fs::create_dir_all(out.join("instruct.work/shards")).unwrap();
            fs::write(out.join("instruct.work/shards/00000001.part"), b"half").unwrap();
        }
        pack_step(&options, Step::All, true, &()).unwrap().unwrap();
        assert_eq!(differing(&files(&out), &wanted), [""; 0], "killed at {kill_at}");
    }
    assert!(finished, "the last kills came after the end");
}

#[test]
fn what_is_read_is_what_was_said_and_drawn() {
    let Drawn { dir, options } = drawn();
    let report = pack_dataset(&options).unwrap();
    assert_eq!((report.records, report.totals.samples, report.rejects.len()), (40, 40, 0));
    assert!(report.shards.len() > 1, "{} shards", report.shards.len());
    let reader = reader(&report);
    let tokenizer = Tokenizer::from_bytes(&options.tokenizer).unwrap();
    let mut expected = expected(&options, &tokenizer, dir.path());
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

type Expected = (Vec<u32>, Vec<i64>, Vec<Rgb>);

/// Tokens, labels and pictures of each record, without packing.
fn expected(options: &PackOptions, tokenizer: &Tokenizer, scratch: &Path) -> Vec<Expected> {
    let Input::Records { files, pictures } = &options.input else { panic!("the input is records") };
    let ingested = crate::ingest::ingest(files, pictures).unwrap();
    let list = scratch.join("expected.jsonl");
    let mut writer = crate::sample::ListWriter::create(&list, &ingested.roots).unwrap();
    ingested.samples.iter().for_each(|sample| writer.write(sample).unwrap());
    writer.finish().unwrap();
    ListReader::open(&list)
        .unwrap()
        .map(|placed| placed.unwrap().sample)
        .map(|sample| {
            let pictures: Vec<Rgb> = sample
                .pictures
                .iter()
                .map(|p| ingested.roots.file(&p.root, &p.path).unwrap())
                .map(|file| options.preprocess.load(&file).unwrap())
                .collect();
            let sizes: Vec<usize> = pictures.iter().map(Rgb::llm_tokens).collect();
            let encoded = crate::chat::encode_for_training(&sample.messages, &sizes, tokenizer).unwrap();
            (encoded.tokens, encoded.labels, pictures)
        })
        .collect()
}

#[test]
fn pictures_are_stored_as_the_files_that_they_were() {
    let Drawn { dir: _dir, options } = drawn();
    let report = pack_dataset(&options).unwrap();
    let reader = reader(&report);
    let originals: Vec<Vec<u8>> = files(&pictures(&options).join("images")).into_values().collect();
    for pack in 0..reader.packs() {
        reader
            .with_parts(pack, |parts| {
                assert!(parts.pictures.iter().all(|bytes| originals.iter().any(|file| file == bytes)));
                Ok(())
            })
            .unwrap();
    }
}

#[test]
fn heads_alone_measure_the_same() {
    let Drawn { dir, options } = drawn();
    let decoded = pack_dataset(&options).unwrap();
    let out = dir.path().join("heads");
    let heads = pack_dataset(&PackOptions { pixels: PixelCheck::Head, out, ..options }).unwrap();
    assert_eq!(heads.shards, decoded.shards);
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
fn packs_read_ahead_are_those_read_alone() {
    let Drawn { dir: _dir, options } = drawn();
    let report = pack_dataset(&options).unwrap();
    let alone = reader(&report);
    let packs = alone.packs();
    // Twice over, as a small set is; then out of order, and without a plan.
    let plan: Vec<u64> = (0..packs).chain((0..packs).rev()).collect();
    for (threads, ahead, bytes) in [(0, 4, 1 << 20), (1, 1, 1), (2, 3, 1 << 20), (3, 64, 1 << 30)] {
        let options = AheadOptions { threads, packs: ahead, bytes };
        let source = ReadAhead::new(reader(&report), options);
        assert_eq!(source.take(1).unwrap(), alone.read(1).unwrap(), "without a plan");
        source.plan(&plan);
        for &pack in &plan {
            assert_eq!(source.take(pack).unwrap(), alone.read(pack).unwrap(), "{options:?}");
        }
        source.plan(&plan);
        for pack in [3, 2, 0, packs - 1] {
            assert_eq!(source.take(pack).unwrap(), alone.read(pack).unwrap(), "{options:?}");
        }
        assert!(source.take(packs).is_err());
    }
}

#[test]
fn a_shard_that_comes_after_it_was_planned_is_read() {
    let Drawn { dir, options } = drawn();
    let report = pack_dataset(&options).unwrap();
    let (path, away) = (report.path_of(&report.shards[0]), dir.path().join("away"));
    fs::rename(&path, &away).unwrap();
    let source = ReadAhead::new(reader(&report), AheadOptions { threads: 1, packs: 2, bytes: 1 << 20 });
    source.plan(&[0, 0, 0]);
    assert!(matches!(source.take(0), Err(ReadError::Missing { pack: 0, .. })));
    fs::rename(&away, &path).unwrap();
    source.take(0).unwrap();
}

#[test]
fn bad_records_are_counted_and_explained() {
    let Drawn { dir, mut options } = drawn();
    let folder = pictures(&options).to_path_buf();
    let images = folder.join("images");
    let whole = fs::read(images.join("t00000.png")).unwrap();
    fs::write(images.join("torn.png"), &whole[..60]).unwrap();
    // The head is sound, the pixels are not.
    fs::write(images.join("cut.png"), &whole[..whole.len() / 2]).unwrap();
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
        talk("cut.png", "red"),
        talk("t00001.png", " "),
    ];
    let records = dir.path().join("mixed.jsonl");
    fs::write(&records, lines.join("\n")).unwrap();
    options.input = Input::Records { files: vec![records.clone()], pictures: folder.clone() };
    let report = pack_dataset(&options).unwrap();
    assert_eq!((report.records, report.totals.samples), (8, 1));
    let rejects: Vec<Reject> = fs::read_to_string(&report.rejects_path)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rejects.len() as u64 + report.totals.samples, report.records);
    assert_eq!(report.rejects.values().sum::<u64>(), rejects.len() as u64);
    use RejectKind::{BadPicture, Conversation, Malformed, MissingPicture, TooLong, UnsafePath};
    let found: Vec<_> = rejects.iter().map(|reject| (reject.origin.record, reject.kind)).collect();
    let wanted = [BadPicture, TooLong, UnsafePath, MissingPicture, Malformed, BadPicture, Conversation];
    assert_eq!(found, (1..).zip(wanted).collect::<Vec<_>>());
    assert!(rejects[0].reason.contains("images/torn.png"), "{}", rejects[0].reason);
    let told = |reject: &Reject| reject.reason.contains(&folder.display().to_string());
    assert!(!rejects.iter().any(told), "where the folder lies is nobody's business: {rejects:?}");
    assert!(rejects[1].reason.contains("a sequence has 300"), "{}", rejects[1].reason);
    let said = DatasetManifest::from_bytes(&manifest(&report)).unwrap().making;
    assert_eq!((said.records, &said.rejects), (8, &report.rejects));

    // Whoever trusts the heads packs the pictures that are cut off, and the reader refuses them.
    options.pixels = PixelCheck::Head;
    let trusting = pack_dataset(&options).unwrap();
    assert_eq!(trusting.totals.samples, 3);
    let error = (0..trusting.totals.packs).find_map(|pack| reader(&trusting).read(pack).err()).unwrap();
    assert!(error.to_string().contains("is damaged"), "{error}");

    options.pixels = PixelCheck::Decode;
    fs::write(&records, lines[1..].join("\n")).unwrap();
    let error = pack_dataset(&options).unwrap_err();
    assert!(matches!(error, PackError::NothingLeft { records: 7, .. }), "{error}");
}

#[test]
fn data_that_change_between_measuring_and_writing_are_noticed() {
    let Drawn { dir: _dir, options } = drawn();
    pack_step(&options, Step::Measure(Part::WHOLE), true, &()).unwrap();
    pack_step(&options, Step::Plan, true, &()).unwrap();
    let (one, other) = ("images/t00000.png", "images/t00001.png");
    fs::copy(pictures(&options).join(one), pictures(&options).join(other)).unwrap();
    let error = pack_step(&options, Step::Write(Part::WHOLE), true, &()).unwrap_err();
    assert!(matches!(error, PackError::Changed { .. }), "{error}");
}

#[test]
fn several_pictures_and_none_stay_whole() {
    let Drawn { dir, mut options } = drawn();
    let records = dir.path().join("shapes.jsonl");
    let lines = [
        r#"{"image":["images/t00001.png","images/t00002.png"],"conversations":[{"from":"human","value":"<image> or <image>?"},{"from":"gpt","value":"red"},{"from":"human","value":"why"},{"from":"gpt","value":"red"}]}"#,
        r#"{"conversations":[{"from":"human","value":"colour?"},{"from":"gpt","value":"red"}]}"#,
    ];
    fs::write(&records, lines.join("\n")).unwrap();
    options.input = Input::Records { files: vec![records], pictures: pictures(&options).to_path_buf() };
    let report = pack_dataset(&options).unwrap();
    assert_eq!((report.totals.samples, report.totals.images, report.totals.packs), (2, 2, 1));
    let pack = reader(&report).read(0).unwrap();
    assert_eq!((pack.sample_lengths.len(), pack.images.len()), (2, 2));
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
    assert!(refused(|o| o.fit.capacity = 0).starts_with("sequence_tokens is 0"));
    assert!(refused(|o| o.shard_bytes = 10).starts_with("shard_bytes is 10"));
    assert!(refused(|o| o.preprocess.max_pixels = 700).starts_with("max_pixels is 700"));
    assert!(refused(|o| o.fit.max_segments = 0).starts_with("max_segments is 0"));
    assert!(refused(|o| o.shard_bytes = 2048).contains("raise shard_bytes"));
}

#[test]
fn people_can_look_inside() {
    let Drawn { dir: _dir, options } = drawn();
    let key = talkoot_protocol::identity::Keypair::from_seed([5; 32]);
    let sections = [("filter".to_owned(), br#"{"min":"<b>"}"#.to_vec())].into();
    let report =
        pack_dataset(&PackOptions { publisher: Some(key.clone()), sections, ..options.clone() }).unwrap();
    let tokenizer = Tokenizer::from_bytes(&options.tokenizer).unwrap();
    let (reader, manifest) = (reader(&report), DatasetManifest::from_bytes(&manifest(&report)).unwrap());
    let text = inspect::describe_packs(&reader, &tokenizer, 2).unwrap();
    assert!(text.contains("<|im_start|>system\nYou are a helpful assistant.<|im_end|>"), "{text}");
    assert!(text.contains(" x <|image_pad|>]<|vision_end|>\n"), "{text}");
    assert!(text.contains("<|im_end|>»"), "{text}");
    let text = inspect::describe_manifest(&manifest);
    assert!(text.contains(&report.shards[0].to_string()), "{text}");
    assert!(text.contains(&key.id().to_string()), "{text}");
    let page = inspect::page(&manifest, &reader, &tokenizer, 2).unwrap();
    assert!(page.contains("data:image/png;base64,") && page.contains("&lt;|im_start|&gt;system"));
    assert!(page.contains("{&quot;min&quot;:&quot;&lt;b&gt;&quot;}") && !page.contains("<b>&quot;"));
}

#[test]
fn every_byte_is_verified() {
    let Drawn { dir: _dir, options } = drawn();
    let report = pack_dataset(&options).unwrap();
    let bytes = manifest(&report);
    let said = DatasetManifest::from_bytes(&bytes).unwrap();
    let verify = |depth| inspect::verify(&said, &bytes, &report.folder, depth, &());
    let found = verify(Depth::Pictures).unwrap();
    assert_eq!((found.shards, found.packs), (report.shards.len() as u64, report.totals.packs));
    let large = report.shards.iter().find(|shard| shard.bytes > 16 << 10).unwrap();
    let tree = report.folder.join(format!("{}.obao", large.digest));
    let good = fs::read(&tree).unwrap();
    fs::remove_file(&tree).unwrap();
    assert_eq!(verify(Depth::Files).unwrap().without_tree, 1);
    fs::write(&tree, [&good[1..], &good[..1]].concat()).unwrap();
    assert!(matches!(verify(Depth::Files), Err(inspect::VerifyError::WrongTree { .. })));
    fs::write(&tree, good).unwrap();
    let shard = report.path_of(&report.shards[1]);
    let mut damaged = fs::read(&shard).unwrap();
    damaged[700] ^= 1;
    fs::write(&shard, damaged).unwrap();
    let error = verify(Depth::Files).unwrap_err();
    assert!(error.to_string().contains(&report.shards[1].digest.to_string()), "{error}");
}

#[test]
fn two_data_sets_are_compared() {
    let Drawn { dir, options } = drawn();
    let read = |report: &PackReport| DatasetManifest::from_bytes(&manifest(report)).unwrap();
    let one = read(&pack_dataset(&options).unwrap());
    let key = talkoot_protocol::identity::Keypair::from_seed([5; 32]);
    let out = dir.path().join("signed");
    let signed = read(&pack_dataset(&PackOptions { publisher: Some(key), out, ..options.clone() }).unwrap());
    let same = inspect::diff(&one, &signed);
    assert!(same.same && same.changes.is_empty() && same.shards_added == 0, "{same:?}");
    let out = dir.path().join("other");
    let other = read(&pack_dataset(&PackOptions { seed: 2, out, ..options }).unwrap());
    let differs = inspect::diff(&one, &other);
    assert!(!differs.same && differs.shards_added > 0);
    assert!(differs.changes.contains(&("seed".into(), "1".into(), "2".into())), "{differs:?}");
}

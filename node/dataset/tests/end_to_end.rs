//! From a seed to packs that are read, through the public API only; the same bytes every time and everywhere.

use std::{collections::BTreeMap, error::Error, fs, path::Path};

use talkoot_dataset::{
    FitRules, PackInput, PackOptions, PackReader, PackReport, PixelCheck, PreprocessOptions, SynthOptions,
    Tokenizer, build_demo_tokenizer, pack_dataset,
};
use talkoot_protocol::digest::Digest;

/// Draws, learns a tokenizer and packs the three stages.
fn build(folder: &Path) -> Result<Vec<PackReport>, Box<dyn Error>> {
    let options =
        SynthOptions { seed: 11, train_pictures: 30, heldout_pictures: 6, ..SynthOptions::default() };
    let drawn = options.write(&folder.join("data"))?;
    let tokenizer = build_demo_tokenizer(&drawn.texts, 512)?;
    [("alignment", drawn.alignment), ("midtraining", drawn.midtraining), ("instruct", drawn.instruct)]
        .into_iter()
        .map(|(name, records)| {
            Ok(pack_dataset(&PackOptions {
                name: name.into(),
                input: PackInput::Records { files: vec![records], pictures: drawn.folder.clone() },
                tokenizer: tokenizer.clone(),
                fit: FitRules { capacity: 256, ..FitRules::default() },
                shard_bytes: 64 << 10,
                pixels: PixelCheck::Decode,
                ordered: false,
                sections: BTreeMap::new(),
                publisher: None,
                preprocess: PreprocessOptions { max_pixels: 112 * 112, ..PreprocessOptions::default() },
                seed: 4,
                out: folder.join("packed"),
            })?)
        })
        .collect()
}

#[test]
fn the_same_seed_gives_the_same_files_and_they_can_be_read() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (first, second) = (build(one.path()).unwrap(), build(two.path()).unwrap());
    let mut names = 0;
    for entry in fs::read_dir(one.path().join("packed")).unwrap() {
        let entry = entry.unwrap();
        let other = fs::read(two.path().join("packed").join(entry.file_name())).unwrap();
        assert!(fs::read(entry.path()).unwrap() == other, "{:?} differs", entry.file_name());
        names += 1;
    }
    assert_eq!(names, fs::read_dir(two.path().join("packed")).unwrap().count());

    for (report, again) in first.iter().zip(&second) {
        assert_eq!(report.manifest, again.manifest);
        assert_eq!((report.totals.samples, report.totals.images), (30, 30));
        let tokenizer = Tokenizer::from_bytes(&fs::read(report.path_of(&report.tokenizer)).unwrap()).unwrap();
        assert_eq!(tokenizer.blob(), report.tokenizer);
        let reader =
            PackReader::in_folder(&fs::read(report.path_of(&report.manifest)).unwrap(), &report.folder)
                .unwrap();
        for pack in 0..reader.packs() {
            let pack = reader.read(pack).unwrap();
            let learned: Vec<u32> =
                pack.labels.iter().filter_map(|&label| u32::try_from(label).ok()).collect();
            assert!(!tokenizer.decode(&learned).unwrap().trim().is_empty());
        }
    }
}

/// Pinned, so that another machine, compiler or version of a library that draws, resizes, compresses or counts in
/// another way is noticed. Change it only on purpose: with it changes the name of every data set made from a seed.
#[test]
fn the_bytes_are_those_of_every_other_machine() {
    let dir = tempfile::tempdir().unwrap();
    // The shards, not the manifests, which name the program's version.
    let reports = build(dir.path()).unwrap();
    let shards = reports.iter().flat_map(|report| &report.shards);
    let all: Vec<u8> = shards.flat_map(|shard| *shard.digest.as_bytes()).collect();
    assert_eq!(Digest::of(&all).short(), "a92d761f");
}

//! Draws the demo's data set, learns its tokenizer, packs all three stages and shows what came of it.
//!
//! ```text
//! cargo run --release -p talkoot-dataset --example synthetic -- <folder> [seed]
//! ```
#![allow(clippy::print_stdout, reason = "an example talks to people")]

use std::{collections::BTreeMap, error::Error, path::PathBuf, time::Instant};

use talkoot_dataset::{
    DatasetManifest, FitRules, PackInput, PackOptions, PackReader, PixelCheck, PreprocessOptions,
    SynthOptions, Tokenizer, build_demo_tokenizer, heldout, inspect, pack_dataset,
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("which folder?")?);
    let seed = arguments.next().map_or(Ok(0), |seed| seed.parse())?;

    let start = Instant::now();
    let drawn = SynthOptions { seed, ..SynthOptions::default() }.write(&folder.join("data"))?;
    println!("drawn after {:.2} s", start.elapsed().as_secs_f64());
    let tokenizer_bytes = build_demo_tokenizer(&drawn.texts, 512)?;
    let tokenizer = Tokenizer::from_bytes(&tokenizer_bytes)?;
    println!("tokenizer of {} ids after {:.2} s", tokenizer.vocab_size(), start.elapsed().as_secs_f64());

    let mut last = None;
    for (name, records) in
        [("alignment", &drawn.alignment), ("midtraining", &drawn.midtraining), ("instruct", &drawn.instruct)]
    {
        let report = pack_dataset(&PackOptions {
            name: name.into(),
            input: PackInput::Records { files: vec![records.clone()], pictures: drawn.folder.clone() },
            tokenizer: tokenizer_bytes.clone(),
            fit: FitRules { capacity: 256, ..FitRules::default() },
            shard_bytes: 512 << 10,
            pixels: PixelCheck::Decode,
            ordered: false,
            sections: BTreeMap::new(),
            publisher: None,
            preprocess: PreprocessOptions { max_pixels: 112 * 112, ..PreprocessOptions::default() },
            seed,
            out: folder.join("packed"),
        })?;
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "\n{name} packed after {seconds:.2} s: samples of {} to {} tokens, median {}; rejects {:?}",
            report.shortest_sample, report.longest_sample, report.median_sample, report.rejects
        );
        let bytes = std::fs::read(report.path_of(&report.manifest))?;
        let reader = PackReader::in_folder(&bytes, &report.folder)?;
        let begun = Instant::now();
        for pack in 0..reader.packs() {
            reader.read(pack)?;
        }
        println!(
            "all packs read in {:.2} s\n{}",
            begun.elapsed().as_secs_f64(),
            inspect::describe_manifest(&DatasetManifest::from_bytes(&bytes)?)
        );
        last = Some(reader);
    }
    if let Some(reader) = last {
        println!("{}", inspect::describe_packs(&reader, &tokenizer, reader.packs())?);
    }

    let mut by_kind: BTreeMap<_, BTreeMap<String, usize>> = BTreeMap::new();
    for question in heldout::load(&drawn.heldout, &drawn.folder)? {
        *by_kind.entry(question.kind).or_default().entry(question.answer).or_default() += 1;
    }
    for (kind, answers) in by_kind {
        println!("{:<7} {answers:?}", kind.map_or("?", |kind| kind.name()));
    }
    Ok(())
}

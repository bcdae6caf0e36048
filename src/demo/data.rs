//! The demo's data: drawn, tokenised, packed.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use talkoot_dataset::{
    FitRules, PackInput, PackOptions, PixelCheck, PreprocessOptions, SynthOptions, build_demo_tokenizer,
    pack_dataset,
};
use talkoot_protocol::{identity::Keypair, manifest::Terms};

/// Entries of the demo's tokenizer.
const VOCABULARY: usize = 512;

/// Small shards, so that members have something to fetch from one another.
const SHARD_BYTES: u64 = 256 << 10;

/// The demo's data on disk.
pub(super) struct Data {
    pub(super) manifests: Vec<PathBuf>,
    pub(super) tokenizer: PathBuf,
    pub(super) pictures: PathBuf,
    pub(super) heldout: PathBuf,
    /// What was made, in a line.
    pub(super) summary: String,
}

/// Draws and packs the data for `terms` below `dir`.
pub(super) fn make(dir: &Path, terms: &Terms, options: &SynthOptions, publisher: &Keypair) -> Result<Data> {
    let drawn = options.write(&dir.join("drawn"))?;
    let tokenizer_bytes = build_demo_tokenizer(&drawn.texts, VOCABULARY)?;
    let tokenizer = dir.join("tokenizer.json");
    std::fs::write(&tokenizer, &tokenizer_bytes)
        .with_context(|| format!("writing {}", tokenizer.display()))?;
    let records = [&drawn.alignment, &drawn.midtraining, &drawn.instruct];
    let mut manifests = Vec::new();
    let (mut packs, mut shards, mut tokens) = (0, 0, 0);
    for (records, stage) in records.into_iter().zip(&terms.stages) {
        let out = dir.join(&stage.name);
        let report = pack_dataset(&PackOptions {
            name: stage.name.clone(),
            input: PackInput::Records { files: vec![records.clone()], pictures: drawn.folder.clone() },
            tokenizer: tokenizer_bytes.clone(),
            fit: FitRules { capacity: stage.sequence_tokens, ..FitRules::default() },
            shard_bytes: SHARD_BYTES,
            preprocess: PreprocessOptions::default(),
            pixels: PixelCheck::Decode,
            ordered: false,
            seed: options.seed,
            sections: BTreeMap::new(),
            publisher: Some(publisher.clone()),
            out: out.clone(),
        })?;
        packs += report.totals.packs;
        shards += report.shards.len();
        tokens += report.totals.tokens;
        manifests.push(out.join(format!("{}.manifest", stage.name)));
    }
    let summary = format!(
        "{} pictures and {} held out; {packs} packs of {tokens} tokens in {shards} shards",
        options.train_pictures, options.heldout_pictures
    );
    Ok(Data { manifests, tokenizer, pictures: drawn.folder, heldout: drawn.heldout, summary })
}

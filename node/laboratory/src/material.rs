//! What experiments learn from: the demo's drawn pictures and questions, packed, in memory.

use std::{collections::BTreeMap, path::PathBuf};

use talkoot_dataset::{
    FitRules, PackInput, PackOptions, PackReader, PixelCheck, PreprocessOptions, SynthOptions, Tokenizer,
    build_demo_tokenizer, pack_dataset,
};
use talkoot_evaluation::exam::Exam;
use talkoot_execution::pack_of;
use talkoot_trainer::batch::Pack;
use tempfile::TempDir;

/// Entries of the tokenizer.
pub(crate) const VOCABULARY: usize = 512;

/// Tokens of a pack at most.
pub(crate) const SEQUENCE_TOKENS: u32 = 256;

/// Packs that losses are measured on.
const HELD_OUT_PACKS: usize = 48;

/// Data, ready to be learnt from.
#[derive(Debug)]
pub struct Material {
    /// Packs to learn from, shuffled.
    pub train: Vec<Pack>,
    /// Packs never learnt from: other pictures.
    pub held_out: Vec<Pack>,
    /// The token that stands for a part of a picture.
    pub image_token: u32,
    /// Questions about pictures never learnt from.
    pub exam: Exam,
    /// Holds the drawn pictures as long as the questions are asked.
    _folder: TempDir,
}

/// Why there is no data.
#[derive(Debug, thiserror::Error)]
#[error("the data of the experiment cannot be made: {doing}: {reason}")]
pub struct MaterialError {
    doing: &'static str,
    reason: String,
}

fn failed<E: std::fmt::Display>(doing: &'static str) -> impl Fn(E) -> MaterialError {
    move |error| MaterialError { doing, reason: error.to_string() }
}

impl Material {
    /// Draws and packs the demo's questions.
    ///
    /// # Errors
    ///
    /// [`MaterialError`] when the temporary folder cannot be written.
    pub fn make(pictures: usize, seed: u64) -> Result<Self, MaterialError> {
        let folder = tempfile::tempdir().map_err(failed("making a temporary folder"))?;
        let options = SynthOptions { seed, train_pictures: pictures, ..SynthOptions::default() };
        let drawn = options.write(&folder.path().join("drawn")).map_err(failed("drawing"))?;
        let tokenizer =
            build_demo_tokenizer(&drawn.texts, VOCABULARY).map_err(failed("building a tokenizer"))?;
        let pack = |name: &str, records: &PathBuf, pictures: &PathBuf| {
            let out = folder.path().join(name);
            let report = pack_dataset(&PackOptions {
                name: name.to_owned(),
                input: PackInput::Records { files: vec![records.clone()], pictures: pictures.clone() },
                tokenizer: tokenizer.clone(),
                fit: FitRules { capacity: SEQUENCE_TOKENS, ..FitRules::default() },
                shard_bytes: 4 << 20,
                preprocess: PreprocessOptions::default(),
                pixels: PixelCheck::Decode,
                ordered: false,
                seed,
                sections: BTreeMap::new(),
                publisher: None,
                out,
            })
            .map_err(failed("packing"))?;
            let manifest = std::fs::read(report.path_of(&report.manifest)).map_err(failed("reading"))?;
            let reader = PackReader::in_folder(&manifest, &report.folder).map_err(failed("reading"))?;
            let packs = reader.index().totals.packs;
            (0..packs)
                .map(|number| reader.read(number).map(pack_of).map_err(failed("reading a pack")))
                .collect::<Result<Vec<_>, _>>()
        };
        let train = pack("train", &drawn.instruct, &drawn.folder)?;
        let other = SynthOptions {
            seed: seed.wrapping_add(0x5eed),
            train_pictures: HELD_OUT_PACKS * 8,
            ..SynthOptions::default()
        };
        let other = other.write(&folder.path().join("held-out")).map_err(failed("drawing"))?;
        let mut held_out = pack("held-out-packs", &other.instruct, &other.folder)?;
        held_out.truncate(HELD_OUT_PACKS);
        let image_token = Tokenizer::from_bytes(&tokenizer)
            .map_err(failed("reading the tokenizer"))?
            .special_ids()
            .image_pad;
        let exam =
            Exam::load(&drawn.heldout, &drawn.folder, &tokenizer).map_err(failed("reading questions"))?;
        Ok(Self { train, held_out, image_token, exam, _folder: folder })
    }
}

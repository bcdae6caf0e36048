//! `talkoot bench read`

use std::{path::PathBuf, process::ExitCode, time::Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::json;
use talkoot_dataset::{
    AheadOptions, FitRules, PackOptions, PackReader, PixelCheck, PreprocessOptions, ReadAhead, Rgb,
    pack_dataset,
};
use talkoot_trainer::{batch::Image, config::ModelConfig, patches::Picture, presets};

use super::{corpus, emit, peer};

/// Reads shards beside Pillow and numpy, on one core; then ahead, on several.
#[derive(Debug, Args)]
pub(crate) struct Read {
    /// Pictures to read.
    #[arg(long, default_value_t = 300)]
    pictures: usize,
    /// A folder with pictures of yours instead of made ones.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Most tokens of a pack.
    #[arg(long, default_value_t = FitRules::default().capacity)]
    capacity: u32,
    /// A Python with Pillow and numpy, for the peer; several are measured one after another.
    #[arg(long, value_name = "PYTHON", value_delimiter = ',')]
    python: Vec<PathBuf>,
    /// One JSON object a line; it is the only form.
    #[arg(long)]
    json: bool,
}

/// Seconds that each part of the work took.
#[derive(Debug, Default)]
struct Spent {
    decode: f64,
    resize: f64,
    patches: f64,
}

impl Spent {
    fn total(&self) -> f64 {
        self.decode + self.resize + self.patches
    }
}

impl Read {
    pub(super) fn run(self) -> Result<ExitCode> {
        let folder = tempfile::tempdir().context("making a folder for scratch")?;
        let corpus = corpus::make(folder.path(), self.pictures, self.folder.as_deref())?;
        let report = pack_dataset(&PackOptions {
            name: "read".into(),
            input: corpus.input.clone(),
            tokenizer: corpus.tokenizer.clone(),
            fit: FitRules { capacity: self.capacity, ..FitRules::default() },
            shard_bytes: 64 << 20,
            preprocess: PreprocessOptions::default(),
            pixels: PixelCheck::Head,
            ordered: false,
            seed: 1,
            sections: Default::default(),
            publisher: None,
            out: folder.path().join("packed"),
        })?;
        let manifest = std::fs::read(report.path_of(&report.manifest))?;
        let open = || PackReader::in_folder(&manifest, &report.folder);
        let config = presets::demo_model(report.vocab_size);
        let reader = open()?;
        // Once for the page cache and the shards' hashes: what is compared is the work on pictures.
        let whole = whole(&reader, &config)?;
        let spent = parts(&reader, &config)?;
        let pictures = report.totals.images;
        for python in &self.python {
            let told = peer::run(python, "read.py", &[&corpus.pictures])?;
            let peer = peer::number(&told, "seconds")?;
            ensure!(
                peer::number(&told, "pictures")? as u64 == pictures,
                "the peer read another number of pictures"
            );
            emit(&json!({
                "bench": "read_peer",
                "peer": told["versions"],
                "seconds": peer,
                "decode_seconds": told["decode_seconds"],
                "resize_seconds": told["resize_seconds"],
                "patch_seconds": told["patch_seconds"],
                "pictures_per_second": pictures as f64 / peer,
                "times_peer": peer / spent.total(),
            }))?;
        }
        emit(&json!({
            "bench": "read",
            "threads": 1,
            "pictures": pictures,
            "picture_bytes": corpus.bytes,
            "packs": report.totals.packs,
            "seconds": spent.total(),
            "decode_seconds": spent.decode,
            "resize_seconds": spent.resize,
            "patch_seconds": spent.patches,
            "pictures_per_second": pictures as f64 / spent.total(),
            "whole_seconds": whole,
        }))?;
        self.ahead(open()?)?;
        Ok(ExitCode::SUCCESS)
    }

    /// How fast packs come when they are read ahead.
    fn ahead(&self, reader: PackReader) -> Result<()> {
        let options = AheadOptions { threads: rayon::current_num_threads(), ..AheadOptions::default() };
        let packs: Vec<u64> = (0..reader.packs()).collect();
        let source = ReadAhead::new(reader, options);
        let start = Instant::now();
        source.plan(&packs);
        for &pack in &packs {
            source.take(pack)?;
        }
        let seconds = start.elapsed().as_secs_f64();
        emit(&json!({
            "bench": "read_ahead",
            "threads": options.threads,
            "packs": packs.len(),
            "seconds": seconds,
            "packs_per_second": packs.len() as f64 / seconds,
        }))
    }
}

/// Seconds from shards to patches, all that a trainer waits for.
fn whole(reader: &PackReader, config: &ModelConfig) -> Result<f64> {
    for pack in 0..reader.packs() {
        reader.read(pack)?;
    }
    let start = Instant::now();
    for pack in 0..reader.packs() {
        for picture in reader.read(pack)?.images {
            std::hint::black_box(cut(picture, config));
        }
    }
    Ok(start.elapsed().as_secs_f64())
}

/// Seconds of each part of the work on the pictures.
fn parts(reader: &PackReader, config: &ModelConfig) -> Result<Spent> {
    let preprocess = PreprocessOptions::default();
    let mut spent = Spent::default();
    for pack in 0..reader.packs() {
        let files = reader.with_parts(pack, |parts| {
            Ok(parts.pictures.iter().map(|bytes| bytes.to_vec()).collect::<Vec<_>>())
        })?;
        for bytes in files {
            let start = Instant::now();
            let decoded = talkoot_dataset::preprocess::decode::decode_bytes(
                &bytes,
                "a picture".as_ref(),
                &preprocess.limits,
            )?;
            let after_decode = Instant::now();
            let resized = preprocess.fit(&decoded)?;
            let after_resize = Instant::now();
            std::hint::black_box(cut(resized, config));
            spent.decode += (after_decode - start).as_secs_f64();
            spent.resize += (after_resize - after_decode).as_secs_f64();
            spent.patches += after_resize.elapsed().as_secs_f64();
        }
    }
    Ok(spent)
}

fn cut(picture: Rgb, config: &ModelConfig) -> Picture {
    let image = Image { width: picture.width, height: picture.height, rgb: picture.rgb };
    Picture::new(&image, &config.vision)
}

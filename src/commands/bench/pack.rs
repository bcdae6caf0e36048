//! `talkoot bench pack`

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::json;
use talkoot_dataset::{
    FitRules, PackOptions, PixelCheck, PreprocessOptions,
    pack::{Part, Spread, Step, deal, fit, pack_step},
};

use super::{corpus, emit, forget_peak, lengths, peak_bytes, peer};

/// Packs drawn lengths; measures pictures beside Pillow and numpy; writes shards beside a plain copy.
#[derive(Debug, Args)]
pub(crate) struct Pack {
    /// Numbers of lengths to pack, each on one core.
    #[arg(long, value_delimiter = ',', default_value = "100000,5000000")]
    samples: Vec<usize>,
    /// Most tokens of a pack.
    #[arg(long, default_value_t = FitRules::default().capacity)]
    capacity: u32,
    /// Most samples of a pack.
    #[arg(long, default_value_t = FitRules::default().max_segments)]
    max_segments: u32,
    /// From how many tokens on samples are spread by attention cost; several are tried one after another.
    #[arg(long, value_delimiter = ',', default_value = "0,1024")]
    balance: Vec<u32>,
    /// Sets the lengths.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Pictures to measure and to write; 0 leaves this out.
    #[arg(long, default_value_t = 600)]
    pictures: usize,
    /// A folder with pictures of yours instead of made ones.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// A Python with Pillow and numpy, for the peer.
    #[arg(long, value_name = "PYTHON")]
    python: Option<PathBuf>,
    /// One JSON object a line; it is the only form.
    #[arg(long)]
    json: bool,
}

impl Pack {
    pub(super) fn run(self) -> Result<ExitCode> {
        for &samples in &self.samples {
            for &balance in &self.balance {
                self.pack(samples, balance)?;
            }
        }
        if self.pictures > 0 {
            self.shards()?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Lengths to packs, with nothing else in memory.
    fn pack(&self, samples: usize, balance: u32) -> Result<()> {
        let rules = FitRules { capacity: self.capacity, max_segments: self.max_segments, balance };
        forget_peak();
        let lengths: Vec<u32> =
            lengths::draw(samples, self.seed).into_iter().map(|length| length.min(self.capacity)).collect();
        let start = Instant::now();
        let mut counts = vec![0; self.capacity as usize + 1];
        lengths.iter().for_each(|&length| counts[length as usize] += 1);
        let kinds = fit(&counts, rules);
        let fitted = start.elapsed();
        let dealt = deal(samples, |at| lengths[at], &kinds, self.seed);
        let seconds = start.elapsed().as_secs_f64();
        let peak = peak_bytes();

        // Within the rules, each sample once: checked, not timed.
        let mut seen = vec![false; samples];
        let (mut tokens, mut last) = (0, 0);
        for pack in dealt.packs() {
            last = pack.iter().map(|&at| u64::from(lengths[at as usize])).sum();
            ensure!(
                last <= u64::from(self.capacity) && pack.len() <= self.max_segments as usize,
                "a pack breaks the rules"
            );
            for &at in pack {
                ensure!(!std::mem::replace(&mut seen[at as usize], true), "sample {at} is packed twice");
            }
            tokens += last;
        }
        ensure!(seen.iter().all(|&seen| seen), "a sample is lost");
        let spread = Spread::of(&kinds);
        emit(&json!({
            "bench": "pack",
            "samples": samples,
            "capacity": self.capacity,
            "balance": balance,
            "packs": dealt.len(),
            "fill": tokens as f64 / (dealt.len() as f64 * f64::from(self.capacity)),
            "samples_per_pack": samples as f64 / dealt.len() as f64,
            "max_segments": spread.max_segments,
            "cost_deviation": spread.cost_deviation,
            "last_pack_fill": last as f64 / f64::from(self.capacity),
            "seconds": seconds,
            "fit_seconds": fitted.as_secs_f64(),
            "peak_bytes": peak,
        }))
    }

    /// Pictures to measured samples to shards.
    fn shards(&self) -> Result<()> {
        let folder = tempfile::tempdir().context("making a folder for scratch")?;
        let corpus = corpus::make(folder.path(), self.pictures, self.folder.as_deref())?;
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
        let peer = self
            .python
            .as_deref()
            .map(|python| peer::run(python, "measure.py", &[&corpus.pictures]))
            .transpose()?;
        for pixels in [PixelCheck::Head, PixelCheck::Decode] {
            let options = self.options(&corpus, pixels, folder.path());
            let start = Instant::now();
            one.install(|| pack_step(&options, Step::Measure(Part::WHOLE), true, &()))?;
            let seconds = start.elapsed().as_secs_f64();
            let samples = samples_of(&corpus)?;
            let per_second = samples as f64 / seconds;
            let peer_per_second =
                peer.as_ref().map(|told| peer::number(told, "samples_per_second")).transpose()?;
            emit(&json!({
                "bench": "measure",
                "pixels": pixels,
                "threads": 1,
                "samples": samples,
                "picture_bytes": corpus.bytes,
                "seconds": seconds,
                "samples_per_second": per_second,
                "peer_samples_per_second": peer_per_second,
                "times_peer": peer_per_second.map(|peer| per_second / peer),
                "peer": peer.as_ref().map(|told| &told["versions"]),
            }))?;
        }
        self.write(&corpus, folder.path())
    }

    fn write(&self, corpus: &corpus::Corpus, folder: &Path) -> Result<()> {
        let copy_seconds = copy(&corpus.pictures, &folder.join("copied"))?;
        let options = self.options(corpus, PixelCheck::Head, folder);
        pack_step(&options, Step::Plan, true, &())?;
        let start = Instant::now();
        pack_step(&options, Step::Write(Part::WHOLE), true, &())?;
        let seconds = start.elapsed().as_secs_f64();
        let report = pack_step(&options, Step::Finish, true, &())?.context("the report")?;
        let bytes: u64 = report.shards.iter().map(|shard| shard.bytes).sum();
        emit(&json!({
            "bench": "write",
            "threads": rayon::current_num_threads(),
            "shards": report.shards.len(),
            "packs": report.totals.packs,
            "picture_bytes": corpus.bytes,
            "shard_bytes": bytes,
            "seconds": seconds,
            "bytes_per_second": bytes as f64 / seconds,
            "copy_seconds": copy_seconds,
            "times_copy": seconds / copy_seconds,
        }))
    }

    fn options(&self, corpus: &corpus::Corpus, pixels: PixelCheck, folder: &Path) -> PackOptions {
        PackOptions {
            name: match pixels {
                PixelCheck::Head => "head".into(),
                PixelCheck::Decode => "decode".into(),
            },
            input: corpus.input.clone(),
            tokenizer: corpus.tokenizer.clone(),
            fit: FitRules { capacity: self.capacity, max_segments: self.max_segments, balance: 0 },
            shard_bytes: 256 << 20,
            preprocess: PreprocessOptions::default(),
            pixels,
            ordered: false,
            seed: self.seed,
            sections: Default::default(),
            publisher: None,
            out: folder.join("packed"),
        }
    }
}

fn samples_of(corpus: &corpus::Corpus) -> Result<usize> {
    let talkoot_dataset::PackInput::Records { files, .. } = &corpus.input else { return Ok(0) };
    Ok(std::fs::read_to_string(&files[0])?.lines().count())
}

/// Copies all pictures into one file and makes it durable: the least that writing shards can be.
fn copy(pictures: &Path, to: &Path) -> Result<f64> {
    let start = Instant::now();
    let mut out = BufWriter::with_capacity(1 << 20, File::create(to)?);
    let mut names: Vec<PathBuf> =
        std::fs::read_dir(pictures)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    names.sort();
    for name in names {
        out.write_all(&std::fs::read(name)?)?;
    }
    out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
    Ok(start.elapsed().as_secs_f64())
}

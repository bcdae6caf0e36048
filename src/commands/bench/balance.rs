//! `talkoot bench balance`

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
use talkoot_balance::{
    concepts::Concepts,
    config::{Amount, WeightRules},
    draw::{Limit, Lot, Lots, shares},
    embedding::{EmbeddingWriter, make_unit},
    search::{Rules, Search, Tag},
    weight::Weights,
    words::Phrases,
};
use talkoot_dataset::{Sample, SampleId, chat::Message, sample::Origin};
use talkoot_trainer::cpu::Cpu;

use super::{corpus, emit, forget_peak, peak_bytes, peer};

/// Searches concepts for rows, finds concepts in texts, draws; the search beside numpy and faiss.
#[derive(Debug, Args)]
pub(crate) struct Balance {
    /// Samples to search for; 0 leaves this out.
    #[arg(long, default_value_t = 4_096)]
    samples: usize,
    /// Concepts to search in.
    #[arg(long, default_value_t = 100_000)]
    concepts: usize,
    /// Numbers of a row.
    #[arg(long, default_value_t = 1_024)]
    width: usize,
    /// Concepts of a sample.
    #[arg(long, default_value_t = 10)]
    most: usize,
    /// Texts to find concepts in; 0 leaves this out.
    #[arg(long, default_value_t = 20_000)]
    texts: usize,
    /// Samples to draw from; 0 leaves this out.
    #[arg(long, default_value_t = 5_000_000)]
    draw: u64,
    /// A Python with numpy, and faiss where there is one, for the peers.
    #[arg(long, value_name = "PYTHON")]
    python: Option<PathBuf>,
    /// Print one object a line. Nothing else is printed without it, either.
    #[arg(long)]
    json: bool,
}

/// Samples that are mapped, in pieces of this size.
const PIECE: u64 = 1 << 16;

impl Balance {
    pub(super) fn run(self) -> Result<ExitCode> {
        if self.samples > 0 {
            self.search()?;
        }
        if self.texts > 0 {
            self.find()?;
        }
        if self.draw > 0 {
            self.draw()?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Exact search; the peers get the same rows from files, and have to find the same concepts.
    fn search(&self) -> Result<()> {
        forget_peak();
        let (samples, concepts) = (self.rows(self.samples, 1), self.rows(self.concepts, 2));
        let search = Search::new(Cpu::default(), &concepts, self.width);
        let rules = Rules { most: self.most, least_score: -1.0 };
        let start = Instant::now();
        let found = search.best(&samples, rules);
        let seconds = start.elapsed().as_secs_f64();
        let products = 2.0 * self.samples as f64 * self.concepts as f64 * self.width as f64;
        let threads = rayon::current_num_threads();
        emit(&json!({
            "bench": "balance", "of": "search", "samples": self.samples, "concepts": self.concepts,
            "width": self.width, "most": self.most, "threads": threads, "seconds": seconds,
            "samples_per_second": self.samples as f64 / seconds, "gflops": products / seconds / 1e9,
            "peak_bytes": peak_bytes(),
        }))?;
        drop(search);
        match &self.python {
            Some(python) => self.peers(python, &samples, &concepts, &found, seconds),
            None => Ok(()),
        }
    }

    fn peers(
        &self,
        python: &Path,
        samples: &[f32],
        concepts: &[f32],
        found: &[Tag],
        seconds: f64,
    ) -> Result<()> {
        let folder = tempfile::tempdir().context("making a folder for scratch")?;
        let path = |name: &str| folder.path().join(name);
        for (name, rows) in [("samples.npy", samples), ("concepts.npy", concepts)] {
            let count = (rows.len() / self.width) as u64;
            let mut writer = EmbeddingWriter::create(&path(name), count, self.width, false)?;
            writer.write(rows, &[])?;
            writer.finish()?;
        }
        let mut file = BufWriter::new(File::create(path("found.bin"))?);
        found.iter().try_for_each(|tag| file.write_all(&tag.concept.to_le_bytes()))?;
        file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        let threads = rayon::current_num_threads();
        let most = self.most.to_string();
        let told = peer::run_on(python, "search.py", &[folder.path(), Path::new(&most)], threads)?;
        for peer in told["peers"].as_array().context("the peer tells no peers")? {
            let theirs = peer::number(peer, "seconds")?;
            let differing = peer::number(peer, "differing")?;
            ensure!(differing == 0.0, "{differing} samples have other concepts than {} finds", peer["peer"]);
            emit(&json!({
                "bench": "balance", "of": "search", "peer": peer["peer"], "versions": told["versions"],
                "samples": self.samples, "concepts": self.concepts, "width": self.width, "most": self.most,
                "threads": threads, "seconds": theirs, "ours_seconds": seconds,
                "times_peer": theirs / seconds,
            }))?;
        }
        if let Some(missing) = told["missing"].as_array().filter(|missing| !missing.is_empty()) {
            emit(&json!({"bench": "balance", "of": "search", "peers_missing": missing}))?;
        }
        Ok(())
    }

    /// Concepts in texts, on one thread.
    fn find(&self) -> Result<()> {
        let words = |number: usize| {
            let text = corpus::caption(number as u64);
            let words: Vec<&str> = text.split(' ').skip(number % 50).take(1 + number % 3).collect();
            words.join(" ")
        };
        let mut names: Vec<String> = (0..self.concepts).map(words).collect();
        names.sort();
        names.dedup();
        let phrases = Phrases::new(&Concepts::new(names.clone()));
        let samples: Vec<Sample> = (0..self.texts as u64).map(text_sample).collect();
        let rules = Rules { most: self.most, least_score: 0.0 };
        let mut tags = vec![Tag::NONE; self.most];
        let (mut found, start) = (0u64, Instant::now());
        for sample in &samples {
            phrases.find(sample, rules, &mut tags);
            found += tags.iter().filter(|tag| tag.is_some()).count() as u64;
        }
        let seconds = start.elapsed().as_secs_f64();
        emit(&json!({
            "bench": "balance", "of": "texts", "samples": samples.len(), "concepts": names.len(), "found": found,
            "threads": 1, "seconds": seconds, "samples_per_second": samples.len() as f64 / seconds,
        }))
    }

    /// The draw alone, from tags that are made as they are asked for.
    fn draw(&self) -> Result<()> {
        forget_peak();
        let mapped = Mapped::new(self.draw, self.concepts as u32, self.most);
        let start = Instant::now();
        let Ok(shares) = shares(&mapped, &[Amount::Share(0.5)]);
        let seconds = start.elapsed().as_secs_f64();
        let share = shares[0];
        ensure!(matches!(share.limit, Limit::UpTo(_)), "half of the samples are drawn");
        emit(&json!({
            "bench": "balance", "of": "draw", "samples": self.draw, "wanted": share.wanted,
            "threads": rayon::current_num_threads(), "seconds": seconds,
            "samples_per_second": self.draw as f64 / seconds, "peak_bytes": peak_bytes(),
        }))
    }

    fn rows(&self, count: usize, seed: u64) -> Vec<f32> {
        let number = |at: u64| (corpus::scramble(seed << 48 | at) >> 40) as f32 / (1 << 23) as f32 - 1.0;
        let mut rows: Vec<f32> = (0..(count * self.width) as u64).map(number).collect();
        // Random numbers are neither all zero nor infinite.
        let made = make_unit(&mut rows, self.width);
        debug_assert!(made.is_ok());
        rows
    }
}

/// Samples whose concepts are as uneven as those of words: the one of rank `r` is found about `1 / r` times as often.
struct Mapped {
    samples: u64,
    concepts: u32,
    most: usize,
    weights: Weights,
}

impl Mapped {
    fn new(samples: u64, concepts: u32, most: usize) -> Self {
        let expected = |rank: u32| samples * most as u64 / u64::from(rank + 1) / 16 + 1;
        let counts: Vec<u64> = (0..concepts).map(expected).collect();
        Self { samples, concepts, most, weights: Weights::new(&counts, 1, &WeightRules::default()) }
    }
}

impl Lots for Mapped {
    type Error = std::convert::Infallible;

    fn pieces(&self) -> usize {
        self.samples.div_ceil(PIECE) as usize
    }

    fn each(&self, piece: usize, take: &mut dyn FnMut(usize, &Lot)) -> Result<(), Self::Error> {
        let mut tags = vec![Tag::NONE; self.most];
        let first = piece as u64 * PIECE;
        for number in first..(first + PIECE).min(self.samples) {
            for (tag, at) in tags.iter_mut().zip(0..) {
                let word = corpus::scramble(number * 64 + at);
                // As many in each doubling of the rank.
                let doubling = (word >> 40) as u32 % self.concepts.ilog2().max(1);
                let rank = (1u32 << doubling) + (word as u32 & ((1 << doubling) - 1)) - 1;
                *tag = Tag { concept: rank, score: 0.5 };
            }
            let mut id = [0; 16];
            id[..8].copy_from_slice(&corpus::scramble(number).to_le_bytes());
            let weight = self.weights.of(&tags);
            take(0, &Lot::new(SampleId::from_bytes(id), number, weight, 1, 0));
        }
        Ok(())
    }
}

fn text_sample(number: u64) -> Sample {
    let origin =
        Origin { source: "bench".into(), file: "made".into(), record: number, id: None, licence: None };
    let turns = vec![Message::user("Describe the picture."), Message::assistant(corpus::caption(number))];
    Sample::new(origin, turns, Vec::new())
}

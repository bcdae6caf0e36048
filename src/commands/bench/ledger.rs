//! `talkoot bench ledger`

use std::{path::PathBuf, process::ExitCode, time::Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::json;
use talkoot_ledger::{Folder, Log, VerifierKey, reader};

use super::{emit, forget_peak, peak_bytes};

const ORIGIN: &str = "bench.invalid/ledger";
const SEED: [u8; 32] = [1; 32];

/// Entries a second that are on the disk under a signed checkpoint; then a large log: opening, proofs, a whole replay.
#[derive(Debug, Args)]
pub(crate) struct Ledger {
    /// Entries under one checkpoint; several are measured one after another, each in a log of its own.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64,256,1024")]
    batches: Vec<usize>,
    /// Seconds for each size of batch.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Bytes of an entry; a member's statement has about so many.
    #[arg(long, default_value_t = 420)]
    entry_bytes: usize,
    /// Entries of the large log; 0 leaves it out.
    #[arg(long, default_value_t = 1_000_000)]
    large: u64,
    /// Entries under one checkpoint of the large log.
    #[arg(long, default_value_t = 65_536)]
    large_batch: u64,
    /// Proofs of each kind to make and check.
    #[arg(long, default_value_t = 1_000)]
    proofs: u64,
    /// A folder on the disk to measure; the system's folder for scratch when left out.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// One JSON object a line; it is the only form.
    #[arg(long)]
    json: bool,
}

impl Ledger {
    pub(super) fn run(self) -> Result<ExitCode> {
        ensure!(self.entry_bytes >= 8, "an entry needs 8 bytes for its number");
        for &batch in &self.batches {
            self.append(batch)?;
        }
        if self.large > 0 {
            self.large()?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn scratch(&self) -> Result<tempfile::TempDir> {
        match &self.dir {
            Some(dir) => tempfile::tempdir_in(dir),
            None => tempfile::tempdir(),
        }
        .context("making a folder for scratch")
    }

    /// Entry `index`: its number, and bytes that follow from it.
    fn entry(&self, index: u64) -> Vec<u8> {
        let word = index.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
        let mut entry = index.to_be_bytes().to_vec();
        entry.extend(word.iter().cycle().take(self.entry_bytes - entry.len()));
        entry
    }

    fn batch(&self, from: u64, to: u64) -> Vec<Vec<u8>> {
        (from..to).map(|index| self.entry(index)).collect()
    }

    /// A coordinator's work: batch after batch, each acknowledged when it is durable and published.
    fn append(&self, batch: usize) -> Result<()> {
        let home = self.scratch()?;
        let mut log = Log::create(home.path(), ORIGIN, &SEED)?;
        let (mut appends, mut slowest) = (0_u64, 0.0_f64);
        let started = Instant::now();
        while started.elapsed().as_secs_f64() < self.seconds {
            let entries = self.batch(log.size(), log.size() + batch as u64);
            let before = Instant::now();
            log.append(&entries)?;
            slowest = slowest.max(before.elapsed().as_secs_f64());
            appends += 1;
        }
        let seconds = started.elapsed().as_secs_f64();
        emit(&json!({
            "bench": "ledger", "part": "append", "batch": batch, "entry_bytes": self.entry_bytes,
            "entries": log.size(), "seconds": seconds, "entries_per_s": log.size() as f64 / seconds,
            "ms_per_append": seconds * 1e3 / appends as f64, "ms_slowest_append": slowest * 1e3,
        }))
    }

    fn large(&self) -> Result<()> {
        let home = self.scratch()?;
        let mut log = Log::create(home.path(), ORIGIN, &SEED)?;
        let vkey = log.vkey();
        forget_peak();
        let started = Instant::now();
        while log.size() < self.large {
            let to = self.large.min(log.size() + self.large_batch);
            log.append(&self.batch(log.size(), to))?;
        }
        self.report("build", started, json!({ "batch": self.large_batch }))?;
        drop(log);

        forget_peak();
        let started = Instant::now();
        drop(Log::open(home.path(), &SEED)?);
        self.report("open", started, json!({}))?;

        let folder = Folder::new(home.path());
        forget_peak();
        let started = Instant::now();
        let mut seen = 0_u64;
        reader::replay(&folder, &vkey, |_, entry| seen += u64::from(entry.len() == self.entry_bytes))?;
        ensure!(seen == self.large, "{seen} entries came back");
        self.report("replay", started, json!({}))?;
        self.proofs(&folder, &vkey)
    }

    fn proofs(&self, folder: &Folder, vkey: &VerifierKey) -> Result<()> {
        let checkpoint = reader::current(folder, vkey)?.checkpoint;
        // spread over the whole log, the same in every run
        let place = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % self.large;
        for part in ["inclusion", "consistency"] {
            forget_peak();
            let (started, mut hashes) = (Instant::now(), 0);
            for n in 0..self.proofs {
                // what the reader returns it has checked against the signed root
                hashes += match part {
                    "inclusion" => reader::inclusion_proof(folder, &checkpoint, place(n))?.len(),
                    _ => reader::consistency_proof(folder, &checkpoint, place(n) + 1)?.len(),
                };
            }
            let microseconds = started.elapsed().as_secs_f64() * 1e6 / self.proofs.max(1) as f64;
            let more = json!({ "proofs": self.proofs, "us_per_proof": microseconds, "hashes": hashes });
            self.report(part, started, more)?;
        }
        Ok(())
    }

    fn report(&self, part: &str, started: Instant, more: serde_json::Value) -> Result<()> {
        let seconds = started.elapsed().as_secs_f64();
        let mut line = json!({
            "bench": "ledger", "part": part, "entries": self.large, "entry_bytes": self.entry_bytes,
            "seconds": seconds, "entries_per_s": self.large as f64 / seconds, "peak_bytes": peak_bytes(),
        });
        if let (Some(line), serde_json::Value::Object(more)) = (line.as_object_mut(), more) {
            line.extend(more);
        }
        emit(&line)
    }
}

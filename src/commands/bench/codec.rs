//! `talkoot bench codec`

use std::{
    cell::Cell,
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;
use talkoot_trainer::{
    contribution::CodecSettings,
    measure::codec::{Phase, Source, codec},
};

use super::{emit, forget_peak, peak_bytes, peer};

/// Size and speed of contributions, on a thread unless told otherwise; PyTorch's top-k on the same values beside it.
#[derive(Debug, Args)]
pub(crate) struct Codec {
    /// Millions (2^20) of parameters.
    #[arg(long, value_name = "N", default_value_t = 16)]
    millions: usize,
    /// Entries kept of every chunk, several with commas.
    #[arg(long, value_delimiter = ',', value_name = "K", default_value = "64")]
    k: Vec<u32>,
    /// Parameters that are compressed together.
    #[arg(long, value_name = "N", default_value_t = 4096)]
    chunk: u32,
    /// Bits of a kept value: 1, 2, 4, 8, several with commas.
    #[arg(long, value_delimiter = ',', value_name = "BITS", default_value = "2")]
    bits: Vec<u8>,
    /// Contributions that the outer step combines.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=256))]
    members: u64,
    /// Rounds; medians count.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1000))]
    rounds: u64,
    /// A Python with torch and numpy, for the peer.
    #[arg(long, value_name = "PYTHON")]
    python: Option<PathBuf>,
    /// Print one object a line. Nothing else is printed without it, either.
    #[arg(long)]
    json: bool,
}

impl Codec {
    pub(super) fn run(self, threads: usize) -> Result<ExitCode> {
        let parameters = self.millions << 20;
        // The one pool of this process; where threads were asked for, it has them already.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
        for &bits in &self.bits {
            for &k in &self.k {
                let settings = CodecSettings { chunk: self.chunk, k, bits, error_feedback: 0.95 };
                let (members, rounds) = (self.members as usize, self.rounds as usize);
                let encoded = Cell::new(None);
                let mark = |phase| {
                    if phase == Phase::Combining {
                        encoded.set(peak_bytes());
                    }
                    forget_peak();
                };
                let figures = codec(&settings, parameters, members, rounds, mark)?;
                let mut line = serde_json::to_value(&figures)?;
                line["encode_peak_bytes"] = json!(encoded.get());
                line["decode_peak_bytes"] = json!(peak_bytes());
                if let Some(python) = &self.python {
                    let told = self.peer(python, parameters, k, threads)?;
                    let (topk, whole) = (peer::number(&told, "topk_s")?, peer::number(&told, "compress_s")?);
                    line["peer"] = told;
                    line["peer_topk_over_encode"] = json!(topk / figures.encode_s);
                    line["peer_compress_over_encode"] = json!(whole / figures.encode_s);
                }
                emit(&line)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// PyTorch on the values that ours were measured on.
    fn peer(&self, python: &Path, parameters: usize, k: u32, threads: usize) -> Result<serde_json::Value> {
        let folder = tempfile::tempdir().context("making a temporary folder")?;
        let path = folder.path().join("delta.f32");
        let mut file = BufWriter::new(File::create(&path)?);
        for value in Source::Gaussian.values(1, parameters) {
            file.write_all(&value.to_le_bytes())?;
        }
        file.flush()?;
        let (chunk, k, rounds) = (self.chunk.to_string(), k.to_string(), self.rounds.to_string());
        let arguments = [path.as_path(), Path::new(&chunk), Path::new(&k), Path::new(&rounds)];
        peer::run_on(python, "topk.py", &arguments, threads)
    }
}

//! `talkoot bench`

mod balance;
mod bits;
mod codec;
mod corpus;
mod cpu;
mod device;
mod filter;
mod ledger;
mod lengths;
mod pack;
mod peer;
mod read;
mod step;
mod swarm;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use serde::Serialize;

use super::say;

pub(super) use self::cpu::CpuChoice;

/// Measures this machine; `--json` prints one object a line.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Whether this machine computes the same bits as all others: two hashes of a short training.
    Bits(bits::Bits),
    /// Whether a GPU's kernels have the bits of the processor, operation by operation.
    Device(device::Device),
    /// Seconds and memory of one training step.
    Step(step::Step),
    /// Contributions: their size, encoding, and the outer step over them.
    Codec(codec::Codec),
    /// Packing, measuring and writing shards.
    Pack(pack::Pack),
    /// Filtering: looking at samples, comparing their prints.
    Filter(filter::Filter),
    /// Balancing: exact search for concepts, words in texts, the draw.
    Balance(balance::Balance),
    /// The ledger: durable entries a second, proofs, a whole replay.
    Ledger(ledger::Ledger),
    /// Reading shards: decode, resize, cut into patches.
    Read(read::Read),
    /// The blob swarm beside plain TCP and plain QUIC: over loopback, over emulated lines.
    Swarm(swarm::Swarm),
}

impl Bench {
    pub(crate) fn run(self, threads: Option<usize>) -> Result<ExitCode> {
        match self {
            Self::Bits(bits) => bits.run(),
            Self::Device(device) => device.run(),
            Self::Step(step) => step.run(),
            // One, unless told otherwise: that is what a core does.
            Self::Codec(codec) => codec.run(threads.unwrap_or(1)),
            Self::Pack(pack) => pack.run(),
            Self::Filter(filter) => filter.run(),
            Self::Balance(balance) => balance.run(),
            Self::Ledger(ledger) => ledger.run(),
            Self::Read(read) => read.run(),
            Self::Swarm(swarm) => swarm.run(),
        }
    }
}

/// One line of JSON.
fn emit(line: &impl Serialize) -> Result<()> {
    say(&serde_json::to_string(line)?);
    Ok(())
}

/// Most memory that this process has had, in bytes, since [`forget_peak`]; nothing where the system does not tell.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Lets the peak begin anew, where the system can.
fn forget_peak() {
    // What it cannot forget makes the peak larger, never smaller.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

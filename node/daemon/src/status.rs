//! What a node says about itself, as a file that a page, a script or a person can read.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};

/// What a node says about itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The member's id.
    pub member: String,
    /// What it is doing, in words.
    pub doing: String,
    /// What trains, and in which arithmetic.
    #[serde(default)]
    pub trains_on: String,
    /// Round that it last took part in.
    pub round: Option<u64>,
    /// Name of the stage.
    pub stage: String,
    /// Inner steps done in this round.
    pub step: u32,
    /// Inner steps of its seat in this round.
    pub steps: u32,
    /// Loss of the last inner step, in nats per token.
    pub loss: Option<f32>,
    /// Commits that were accepted.
    pub commits: u64,
    /// Commits that missed their seal and were kept for a later round.
    #[serde(default)]
    pub late: u64,
    /// How others can reach it: unknown, public, private.
    #[serde(default)]
    pub reachability: String,
    /// Members that are connected.
    #[serde(default)]
    pub peers: usize,
    /// Relays that others can meet it through.
    #[serde(default)]
    pub relays: usize,
    /// Members whose bulk planes are reached through a hole in a router.
    #[serde(default)]
    pub punched: usize,
    /// Members that there is no direct way to; seeders pass on what they have.
    #[serde(default)]
    pub unreachable: usize,
    /// Why the log may not be what it seems: it stands still, or is kept back from us.
    #[serde(default)]
    pub alarm: Option<String>,
    /// The state that it holds.
    pub state: String,
    /// Traffic of every round so far.
    pub rounds: Vec<RoundTraffic>,
}

/// Traffic of one round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundTraffic {
    /// Number of the round.
    pub round: u64,
    /// Bytes sent, both planes.
    pub sent_bytes: u64,
    /// Bytes received, both planes.
    pub received_bytes: u64,
    /// Length of the node's own contribution in bytes.
    pub contribution_bytes: u64,
}

impl Status {
    /// Writes the file so that a reader sees the old or the new one.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let temporary = path.with_extension("json.tmp");
        fs::write(&temporary, serde_json::to_vec_pretty(self)?)?;
        fs::rename(&temporary, path)
    }

    /// Reads the file.
    ///
    /// # Errors
    ///
    /// What the system says, or that it is no status.
    pub fn read(path: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&fs::read(path)?)?)
    }
}

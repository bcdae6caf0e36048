//! A round among emulated members: everybody's contribution goes to everybody.

use std::{
    net::SocketAddr,
    process::Command,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    Access, LabError, World,
    crew::Hand,
    flows::Program,
    member::{Flow, Order},
};

/// The port on which everybody listens, in a namespace of their own.
const PORT: u16 = 4000;

/// Who takes part, and how they are connected.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct WanShape {
    /// Members at home.
    pub members: usize,
    /// Seeders beside them.
    pub seeders: usize,
    /// Length of each contribution.
    pub contribution_bytes: u64,
    /// Mbit/s up of the slowest and of the fastest member; the others lie evenly between.
    pub up_mbit: (f64, f64),
    /// How much faster a member's way down is.
    pub down_factor: f64,
    /// Mbit/s of a seeder, both ways.
    pub seeder_mbit: f64,
    /// Round trip between any two, in milliseconds.
    pub trip_ms: f64,
    /// Share of packets that chance takes.
    pub loss: f64,
    /// Says which packets are lost.
    pub seed: u64,
}

/// What one member saw.
#[derive(Debug, Clone, Serialize)]
pub struct MemberFigures {
    /// Mbit/s up.
    pub up_mbit: f64,
    /// Seconds until it had everything.
    pub seconds: f64,
    /// Bytes that it sent, as packets on its line.
    pub up_bytes: u64,
    /// The same as a multiple of its contribution.
    pub contributions_sent: f64,
    /// Of that, blobs with their hash trees: no acknowledgements, questions, headers or repetitions.
    pub blob_bytes_sent: u64,
    /// Bytes that it received, as packets.
    pub down_bytes: u64,
    /// Packets that found its queue full on the way up.
    pub queue_dropped: u64,
}

/// What a round took.
#[derive(Debug, Clone, Serialize)]
pub struct WanFigures {
    /// Who took part.
    #[serde(flatten)]
    pub shape: WanShape,
    /// Seconds until everybody had everything.
    pub seconds: f64,
    /// Seconds that the slowest way up needs for its contribution once, or the slowest way down for all others.
    pub bound_seconds: f64,
    /// The former as a multiple of the latter.
    pub over_bound: f64,
    /// Mean of what members sent, as a multiple of a contribution.
    pub mean_contributions_sent: f64,
    /// Most that a member sent, likewise.
    pub most_contributions_sent: f64,
    /// Mean of the blobs alone, likewise.
    pub mean_blobs_sent: f64,
    /// Seconds of processor time of all processes, where the system tells.
    pub cpu_s: Option<f64>,
    /// Each member.
    pub each: Vec<MemberFigures>,
}

impl WanShape {
    fn up(&self, member: usize) -> f64 {
        let (least, most) = self.up_mbit;
        let place = member as f64 / (self.members.max(2) - 1) as f64;
        least + (most - least) * place
    }

    fn accesses(&self) -> Vec<Access> {
        let access = |up_mbit: f64, down_mbit: f64| Access {
            up_mbit,
            down_mbit,
            delay: Duration::from_secs_f64(self.trip_ms / 4e3),
            loss: self.loss,
            queue_bytes: ((up_mbit * 1e6 / 8.0 * self.trip_ms / 1e3) as u64).max(64 << 10),
        };
        let homes =
            (0..self.members).map(|member| access(self.up(member), self.up(member) * self.down_factor));
        homes.chain((0..self.seeders).map(|_| access(self.seeder_mbit, self.seeder_mbit))).collect()
    }

    /// Seconds that no way of sending can do without.
    pub fn bound_seconds(&self) -> f64 {
        let bits = self.contribution_bytes as f64 * 8.0 / 1e6;
        let others = (self.members - 1) as f64;
        let slowest =
            |member| (bits / self.up(member)).max(bits * others / (self.up(member) * self.down_factor));
        (0..self.members).map(slowest).fold(0.0, f64::max)
    }
}

/// Runs one round.
///
/// # Errors
///
/// [`LabError`] when there can be no lines here, or a process fails.
pub fn round(program: Program<'_>, shape: WanShape) -> Result<WanFigures, LabError> {
    let world = World::build(&format!("tkwan{}", std::process::id()), &shape.accesses(), shape.seed)?;
    let dir = tempfile::tempdir().map_err(|source| LabError::Start { source })?;
    let everybody = shape.members + shape.seeders;
    let mut hands = Vec::with_capacity(everybody);
    for member in 0..everybody {
        let plain = program();
        let mut command: Command = world.command(member, plain.get_program());
        command.args(plain.get_args());
        let (listen, seed) = (SocketAddr::from((world.address(member), PORT)), member as u8 + 1);
        let folder = dir.path().join(member.to_string());
        hands.push(Hand::hire(command, Flow::Swarm, listen, seed, &folder, member >= shape.members)?);
    }
    let table: Vec<_> = hands.iter().map(|hand| (hand.id.clone(), hand.address)).collect();
    let mut blobs = Vec::new();
    for (member, hand) in hands.iter_mut().enumerate() {
        hand.tell(&Order::Peers(table.clone()))?;
        if member < shape.members {
            blobs.push((
                hand.put(shape.contribution_bytes, shape.seed * 1000 + member as u64)?,
                hand.id.clone(),
            ));
        }
    }
    let count = |hands: &mut Vec<Hand>| hands.iter_mut().map(Hand::count).collect::<Result<Vec<_>, _>>();
    let before = count(&mut hands)?;
    let counters: Vec<_> = (0..everybody).map(|member| world.counters(member)).collect();
    let begin = Instant::now();
    for hand in &mut hands {
        let others = blobs.iter().filter(|(_, home)| *home != hand.id).cloned().collect();
        hand.tell(&Order::Fetch { blobs: others, from: None, bytes: 0 })?;
    }
    let mut each = Vec::new();
    for (member, hand) in hands.iter().enumerate().take(shape.members) {
        let seconds = loop {
            if let Some(seconds) = hand.wait(Duration::from_secs(600))? {
                break seconds;
            }
        };
        each.push(MemberFigures {
            up_mbit: shape.up(member),
            seconds,
            up_bytes: 0,
            contributions_sent: 0.0,
            blob_bytes_sent: 0,
            down_bytes: 0,
            queue_dropped: 0,
        });
    }
    let seconds = begin.elapsed().as_secs_f64();
    let after = count(&mut hands)?;
    for (member, figures) in each.iter_mut().enumerate() {
        let ((up, down), (up_before, down_before)) = (world.counters(member), counters[member]);
        figures.up_bytes = up.bytes - up_before.bytes;
        figures.down_bytes = down.bytes - down_before.bytes;
        figures.queue_dropped = up.dropped - up_before.dropped;
        figures.contributions_sent = figures.up_bytes as f64 / shape.contribution_bytes as f64;
        figures.blob_bytes_sent = after[member].sent - before[member].sent;
    }
    let sent = each.iter().map(|member| member.contributions_sent);
    let blobs: u64 = each.iter().map(|member| member.blob_bytes_sent).sum();
    let cpu_s = before.iter().zip(&after).map(|(before, after)| Some(after.cpu_s? - before.cpu_s?)).sum();
    let bound_seconds = shape.bound_seconds();
    Ok(WanFigures {
        seconds,
        bound_seconds,
        over_bound: seconds / bound_seconds,
        mean_contributions_sent: sent.clone().sum::<f64>() / shape.members as f64,
        most_contributions_sent: sent.fold(0.0, f64::max),
        mean_blobs_sent: blobs as f64 / (shape.members as u64 * shape.contribution_bytes) as f64,
        cpu_s,
        each,
        shape,
    })
}

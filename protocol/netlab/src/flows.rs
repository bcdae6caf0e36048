//! What one flow brings: over loopback, and over an emulated line.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::Command,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    Access, LabError, World,
    crew::Hand,
    member::{Flow, Order},
};

/// The port on which the sending end listens inside its namespace.
const PORT: u16 = 4000;
/// More than any line here carries in the time that is measured.
const ENDLESS: u64 = 4 << 30;

/// How a program is started that calls [`member::obey`](crate::member::obey).
pub type Program<'a> = &'a dyn Fn() -> Command;

/// One flow over loopback.
#[derive(Debug, Clone, Serialize)]
pub struct LoopbackFigures {
    /// Which flow.
    pub flow: Flow,
    /// Payload.
    pub bytes: u64,
    /// Seconds from the request to the last byte.
    pub seconds: f64,
    /// 10^6 bytes a second.
    pub mb_per_s: f64,
    /// Seconds of processor time of both ends, for 2^30 bytes.
    pub cpu_s_per_gib: Option<f64>,
}

/// A line to be measured.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct LineShape {
    /// Mbit/s, in both directions.
    pub mbit: f64,
    /// Round trip without a queue, in milliseconds.
    pub trip_ms: f64,
    /// Share of packets that chance takes, in both directions.
    pub loss: f64,
    /// Bytes of queue; one bandwidth-delay product when left out.
    pub queue_bytes: Option<u64>,
    /// Says which packets are lost.
    pub seed: u64,
}

/// One flow over a line.
#[derive(Debug, Clone, Serialize)]
pub struct LineFigures {
    /// Which flow.
    pub flow: Flow,
    /// Over which line.
    #[serde(flatten)]
    pub line: LineShape,
    /// Seconds measured, from the request on.
    pub seconds: f64,
    /// Payload, in Mbit/s.
    pub goodput_mbit: f64,
    /// Payload as a share of the line.
    pub share: f64,
    /// Packets that the sender offered to the line.
    pub packets: u64,
    /// Packets that found the queue full.
    pub queue_dropped: u64,
    /// The same as a share of those offered.
    pub queue_dropped_share: f64,
    /// Packets that chance took.
    pub lost: u64,
    /// Seconds of processor time of both ends.
    pub cpu_s: Option<f64>,
}

/// Both ends of a flow.
struct Ends {
    sender: Hand,
    receiver: Hand,
    _dir: tempfile::TempDir,
}

impl Ends {
    fn start(flow: Flow, commands: [Command; 2], listen: [SocketAddr; 2]) -> Result<Self, LabError> {
        let dir = tempfile::tempdir().map_err(|source| LabError::Start { source })?;
        let [first, second] = commands;
        let mut sender = Hand::hire(first, flow, listen[0], 1, &dir.path().join("1"), false)?;
        let mut receiver = Hand::hire(second, flow, listen[1], 2, &dir.path().join("2"), false)?;
        if flow == Flow::Swarm {
            let table = vec![(sender.id.clone(), sender.address), (receiver.id.clone(), receiver.address)];
            sender.tell(&Order::Peers(table.clone()))?;
            receiver.tell(&Order::Peers(table))?;
        }
        Ok(Self { sender, receiver, _dir: dir })
    }

    /// Makes what is to be fetched: hashing it is not sending it. The order to fetch it.
    fn prepare(&mut self, flow: Flow, bytes: u64) -> Result<Order, LabError> {
        let blobs = match flow {
            Flow::Swarm => vec![(self.sender.put(bytes, 1)?, self.sender.id.clone())],
            _ => Vec::new(),
        };
        Ok(Order::Fetch { blobs, from: Some(self.sender.address), bytes })
    }

    fn cpu(&mut self) -> Result<Option<f64>, LabError> {
        let (one, two) = (self.sender.count()?.cpu_s, self.receiver.count()?.cpu_s);
        Ok(one.zip(two).map(|(one, two)| one + two))
    }
}

/// Measures one flow of so many bytes over loopback.
///
/// # Errors
///
/// [`LabError`] when a process fails.
pub fn loopback(program: Program<'_>, flow: Flow, bytes: u64) -> Result<LoopbackFigures, LabError> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut ends = Ends::start(flow, [program(), program()], [any, any])?;
    let order = ends.prepare(flow, bytes)?;
    let before = ends.cpu()?;
    ends.receiver.tell(&order)?;
    let seconds = loop {
        if let Some(seconds) = ends.receiver.wait(Duration::from_secs(600))? {
            break seconds;
        }
    };
    let after = ends.cpu()?;
    let gib = bytes as f64 / f64::from(1 << 30);
    Ok(LoopbackFigures {
        flow,
        bytes,
        seconds,
        mb_per_s: bytes as f64 / 1e6 / seconds,
        cpu_s_per_gib: before.zip(after).map(|(before, after)| (after - before) / gib),
    })
}

/// Measures one flow for some seconds over an emulated line.
///
/// # Errors
///
/// [`LabError`] when there can be no line here, or a process fails.
pub fn line(
    program: Program<'_>,
    flow: Flow,
    shape: LineShape,
    seconds: f64,
) -> Result<LineFigures, LabError> {
    let product = shape.mbit * 1e6 / 8.0 * shape.trip_ms / 1e3;
    let access = Access {
        up_mbit: shape.mbit,
        down_mbit: 1e5,
        delay: Duration::from_secs_f64(shape.trip_ms / 4e3),
        loss: shape.loss,
        queue_bytes: shape.queue_bytes.unwrap_or(product as u64),
    };
    let name = format!("tkline{}", std::process::id());
    let world = World::build(&name, &[access, access], shape.seed)?;
    let at = |member| SocketAddr::from((world.address(member), PORT));
    let inside = |member| -> Command {
        let plain = program();
        let mut command = world.command(member, plain.get_program());
        command.args(plain.get_args());
        command
    };
    let mut ends = Ends::start(flow, [inside(0), inside(1)], [at(0), at(1)])?;
    let wanted = match flow {
        // a blob takes room on the disk: just more than the line carries
        Flow::Swarm => (shape.mbit * 1e6 / 8.0 * (seconds + 2.0)) as u64,
        _ => ENDLESS,
    };
    let order = ends.prepare(flow, wanted)?;
    let before = ends.cpu()?;
    let packets_before = world.counters(0).0;
    ends.receiver.tell(&order)?;
    let begin = Instant::now();
    let done = ends.receiver.wait(Duration::from_secs_f64(seconds))?;
    let received = ends.receiver.count()?.received;
    let took = done.unwrap_or_else(|| begin.elapsed().as_secs_f64());
    let after = ends.cpu()?;
    let up = world.counters(0).0;
    let goodput_mbit = received as f64 * 8.0 / 1e6 / took;
    let packets = up.packets - packets_before.packets;
    let queue_dropped = up.dropped - packets_before.dropped;
    Ok(LineFigures {
        flow,
        line: shape,
        seconds: took,
        goodput_mbit,
        share: goodput_mbit / shape.mbit,
        packets,
        queue_dropped,
        queue_dropped_share: queue_dropped as f64 / packets.max(1) as f64,
        lost: up.lost - packets_before.lost,
        cpu_s: before.zip(after).map(|(before, after)| after - before),
    })
}

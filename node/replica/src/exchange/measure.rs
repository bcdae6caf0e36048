//! Starts the processes of an exchange, lets them go round by round, and takes the time.

use std::{
    io::{BufRead, BufReader, Lines, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Instant,
};

use serde::Serialize;
use talkoot_protocol::digest::Digest;

use super::{
    ExchangeShape,
    member::{Order, Word},
};

/// Why an exchange is not measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// A process or its folder could not be made.
    #[error("starting a process of the exchange: {source}")]
    Start {
        /// What the system said.
        source: std::io::Error,
    },
    /// A process failed.
    #[error("a process of the exchange: {reason}")]
    Member {
        /// What it said.
        reason: String,
    },
}

/// One round.
#[derive(Debug, Clone, Serialize)]
pub struct ExchangeFigures {
    /// What was measured.
    #[serde(flatten)]
    pub shape: ExchangeShape,
    /// Which round, from 0.
    pub round: u32,
    /// Seconds from the numbers to the same mean everywhere.
    pub seconds: f64,
    /// Processor seconds of all processes, where the system tells.
    pub cpu_s: Option<f64>,
    /// Length of a contribution.
    pub contribution_bytes: u64,
    /// Bytes sent for each parameter and peer, hash trees included.
    pub bytes_per_parameter: f64,
    /// Whether all hold the same bits.
    pub equal: bool,
    /// Their digest.
    pub digest: Digest,
    /// Distance from the true mean, relative to it.
    pub relative_error: f64,
}

/// A process, for as long as it is needed.
struct Hand {
    child: Child,
    orders: ChildStdin,
    words: Lines<BufReader<ChildStdout>>,
}

impl Drop for Hand {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn failed(error: impl std::fmt::Display) -> ExchangeError {
    ExchangeError::Member { reason: error.to_string() }
}

impl Hand {
    fn hire(mut command: Command) -> Result<Self, ExchangeError> {
        let start = |source| ExchangeError::Start { source };
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(start)?;
        let piped = child.stdin.take().zip(child.stdout.take());
        let (orders, out) = piped.ok_or_else(|| failed("it has no pipes"))?;
        Ok(Self { child, orders, words: BufReader::new(out).lines() })
    }

    fn tell(&mut self, order: &Order) -> Result<(), ExchangeError> {
        let mut line = serde_json::to_vec(order).map_err(failed)?;
        line.push(b'\n');
        self.orders.write_all(&line).and_then(|()| self.orders.flush()).map_err(failed)
    }

    fn hear(&mut self) -> Result<Word, ExchangeError> {
        let line = self.words.next().ok_or_else(|| failed("it is gone; its standard error says why"))?;
        serde_json::from_str(&line.map_err(failed)?).map_err(failed)
    }
}

fn unexpected(word: &Word) -> ExchangeError {
    failed(format!("said {word:?} when something else was to be said"))
}

/// Measures an exchange; `program` starts a process that calls [`obey`](super::obey).
///
/// # Errors
///
/// [`ExchangeError`] when a process cannot be started or fails.
pub fn measure(
    program: impl Fn() -> Command,
    shape: ExchangeShape,
    mut seen: impl FnMut(&ExchangeFigures),
) -> Result<(), ExchangeError> {
    let dir = tempfile::tempdir().map_err(|source| ExchangeError::Start { source })?;
    let mut hands = Vec::new();
    let mut table = Vec::new();
    for index in 0..shape.peers {
        let mut hand = Hand::hire(program())?;
        hand.tell(&Order::Start { shape, index, dir: dir.path().join(index.to_string()) })?;
        match hand.hear()? {
            Word::Ready { id, address } => table.push((id, address)),
            word => return Err(unexpected(&word)),
        }
        hands.push(hand);
    }
    for hand in &mut hands {
        hand.tell(&Order::Peers(table.clone()))?;
    }
    for round in 0..shape.rounds {
        seen(&one_round(&mut hands, shape, round)?);
    }
    Ok(())
}

fn one_round(hands: &mut [Hand], shape: ExchangeShape, round: u32) -> Result<ExchangeFigures, ExchangeError> {
    let tell = |hands: &mut [Hand], order: &Order| hands.iter_mut().try_for_each(|hand| hand.tell(order));
    tell(hands, &Order::Prepare(round))?;
    let (mut cpu_s, mut sent) = (Some(0.0), 0);
    for hand in hands.iter_mut() {
        match hand.hear()? {
            Word::Prepared { cpu_s: cpu, sent: before } => {
                cpu_s = cpu_s.zip(cpu).map(|(sum, cpu)| sum - cpu);
                sent = before.wrapping_neg().wrapping_add(sent);
            }
            word => return Err(unexpected(&word)),
        }
    }
    let begin = Instant::now();
    tell(hands, &Order::Contribute)?;
    let mut blobs = Vec::new();
    for hand in hands.iter_mut() {
        match hand.hear()? {
            Word::Made(blob) => blobs.push(blob),
            word => return Err(unexpected(&word)),
        }
    }
    tell(hands, &Order::Aggregate(blobs.clone()))?;
    let mut digests = Vec::new();
    for hand in hands.iter_mut() {
        match hand.hear()? {
            Word::Aggregated { digest, cpu_s: cpu, sent: after } => {
                digests.push(digest);
                cpu_s = cpu_s.zip(cpu).map(|(sum, cpu)| sum + cpu);
                sent = sent.wrapping_add(after);
            }
            word => return Err(unexpected(&word)),
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    hands[0].tell(&Order::Check)?;
    let relative_error = match hands[0].hear()? {
        Word::Off { relative } => relative,
        word => return Err(unexpected(&word)),
    };
    Ok(ExchangeFigures {
        round,
        seconds,
        cpu_s,
        contribution_bytes: blobs[0].bytes,
        bytes_per_parameter: sent as f64 / shape.parameters as f64 / f64::from(shape.peers),
        equal: digests.iter().all(|digest| *digest == digests[0]),
        digest: digests[0],
        relative_error,
        shape,
    })
}

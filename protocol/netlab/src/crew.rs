//! The other side of [`member`](crate::member): starts processes and talks with them.

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::Duration,
};

use talkoot_protocol::digest::BlobRef;

use crate::{
    LabError,
    member::{Flow, Order, Word},
};

/// Nobody may be silent for longer.
const PATIENCE: Duration = Duration::from_secs(600);

/// A process that obeys. It is killed when this is dropped.
#[derive(Debug)]
pub struct Hand {
    child: Child,
    orders: Option<ChildStdin>,
    words: Receiver<Result<Word, LabError>>,
    /// Its identity, as text.
    pub id: String,
    /// Where it listens.
    pub address: SocketAddr,
}

/// What a process counted.
#[derive(Debug, Clone, Copy)]
pub struct Count {
    /// Payload received.
    pub received: u64,
    /// Sent, hash trees included.
    pub sent: u64,
    /// Seconds of processor time so far.
    pub cpu_s: Option<f64>,
}

fn unexpected(word: &Word) -> LabError {
    LabError::Member { reason: format!("said {word:?} when something else was to be said") }
}

impl Hand {
    /// Starts the process that `command` runs as a member, with these orders.
    ///
    /// # Errors
    ///
    /// [`LabError`] when it does not start or does not say that it is ready.
    pub fn hire(
        mut command: Command,
        flow: Flow,
        listen: SocketAddr,
        seed: u8,
        dir: &Path,
        seeder: bool,
    ) -> Result<Self, LabError> {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.map_err(|source| LabError::Start { source })?;
        let (sender, words) = channel();
        if let Some(out) = child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(out).lines() {
                    let word = line
                        .map_err(|error| error.to_string())
                        .and_then(|line| serde_json::from_str(&line).map_err(|error| error.to_string()))
                        .map_err(|reason| LabError::Member { reason });
                    if sender.send(word).is_err() {
                        break;
                    }
                }
            });
        }
        let orders = child.stdin.take();
        let mut hand = Self { child, orders, words, id: String::new(), address: listen };
        hand.tell(&Order::Start { flow, listen, seed, dir: dir.to_owned(), seeder })?;
        match hand.hear(PATIENCE)? {
            Some(Word::Ready { id, address }) => (hand.id, hand.address) = (id, address),
            Some(word) => return Err(unexpected(&word)),
            None => return Err(LabError::Silent),
        }
        Ok(hand)
    }

    /// Gives an order.
    ///
    /// # Errors
    ///
    /// [`LabError`] when the process is gone.
    pub fn tell(&mut self, order: &Order) -> Result<(), LabError> {
        let gone = |error: &dyn std::fmt::Display| LabError::Member { reason: error.to_string() };
        let mut line = serde_json::to_vec(order).map_err(|error| gone(&error))?;
        line.push(b'\n');
        let orders = self.orders.as_mut().ok_or(LabError::Silent)?;
        orders.write_all(&line).and_then(|()| orders.flush()).map_err(|error| gone(&error))
    }

    /// The next word; nothing when none comes in time.
    ///
    /// # Errors
    ///
    /// [`LabError`] when the process is gone or says what it may not.
    pub fn hear(&self, patience: Duration) -> Result<Option<Word>, LabError> {
        match self.words.recv_timeout(patience) {
            Ok(Ok(Word::Failed(reason))) => Err(LabError::Member { reason }),
            Ok(word) => word.map(Some),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(LabError::Silent),
        }
    }

    /// Has a blob made.
    ///
    /// # Errors
    ///
    /// As [`hear`](Self::hear).
    pub fn put(&mut self, bytes: u64, seed: u64) -> Result<BlobRef, LabError> {
        self.tell(&Order::Put { bytes, seed })?;
        match self.hear(PATIENCE)? {
            Some(Word::Made(blob)) => Ok(blob),
            Some(word) => Err(unexpected(&word)),
            None => Err(LabError::Silent),
        }
    }

    /// Waits until what was to be fetched is there; seconds since the order, as the process saw it.
    ///
    /// # Errors
    ///
    /// As [`hear`](Self::hear).
    pub fn wait(&self, patience: Duration) -> Result<Option<f64>, LabError> {
        match self.hear(patience)? {
            Some(Word::Done { seconds }) => Ok(Some(seconds)),
            Some(word) => Err(unexpected(&word)),
            None => Ok(None),
        }
    }

    /// What has come and gone so far.
    ///
    /// # Errors
    ///
    /// As [`hear`](Self::hear).
    pub fn count(&mut self) -> Result<Count, LabError> {
        self.tell(&Order::Count)?;
        loop {
            match self.hear(PATIENCE)? {
                Some(Word::Counted { received, sent, cpu_s }) => return Ok(Count { received, sent, cpu_s }),
                // it may have come to an end meanwhile
                Some(Word::Done { .. }) => {}
                Some(word) => return Err(unexpected(&word)),
                None => return Err(LabError::Silent),
            }
        }
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        // the end of its input is the end of its work
        self.orders = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! One process of the exchange: obeys one JSON order a line, answers with one JSON word a line.

use std::{
    collections::BTreeMap,
    io::{BufRead, Write},
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use futures::{TryStreamExt, stream::FuturesUnordered};
use serde::{Deserialize, Serialize};
use talkoot_network::{BlobStore, Line, Urgency, bulk::Bulk};
use talkoot_protocol::{
    digest::{BlobRef, Digest},
    identity::{Keypair, MemberId},
};
use talkoot_trainer::{
    aggregate::{Rule, Weight, aggregate_into},
    contribution::{ErrorFeedback, Layout, Origin, encode},
};
use tokio::sync::watch;

use super::{ExchangeShape, measure::ExchangeError};

/// What a process is told.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// What to be, and where to keep blobs.
    Start { shape: ExchangeShape, index: u8, dir: PathBuf },
    /// The others.
    Peers(Vec<(String, SocketAddr)>),
    /// Make the numbers of this round, which nobody measures.
    Prepare(u32),
    /// Encode and store them.
    Contribute,
    /// Fetch these, in this order, and aggregate them.
    Aggregate(Vec<BlobRef>),
    /// How far the aggregate is from the mean of the numbers.
    Check,
}

/// What a process says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Word {
    Ready { id: String, address: SocketAddr },
    Prepared { cpu_s: Option<f64>, sent: u64 },
    Made(BlobRef),
    Aggregated { digest: Digest, cpu_s: Option<f64>, sent: u64 },
    Off { relative: f64 },
}

fn failed(error: impl std::fmt::Display) -> ExchangeError {
    ExchangeError::Member { reason: error.to_string() }
}

/// Processor time of this process, user and system, in seconds.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(ticks as f64 / 100.0)
}

/// Normally distributed numbers, by Box and Muller, the same for the same round and member.
fn numbers(count: u64, round: u32, member: u8) -> Vec<f32> {
    let mut reader = blake3::Hasher::new().update(&round.to_le_bytes()).update(&[member]).finalize_xof();
    let mut bytes = vec![0; usize::try_from(count.next_multiple_of(2)).unwrap_or(0) * 4];
    reader.fill(&mut bytes);
    let uniform = |bytes: [u8; 4]| (f64::from(u32::from_le_bytes(bytes)) + 0.5) / f64::from(u32::MAX);
    let (words, _) = bytes.as_chunks::<4>();
    let mut numbers = Vec::with_capacity(words.len());
    for pair in words.chunks_exact(2) {
        let (radius, angle) =
            ((-2.0 * uniform(pair[0]).ln()).sqrt(), std::f64::consts::TAU * uniform(pair[1]));
        numbers.extend([(radius * angle.cos()) as f32, (radius * angle.sin()) as f32]);
    }
    numbers.truncate(usize::try_from(count).unwrap_or(0));
    numbers
}

/// The plain blob of some numbers.
fn to_bytes(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// A process at work.
struct Member {
    shape: ExchangeShape,
    index: u8,
    id: MemberId,
    store: BlobStore,
    bulk: Bulk,
    table: watch::Sender<BTreeMap<MemberId, SocketAddr>>,
    layout: Layout,
    feedback: ErrorFeedback,
    round: u32,
    mine: Vec<f32>,
    mean: Vec<f32>,
    /// Everybody, in the order of the contributions.
    everybody: Vec<MemberId>,
    /// What the round before left behind.
    past: Vec<BlobRef>,
}

impl Member {
    async fn start(shape: ExchangeShape, index: u8, dir: PathBuf) -> Result<Self, ExchangeError> {
        let key = Keypair::from_seed([index + 1; 32]);
        let store = BlobStore::open(&dir).map_err(failed)?;
        let table = watch::Sender::new(BTreeMap::new());
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let bulk = Bulk::start(any, &key, store.clone(), table.subscribe(), Line::default())
            .await
            .map_err(failed)?;
        let layout = Layout::new(vec![("tensor".to_owned(), shape.parameters)]).map_err(failed)?;
        let feedback = ErrorFeedback::zero(&layout);
        let mean = vec![0.0; usize::try_from(shape.parameters).map_err(failed)?];
        let id = key.id();
        Ok(Self {
            shape,
            index,
            id,
            store,
            bulk,
            table,
            layout,
            feedback,
            round: 0,
            mine: Vec::new(),
            mean,
            everybody: Vec::new(),
            past: Vec::new(),
        })
    }

    fn contribute(&mut self) -> Result<BlobRef, ExchangeError> {
        let bytes = match self.shape.encoding.settings() {
            None => to_bytes(&self.mine),
            Some(settings) => {
                let member = *self.id.as_bytes();
                let origin = Origin { round: self.round.into(), member, steps: 1, tokens: 1 };
                encode(&settings, &self.layout, &origin, &[&self.mine], &mut self.feedback).map_err(failed)?
            }
        };
        self.store.put(&bytes).map_err(failed)
    }

    async fn aggregate(&mut self, blobs: &[BlobRef]) -> Result<Digest, ExchangeError> {
        let homes = self.everybody.iter().map(std::slice::from_ref);
        let fetches: FuturesUnordered<_> =
            blobs.iter().zip(homes).map(|(blob, home)| self.bulk.fetch(*blob, home, Urgency::Now)).collect();
        fetches.try_collect::<()>().await.map_err(failed)?;
        let read = |blob: &BlobRef| self.store.read(&blob.digest, blob.bytes).map_err(failed);
        let contributions = blobs.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        match self.shape.encoding.settings() {
            None => {
                self.mean.fill(0.0);
                for bytes in &contributions {
                    let (words, _) = bytes.as_chunks::<4>();
                    for (mean, word) in self.mean.iter_mut().zip(words) {
                        *mean += f32::from_le_bytes(*word);
                    }
                }
                let count = contributions.len() as f32;
                self.mean.iter_mut().for_each(|mean| *mean /= count);
            }
            Some(settings) => {
                let weighted: Vec<_> = contributions.iter().map(|bytes| (&bytes[..], Weight(1))).collect();
                aggregate_into(&mut [&mut self.mean], &weighted, &settings, &self.layout, Rule::Mean)
                    .map_err(failed)?;
            }
        }
        self.past = blobs.to_vec();
        let mut hasher = blake3::Hasher::new();
        for part in self.mean.chunks(1 << 16) {
            hasher.update(&to_bytes(part));
        }
        Ok(Digest::from_bytes(*hasher.finalize().as_bytes()))
    }

    /// The relative distance from the mean of everybody's numbers.
    fn off(&self) -> f64 {
        let peers = self.shape.peers;
        let all: Vec<_> = (0..peers).map(|peer| numbers(self.shape.parameters, self.round, peer)).collect();
        let (mut off, mut whole) = (0.0, 0.0);
        for (place, mean) in self.mean.iter().enumerate() {
            let exact = all.iter().map(|numbers| f64::from(numbers[place])).sum::<f64>() / f64::from(peers);
            off += (f64::from(*mean) - exact).powi(2);
            whole += exact.powi(2);
        }
        (off / whole).sqrt()
    }

    async fn follow(&mut self, order: Order) -> Result<Option<Word>, ExchangeError> {
        let sent = |bulk: &Bulk| bulk.bytes().0;
        Ok(match order {
            Order::Start { .. } => return Err(failed("started already")),
            Order::Peers(peers) => {
                let read = |(id, address): (String, SocketAddr)| id.parse().map(|id| (id, address));
                let peers = peers.into_iter().map(read).collect::<Result<Vec<_>, _>>().map_err(failed)?;
                self.everybody = peers.iter().map(|(id, _)| *id).collect();
                self.table.send_replace(peers.into_iter().collect());
                None
            }
            Order::Prepare(round) => {
                // nobody fetches any more what was aggregated everywhere
                for blob in std::mem::take(&mut self.past) {
                    self.store.remove(&blob.digest).map_err(failed)?;
                }
                self.round = round;
                self.mine = numbers(self.shape.parameters, round, self.index);
                Some(Word::Prepared { cpu_s: cpu_seconds(), sent: sent(&self.bulk) })
            }
            Order::Contribute => Some(Word::Made(self.contribute()?)),
            Order::Aggregate(blobs) => {
                let digest = self.aggregate(&blobs).await?;
                Some(Word::Aggregated { digest, cpu_s: cpu_seconds(), sent: sent(&self.bulk) })
            }
            Order::Check => Some(Word::Off { relative: self.off() }),
        })
    }
}

fn say(word: &Word) -> Result<(), ExchangeError> {
    let mut line = serde_json::to_vec(word).map_err(failed)?;
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line).and_then(|()| out.flush()).map_err(failed)
}

/// Obeys until the input ends.
///
/// # Errors
///
/// [`ExchangeError::Member`] when an order makes no sense or cannot be followed.
pub async fn obey() -> Result<(), ExchangeError> {
    let (sender, mut orders) = tokio::sync::mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let order = line.map_err(failed).and_then(|line| serde_json::from_str(&line).map_err(failed));
            if sender.blocking_send(order).is_err() {
                break;
            }
        }
    });
    let Some(first) = orders.recv().await else { return Ok(()) };
    let Order::Start { shape, index, dir } = first? else {
        return Err(failed("the first order has to be to start"));
    };
    let mut member = Member::start(shape, index, dir).await?;
    say(&Word::Ready { id: member.id.to_string(), address: member.bulk.local_addr() })?;
    while let Some(order) = orders.recv().await {
        if let Some(word) = member.follow(order?).await? {
            say(&word)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{super::Encoding, *};

    #[test]
    fn the_numbers_are_normal_and_everybody_has_their_own() {
        let (one, two) = (numbers(100_001, 1, 0), numbers(100_001, 1, 1));
        assert_eq!(one.len(), 100_001);
        assert_ne!(one, two);
        let mean = one.iter().map(|x| f64::from(*x)).sum::<f64>() / one.len() as f64;
        let square = one.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / one.len() as f64;
        assert!(mean.abs() < 0.02 && (square - 1.0).abs() < 0.02, "{mean} {square}");
        assert_eq!(Encoding::ALL.map(|encoding| encoding.settings().is_some()), [true, true, false]);
    }
}

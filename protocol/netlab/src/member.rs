//! A process of its own that does what the laboratory tells it, line by line: a member of a swarm, or one end of a plain flow.
//!
//! It reads one [`Order`] a line from its input and answers with one [`Word`] a line; when the input ends, so does it.

use std::{
    collections::BTreeMap,
    io::{BufRead, Write},
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use serde::{Deserialize, Serialize};
use talkoot_network::{
    BlobStore, Line, Urgency,
    bulk::{
        Bulk,
        plain::{PlainServer, get_plain},
    },
};
use talkoot_protocol::{
    digest::BlobRef,
    identity::{Keypair, MemberId},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use crate::LabError;

/// Bytes moved at a time by a plain TCP flow.
const PART_BYTES: usize = 64 << 10;

/// What a process is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flow {
    /// A member of the swarm.
    Swarm,
    /// One TCP connection, as the kernel makes it: CUBIC in emulated worlds.
    Tcp,
    /// One QUIC stream with quinn's CUBIC.
    Quic,
}

/// What a process is told.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Listen here, with this key; a swarm's member keeps its blobs in `dir`.
    Start {
        /// What to be.
        flow: Flow,
        /// Where to listen.
        listen: SocketAddr,
        /// The secret half of its identity.
        seed: u8,
        /// The folder for blobs.
        dir: PathBuf,
        /// Whether its line is there for others.
        seeder: bool,
    },
    /// The other members and where they are.
    Peers(Vec<(String, SocketAddr)>),
    /// Make a blob of so many bytes, which another seed makes another one.
    Put {
        /// Its length.
        bytes: u64,
        /// Which one.
        seed: u64,
    },
    /// Fetch blobs, or so many bytes of a plain flow; said when each is there.
    Fetch {
        /// The blobs, each with its home.
        blobs: Vec<(BlobRef, String)>,
        /// Where a plain flow comes from.
        from: Option<SocketAddr>,
        /// Bytes of a plain flow.
        bytes: u64,
    },
    /// Say how much came so far.
    Count,
}

/// What a process says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// It listens.
    Ready {
        /// Its identity.
        id: String,
        /// Where.
        address: SocketAddr,
    },
    /// It made a blob.
    Made(BlobRef),
    /// Everything that was to be fetched is there, and how long it took.
    Done {
        /// Seconds since the order.
        seconds: f64,
    },
    /// Something failed.
    Failed(String),
    /// What came so far.
    Counted {
        /// Payload received, in bytes: hash trees are not counted.
        received: u64,
        /// Sent, hash trees included.
        sent: u64,
        /// Seconds of processor time, where the system tells.
        cpu_s: Option<f64>,
    },
}

/// Processor time of this process, user and system, in seconds.
pub fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // the name in parentheses may hold spaces; ticks are hundredths everywhere that this runs
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(ticks as f64 / 100.0)
}

/// Blob content that a seed makes.
fn content(bytes: u64, seed: u64) -> Vec<u8> {
    let mut content = vec![0; usize::try_from(bytes).unwrap_or(0)];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut content);
    content
}

fn failed(error: impl std::fmt::Display) -> LabError {
    LabError::Member { reason: error.to_string() }
}

/// What a process is, once it has started.
enum Role {
    Swarm { bulk: Bulk, store: BlobStore, table: watch::Sender<BTreeMap<MemberId, SocketAddr>> },
    Tcp,
    Quic(Box<(Keypair, PlainServer)>),
}

fn say(word: &Word) -> Result<(), LabError> {
    let mut line = serde_json::to_vec(word).map_err(failed)?;
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line).and_then(|()| out.flush()).map_err(failed)
}

/// Obeys until the input ends.
///
/// # Errors
///
/// [`LabError::Member`] when an order makes no sense or cannot be followed.
pub async fn obey() -> Result<(), LabError> {
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
    let Order::Start { flow, listen, seed, dir, seeder } = first? else {
        return Err(failed("the first order has to be to start"));
    };
    let key = Keypair::from_seed([seed; 32]);
    let (id, plain) = (key.id(), Arc::new(AtomicU64::new(0)));
    let (role, address) = start(flow, listen, key, &dir, seeder).await?;
    say(&Word::Ready { id: id.to_string(), address })?;
    let mut work = JoinSet::new();
    while let Some(order) = orders.recv().await {
        match (order?, &role) {
            (Order::Peers(peers), Role::Swarm { table, .. }) => {
                let read = |(id, address): (String, SocketAddr)| id.parse().map(|id| (id, address));
                let peers = peers.into_iter().map(read).collect::<Result<_, _>>().map_err(failed)?;
                table.send_replace(peers);
            }
            (Order::Put { bytes, seed }, Role::Swarm { store, .. }) => {
                say(&Word::Made(store.put(&content(bytes, seed)).map_err(failed)?))?;
            }
            (Order::Fetch { blobs, from, bytes }, role) => {
                let fetching = fetch(role, blobs, from, bytes, plain.clone())?;
                work.spawn(async move {
                    let begin = Instant::now();
                    let word = match fetching.await {
                        Ok(()) => Word::Done { seconds: begin.elapsed().as_secs_f64() },
                        Err(error) => Word::Failed(error.to_string()),
                    };
                    say(&word)
                });
            }
            (Order::Count, role) => {
                let (sent, received) = match role {
                    Role::Swarm { bulk, .. } => bulk.bytes(),
                    _ => (0, plain.load(Ordering::Relaxed)),
                };
                // of a slice one part in 257 is hashes
                let received =
                    if matches!(role, Role::Swarm { .. }) { received - received / 257 } else { received };
                say(&Word::Counted { received, sent, cpu_s: cpu_seconds() })?;
            }
            (order, _) => return Err(failed(format!("{order:?} makes no sense here"))),
        }
    }
    Ok(())
}

async fn start(
    flow: Flow,
    listen: SocketAddr,
    key: Keypair,
    dir: &std::path::Path,
    seeder: bool,
) -> Result<(Role, SocketAddr), LabError> {
    Ok(match flow {
        Flow::Swarm => {
            let store = BlobStore::open(dir).map_err(failed)?;
            let table = watch::Sender::new(BTreeMap::new());
            let line = Line { seeder, ..Line::default() };
            let bulk =
                Bulk::start(listen, &key, store.clone(), table.subscribe(), line).await.map_err(failed)?;
            let address = bulk.local_addr();
            (Role::Swarm { bulk, store, table }, address)
        }
        Flow::Tcp => {
            let listener = TcpListener::bind(listen).await.map_err(failed)?;
            let address = listener.local_addr().map_err(failed)?;
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve_tcp(stream));
                }
            });
            (Role::Tcp, address)
        }
        Flow::Quic => {
            let server = PlainServer::start(listen, &key).await.map_err(failed)?;
            let address = server.address();
            (Role::Quic(Box::new((key, server))), address)
        }
    })
}

async fn serve_tcp(mut stream: TcpStream) -> std::io::Result<()> {
    let mut left = stream.read_u64_le().await?;
    let part = vec![7; PART_BYTES];
    while left > 0 {
        let now = usize::try_from(left).unwrap_or(usize::MAX).min(PART_BYTES);
        stream.write_all(&part[..now]).await?;
        left -= now as u64;
    }
    stream.shutdown().await
}

async fn get_tcp(from: SocketAddr, bytes: u64, seen: impl Fn(usize)) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(from).await?;
    stream.write_u64_le(bytes).await?;
    let mut buffer = vec![0; PART_BYTES];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            got => seen(got),
        }
    }
}

/// Something that is being fetched.
type Fetching = std::pin::Pin<Box<dyn Future<Output = Result<(), LabError>> + Send>>;

/// What fetching is, in this role.
fn fetch(
    role: &Role,
    blobs: Vec<(BlobRef, String)>,
    from: Option<SocketAddr>,
    bytes: u64,
    plain: Arc<AtomicU64>,
) -> Result<Fetching, LabError> {
    let seen = move |got: usize| {
        plain.fetch_add(got as u64, Ordering::Relaxed);
    };
    let from = || from.ok_or_else(|| failed("a plain flow has to come from somewhere"));
    Ok(match role {
        Role::Swarm { bulk, .. } => {
            let mut fetches = JoinSet::new();
            for (blob, home) in blobs {
                let (bulk, home) = (bulk.clone(), home.parse::<MemberId>().map_err(failed)?);
                fetches.spawn(async move { bulk.fetch(blob, &[home], Urgency::Now).await });
            }
            Box::pin(async move {
                while let Some(done) = fetches.join_next().await {
                    done.map_err(failed)?.map_err(failed)?;
                }
                Ok(())
            })
        }
        Role::Tcp => {
            let from = from()?;
            Box::pin(async move { get_tcp(from, bytes, seen).await.map_err(failed) })
        }
        Role::Quic(ends) => {
            let (from, key) = (from()?, ends.0.clone());
            // both ends of a flow are made of the seeds 1 and 2; the server is the first
            let server = Keypair::from_seed([1; 32]).id();
            Box::pin(async move { get_plain(&key, &server, from, bytes, seen).await.map_err(failed) })
        }
    })
}

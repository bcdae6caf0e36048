//! A flood against a process of its own: strangers who ask for much, take nothing, and send what nobody reads.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use futures::FutureExt;
use quinn::{Connection, RecvStream};
use tokio::time::Instant;

use super::{killed::Doomed, *};
use crate::facade::flood::resident;

const DIR: &str = "TALKOOT_TEST_FLOOD_DIR";
const HERE: &str = "flooded at ";
/// Strangers, each under a name of its own.
const STRANGERS: u8 = 8;
/// Connections that each of them makes.
const CONNECTIONS: usize = 4;
/// What each connection sends behind a request.
const JUNK_BYTES: usize = 8 << 20;
/// Memory that the flood may cost, in bytes: slices being read and proved, first windows, connections.
const MAY_COST: u64 = 100 << 20;

/// Not a test of its own: the process that the next one floods.
#[tokio::test]
async fn helper_serve_until_killed() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let table = table();
    let store = BlobStore::open(Path::new(&dir)).unwrap();
    let key = Keypair::from_seed([1; 32]);
    let line = Line { seeder: true, ..Line::default() };
    let bulk = Bulk::start(LOCAL, &key, store, table.subscribe(), line).await.unwrap();
    println!("{HERE}{}", bulk.local_addr());
    std::future::pending().await
}

fn victim(dir: &Path) -> (Doomed, SocketAddr) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "bulk::tests::flood::helper_serve_until_killed", "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let child = Doomed(child);
    let here = lines.find_map(|line| line.split_once(HERE).map(|(_, at)| at.parse().unwrap()));
    (child, here.expect("the victim starts"))
}

/// What is left of a stranger's attempt.
struct Attempt {
    /// Bytes of junk that the victim let in.
    junk: usize,
    /// The answer that nobody reads; dropped, it would tell the victim to stop.
    answer: RecvStream,
    connection: Connection,
    _endpoint: Endpoint,
}

/// Asks for a piece on a connection of its own, sends junk behind the request as far as the victim lets it, and never reads.
async fn stranger(seed: u8, victim: SocketAddr, blob: BlobRef) -> Attempt {
    let key = Keypair::from_seed([seed; 32]);
    let endpoint = Endpoint::client(LOCAL).unwrap();
    let peer = Keypair::from_seed([1; 32]).id();
    // a window so small that not even one piece gets through to who does not read
    let mut narrow = tls::settings(tls::window(None));
    narrow.receive_window((64_u32 << 10).into());
    let config = tls::client(&key, &peer, wire::ALPN, Arc::new(narrow)).unwrap();
    let connection = endpoint.connect_with(config, victim, "talkoot").unwrap().await.unwrap();
    let (mut send, answer) = connection.open_bi().await.unwrap();
    let request = Request::Slice {
        digest: *blob.digest.as_bytes(),
        bytes: blob.bytes,
        ranges: vec![(0, wire::piece_bytes(blob.bytes))],
        urgency: Urgency::Now,
        insists: true,
    };
    send.write_all(&wire::encode(&request).unwrap()).await.unwrap();
    let mut junk = 0;
    let part = vec![7; 64 << 10];
    let sending = async {
        while junk < JUNK_BYTES {
            match send.write(&part).await {
                Ok(written) => junk += written,
                Err(_) => break,
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(3), sending).await;
    Attempt { junk, answer, connection, _endpoint: endpoint }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_greedy_strangers_costs_bounded_memory_and_others_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(8 << 20, 1);
    let blob = BlobStore::open(dir.path()).unwrap().put(&bytes).unwrap();
    let (victim, address) = victim(dir.path());
    let Some(before) = resident(victim.0.id()) else {
        return eprintln!("SKIPPED: this system does not say what a process holds of its memory");
    };
    let strangers = (0..STRANGERS)
        .flat_map(|name| std::iter::repeat_n(10 + name, CONNECTIONS))
        .map(|name| stranger(name, address, blob));
    let flood = tokio::spawn(futures::future::join_all(strangers));
    let mut within = before;
    while !flood.is_finished() {
        within = within.max(resident(victim.0.id()).unwrap());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut flood = flood.await.unwrap();
    let table = table();
    announce(&table, Keypair::from_seed([1; 32]).id(), address);
    let honest = member(2, &table).await;
    let asked = Instant::now();
    honest.bulk.fetch(blob, &[], Urgency::Soon).await.expect("an honest member is served");
    println!("served after {:?}", asked.elapsed());
    println!("{} MB before the flood, {} MB in it", before >> 20, within >> 20);
    assert!(within - before < MAY_COST, "{before} bytes before the flood, {within} in it");
    assert!(flood.iter().any(|attempt| attempt.connection.close_reason().is_none()), "it is over");
    let cut = flood.iter_mut().filter_map(|attempt| attempt.answer.received_reset().now_or_never()?.ok()?);
    assert!(cut.into_iter().any(|code| code == serve::OTHERS_WAIT), "whoever takes nothing keeps its turn");
    let junk = flood.iter().map(|attempt| attempt.junk).max().unwrap();
    assert!(junk <= 128 << 10, "{junk} bytes of junk were let in behind one request");
}

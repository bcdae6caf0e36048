//! Both planes together, on loopback.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use super::*;

pub(super) async fn member(
    seed: u8,
    dir: &Path,
    bootstrap: Vec<String>,
) -> (Network, mpsc::Receiver<NetworkEvent>, BlobStore) {
    let store = BlobStore::open(&dir.join(seed.to_string())).unwrap();
    let config = NetworkConfig { bootstrap, ..NetworkConfig::default() };
    let (network, events) = start(config, &Keypair::from_seed([seed; 32]), store.clone()).await.unwrap();
    (network, events, store)
}

#[tokio::test]
async fn a_blob_goes_from_one_node_to_another_that_it_met_through_a_third() {
    let dir = tempfile::tempdir().unwrap();
    let (hub, _hub_events, _) = member(1, dir.path(), Vec::new()).await;
    let (giver, _giver_events, given) = member(2, dir.path(), hub.control_addresses()).await;
    let (taker, _taker_events, taken) = member(3, dir.path(), hub.control_addresses()).await;
    let content: Vec<u8> = (0..300_000u32).map(|index| (index.wrapping_mul(index) >> 7) as u8).collect();
    let blob = given.put(&content).unwrap();
    taker.fetch(blob).await.unwrap();
    assert!(taker.who_has(&blob.digest).await.contains(&giver.id()));
    assert_eq!(taken.read(&blob.digest, blob.bytes).unwrap(), content);
    let traffic = taker.bytes();
    assert!(traffic.bulk_received >= blob.bytes, "{traffic:?}");
    assert!(traffic.control_sent > 0 && traffic.control_received > 0, "{traffic:?}");
}

#[tokio::test]
async fn after_the_shutdown_the_control_port_is_free_and_the_handle_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (one, mut events, _) = member(1, dir.path(), Vec::new()).await;
    let control = one.control_addresses().remove(0);
    one.shutdown().await;
    let port = control.split('/').nth(4).unwrap();
    std::net::UdpSocket::bind(format!("127.0.0.1:{port}")).unwrap();
    assert!(events.recv().await.is_none());
    assert_eq!(one.request(one.id(), Vec::new()).await, Err(RequestError::ShutDown));
    one.publish("news".to_owned(), Vec::new()).await;
    one.shutdown().await;
}

const DIR: &str = "TALKOOT_TEST_MEMBER_DIR";
const LISTEN: &str = "TALKOOT_TEST_MEMBER_LISTEN";
/// Starts the line on which the member below says where it is.
const HERE: &str = "member-is-at";

/// Not a test of its own: the process that the next one kills.
#[tokio::test]
async fn helper_member_until_killed() {
    let (Ok(dir), Ok(listen)) = (std::env::var(DIR), std::env::var(LISTEN)) else { return };
    let (control, bulk) = listen.split_once(' ').unwrap();
    let store = BlobStore::open(Path::new(&dir)).unwrap();
    let config = NetworkConfig {
        control_listen: control.parse().unwrap(),
        bulk_listen: bulk.parse().unwrap(),
        ..NetworkConfig::default()
    };
    let (network, mut events) = start(config, &Keypair::from_seed([1; 32]), store).await.unwrap();
    println!("\n{HERE} {} {}", network.control_addresses()[0], network.bulk_address());
    while let Some(event) = events.recv().await {
        if let NetworkEvent::Request { body, reply, .. } = event {
            reply.send(body);
        }
    }
}

/// Kills the process when the test fails.
pub(super) struct Doomed(Child);

impl Doomed {
    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Doomed {
    fn drop(&mut self) {
        // SIGKILL on Unix: no farewell on either plane
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) fn process(dir: &Path, control: SocketAddr, bulk: SocketAddr) -> (Doomed, String, SocketAddr) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "facade::tests::helper_member_until_killed", "--nocapture"])
        .env(DIR, dir)
        .env(LISTEN, format!("{control} {bulk}"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let child = Doomed(child);
    let line = lines.map(Result::unwrap).find(|line| line.starts_with(HERE)).expect("the member starts");
    let mut words = line.split(' ').skip(1);
    (child, words.next().unwrap().to_owned(), words.next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn a_killed_process_that_comes_back_in_place_is_found_on_both_planes() {
    let dir = tempfile::tempdir().unwrap();
    let its = dir.path().join("its");
    let id = Keypair::from_seed([1; 32]).id();
    let bytes: Vec<u8> = (0..5_000_000u32).map(|index| (index.wrapping_mul(index) >> 9) as u8).collect();
    let [first, second] =
        [&bytes[..], &bytes[1..]].map(|bytes| BlobStore::open(&its).unwrap().put(bytes).unwrap());
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (doomed, address, bulk) = process(&its, any, any);
    let port = address.split('/').nth(4).unwrap().parse().unwrap();
    let (network, mut events, store) = member(2, dir.path(), vec![address]).await;
    network.fetch_from(first, &[id], Urgency::Soon).await.unwrap();
    assert_eq!(network.request(id, vec![7]).await, Ok(vec![7]));
    drop(doomed);
    // what is asked for while nobody is there waits
    let waiting = tokio::spawn({
        let network = network.clone();
        async move { network.fetch_from(second, &[id], Urgency::Soon).await }
    });
    let (_again, ..) = process(&its, SocketAddr::new(any.ip(), port), bulk);
    let mut seen = Vec::new();
    while seen.len() < 3 {
        match events.recv().await.unwrap() {
            NetworkEvent::Connected(member) => seen.push((member, true)),
            NetworkEvent::Disconnected(member) => seen.push((member, false)),
            _ => {}
        }
    }
    assert_eq!(seen, [(id, true), (id, false), (id, true)]);
    waiting.await.unwrap().unwrap();
    assert_eq!(store.read(&second.digest, second.bytes).unwrap(), bytes[1..]);
    assert_eq!(network.request(id, vec![8]).await, Ok(vec![8]));
}

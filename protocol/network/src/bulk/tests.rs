mod endless;
mod flood;
mod killed;
mod limits;
mod news;
mod ranges;
mod swarm;

use std::{
    fs,
    net::{Ipv4Addr, UdpSocket},
};

use tempfile::TempDir;

use quinn::{Endpoint, RecvStream, SendStream};

use super::{
    frames::{Frames, write_frame},
    wire::{Held, News, Wish},
    *,
};
use crate::store::{Incoming, Partial, SliceReader, tree};

const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

type Table = watch::Sender<BTreeMap<MemberId, SocketAddr>>;

struct Peer {
    id: MemberId,
    store: BlobStore,
    bulk: Bulk,
    _dir: TempDir,
}

fn content(length: usize, seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

fn table() -> Table {
    watch::Sender::new(BTreeMap::new())
}

/// A member that knows the table but is not in it yet.
async fn member(seed: u8, table: &Table) -> Peer {
    member_with(seed, table, Line::default()).await
}

async fn member_with(seed: u8, table: &Table, line: Line) -> Peer {
    let dir = tempfile::tempdir().unwrap();
    let key = Keypair::from_seed([seed; 32]);
    let store = BlobStore::open(dir.path()).unwrap();
    let bulk = Bulk::start(LOCAL, &key, store.clone(), table.subscribe(), line).await.unwrap();
    Peer { id: key.id(), store, bulk, _dir: dir }
}

fn announce(table: &Table, id: MemberId, address: SocketAddr) {
    table.send_modify(|table| {
        table.insert(id, address);
    });
}

async fn listed(seed: u8, table: &Table) -> Peer {
    let peer = member(seed, table).await;
    announce(table, peer.id, peer.bulk.local_addr());
    peer
}

const SEEDER: Line = Line { seeder: true, up_bits_per_sec: None, down_bits_per_sec: None };

/// An address where nobody answers, for as long as it is kept.
fn nobody() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(LOCAL).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// All of a slice.
fn whole(mut reader: SliceReader) -> Vec<u8> {
    let mut slice = Vec::new();
    loop {
        match reader.read_part(1 << 20).unwrap() {
            part if part.is_empty() => return slice,
            part => slice.extend(part),
        }
    }
}

fn transport() -> Arc<quinn::TransportConfig> {
    tls::transport(tls::window(None))
}

/// Writes what another store has of a blob into a download.
fn give(from: &BlobStore, partial: &Partial, start: u64, end: u64) {
    let ranges = tree::groups(start, end);
    let mut incoming = Incoming::new(partial.blob(), &ranges);
    incoming.feed(&whole(from.slice(partial.blob(), &ranges).unwrap())).unwrap();
    partial.write(incoming.take_proven()).unwrap();
}

/// Says of every blob that is asked for that all of it is here.
async fn promise(seeder: bool, mut send: SendStream, mut recv: RecvStream) -> Result<(), String> {
    write_frame(&mut send, &News::Seeder(seeder)).await?;
    let mut wishes = Frames::new(&mut recv);
    while let Some(wish) = wishes.next().await? {
        if let Wish::Tell { digest, .. } = wish {
            write_frame(&mut send, &News::Held { digest, held: Held::Whole }).await?;
        }
    }
    Ok(())
}

/// A server of the right protocol which flips one bit of each slice it sends. Counts the slices.
fn liar(seed: u8, store: BlobStore, asked: Arc<AtomicU64>) -> (MemberId, SocketAddr, AbortOnDropHandle<()>) {
    let key = Keypair::from_seed([seed; 32]);
    let endpoint = Endpoint::server(tls::server(&key, wire::ALPN, transport()).unwrap(), LOCAL).unwrap();
    let address = endpoint.local_addr().unwrap();
    let task = tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            let Ok(connection) = incoming.await else { continue };
            while let Ok((mut send, mut recv)) = connection.accept_bi().await {
                let (digest, bytes, ranges) = match frames::read_frame(&mut recv).await {
                    Ok(Request::Slice { digest, bytes, ranges, .. }) => (digest, bytes, ranges),
                    Ok(Request::Follow) => {
                        tokio::spawn(promise(false, send, recv));
                        continue;
                    }
                    _ => break,
                };
                let blob = BlobRef { digest: Digest::from_bytes(digest), bytes };
                let ranges = wire::checked_ranges(bytes, &ranges).unwrap();
                let mut slice = whole(store.slice(blob, &ranges).unwrap());
                let middle = slice.len() / 2;
                slice[middle] ^= 1;
                asked.fetch_add(1, Ordering::SeqCst);
                send.write_all(&wire::encode(&Response::Have { bytes }).unwrap()).await.unwrap();
                let _ = send.write_all(&slice).await;
                let _ = send.finish();
            }
        }
    });
    (key.id(), address, AbortOnDropHandle::new(task))
}

#[tokio::test]
async fn two_members_exchange_blobs_of_all_sizes() {
    let table = table();
    let (a, b) = (listed(1, &table).await, listed(2, &table).await);
    for length in [0, 1, 16 * 1024, 16 * 1024 + 1, 5_000_000] {
        let bytes = content(length, 1);
        let blob = a.store.put(&bytes).unwrap();
        b.bulk.fetch(blob, &[a.id], Urgency::Soon).await.unwrap();
        b.bulk.fetch(blob, &[], Urgency::Soon).await.unwrap();
        assert_eq!(b.store.read(&blob.digest, blob.bytes).unwrap(), bytes);
        assert_eq!(b.bulk.who_has(&blob.digest).await, [a.id]);
    }
    assert!(b.bulk.bytes().1 > 5_000_000 && a.bulk.bytes().0 > 5_000_000);
    a.bulk.shutdown().await;
    let error = a.bulk.fetch(BlobRef::of(b"nobody has this"), &[], Urgency::Soon).await.unwrap_err();
    assert!(matches!(error, FetchError::Stopped), "{error}");
}

#[tokio::test]
async fn a_hidden_blob_comes_only_once_it_is_revealed() {
    let table = table();
    let (a, b) = (listed(1, &table).await, listed(2, &table).await);
    let blob = a.store.put_hidden(b"not yet").unwrap();
    assert!(b.bulk.who_has(&blob.digest).await.is_empty());
    let hints = [a.id];
    let fetching = b.bulk.fetch(blob, &hints, Urgency::Soon);
    tokio::pin!(fetching);
    // until the peer was asked for it, and said no
    let before = a.bulk.bytes().0;
    let asked = async {
        while a.bulk.bytes().0 == before {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        result = &mut fetching => panic!("a hidden blob was served: {result:?}"),
        () = asked => {}
    }
    assert!(!b.store.contains(&blob.digest));
    a.store.reveal(&blob.digest).unwrap();
    fetching.await.unwrap();
    assert_eq!(b.store.read(&blob.digest, 100).unwrap(), b"not yet");
}

#[tokio::test]
async fn another_key_than_the_expected_one_is_refused() {
    let table = table();
    let (a, b) = (member(1, &table).await, member(2, &table).await);
    let config =
        tls::client(&Keypair::from_seed([2; 32]), &Keypair::from_seed([3; 32]).id(), wire::ALPN, transport())
            .unwrap();
    let endpoint = &b.bulk.0.dialler.endpoint;
    let error = endpoint.connect_with(config, a.bulk.local_addr(), "talkoot").unwrap().await.unwrap_err();
    let quinn::ConnectionError::TransportError(refused) = &error else { panic!("{error:?}") };
    assert!(refused.reason.contains("certificate"), "our side refuses the other's certificate: {error:?}");
    let config = tls::client(&Keypair::from_seed([2; 32]), &a.id, wire::ALPN, transport()).unwrap();
    endpoint.connect_with(config, a.bulk.local_addr(), "talkoot").unwrap().await.unwrap();
}

#[tokio::test]
async fn another_protocol_is_refused() {
    let table = table();
    let (a, b) = (member(1, &table).await, member(2, &table).await);
    let config = tls::client(&Keypair::from_seed([2; 32]), &a.id, b"libp2p", transport()).unwrap();
    let endpoint = &b.bulk.0.dialler.endpoint;
    let error = endpoint.connect_with(config, a.bulk.local_addr(), "talkoot").unwrap().await.unwrap_err();
    assert!(error.to_string().contains("120"), "TLS alert 120 is no_application_protocol: {error}");
}

#[tokio::test]
async fn one_identity_takes_only_its_share_of_connections() {
    let table = table();
    let (a, b, c) = (member(1, &table).await, member(2, &table).await, member(3, &table).await);
    let dial = async |from: &Peer, seed: u8| {
        let config = tls::client(&Keypair::from_seed([seed; 32]), &a.id, wire::ALPN, transport()).unwrap();
        let endpoint = &from.bulk.0.dialler.endpoint;
        endpoint.connect_with(config, a.bulk.local_addr(), "talkoot").unwrap().await.unwrap()
    };
    let mut kept = Vec::new();
    for _ in 0..serve::MAX_CONNECTIONS_PER_PEER {
        kept.push(dial(&b, 2).await);
    }
    // all of them have their place before the next one comes
    for connection in &kept {
        assert_eq!(has_nothing(connection).await, Ok(Response::NotFound));
    }
    let surplus = dial(&b, 2).await;
    // an answer would say that it is served like the others
    assert!(has_nothing(&surplus).await.is_err(), "one more than its share is answered");
    let reason = surplus.closed().await;
    let quinn::ConnectionError::ApplicationClosed(close) = &reason else { panic!("{reason:?}") };
    assert_eq!(&close.reason[..], b"too many connections");
    // the others are not concerned, and neither is anybody else
    kept.push(dial(&c, 3).await);
    for connection in &kept {
        assert_eq!(has_nothing(connection).await, Ok(Response::NotFound));
    }
}

/// Asks for a blob that nobody has.
async fn has_nothing(connection: &quinn::Connection) -> Result<Response, String> {
    let (mut send, mut recv) = connection.open_bi().await.map_err(|error| error.to_string())?;
    let frame = wire::encode(&Request::Has { digest: [0; 32] }).unwrap();
    send.write_all(&frame).await.map_err(|error| error.to_string())?;
    frames::read_frame(&mut recv).await
}

#[tokio::test]
async fn a_liar_is_dropped_and_an_honest_peer_completes() {
    let table = table();
    let (honest, b) = (member(1, &table).await, listed(2, &table).await);
    let bytes = content(9_000_000, 2);
    let blob = honest.store.put(&bytes).unwrap();
    let asked = Arc::new(AtomicU64::new(0));
    let (id, address, _task) = liar(9, honest.store.clone(), asked.clone());
    announce(&table, id, address);
    let hints = [id];
    let fetching = b.bulk.fetch(blob, &hints, Urgency::Soon);
    tokio::pin!(fetching);
    let found_out = async {
        while !b.bulk.0.is_dropped(&id) {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        result = &mut fetching => panic!("there was only the liar: {result:?}"),
        () = found_out => {}
    }
    // everything before the group with the lie was kept, and nothing from there on
    let kept = tree::byte_ranges(&b.store.open_partial(&blob.digest).unwrap().have(), blob.bytes);
    let piece = wire::piece_bytes(blob.bytes);
    let lie = tree::GROUP_BYTES;
    assert!(!kept.is_empty(), "nothing was kept");
    for (start, end) in kept {
        assert_eq!(start % piece, 0, "{start}..{end}");
        let upto = end - start;
        assert!(
            upto <= piece / 2 && upto + 2 * lie > piece / 2,
            "{upto} of {piece} kept, the lie is in the middle"
        );
    }
    announce(&table, honest.id, honest.bulk.local_addr());
    fetching.await.unwrap();
    assert_eq!(b.store.read(&blob.digest, blob.bytes).unwrap(), bytes);
    assert!(asked.load(Ordering::SeqCst) <= 2, "what was under way when the lie was found, and no more");
    assert_eq!(b.bulk.liars(), BTreeSet::from([id]));
    let honest = honest.bulk.bytes().0;
    assert!(honest < 9_000_000, "{honest}: what came before the lie was asked for again");
}

#[tokio::test]
async fn several_peers_share_the_work_of_many_callers() {
    let table = table();
    let bytes = content(12 << 20, 3);
    let blob = BlobRef::of(&bytes);
    let mut seeders = Vec::new();
    for seed in 1..4 {
        let peer = listed(seed, &table).await;
        peer.store.put(&bytes).unwrap();
        seeders.push(peer);
    }
    let b = listed(9, &table).await;
    let fetches = (0..5).map(|_| b.bulk.fetch(blob, &[], Urgency::Soon));
    for result in futures::future::join_all(fetches).await {
        result.unwrap();
    }
    assert_eq!(b.store.read(&blob.digest, blob.bytes).unwrap(), bytes);
    assert!(seeders.iter().all(|peer| peer.bulk.bytes().0 > 0), "each was asked for a piece");
}

#[tokio::test]
async fn a_download_goes_on_where_it_was_dropped() {
    let table = table();
    let (a, b) = (listed(1, &table).await, listed(2, &table).await);
    let bytes = content(9_000_000, 4);
    let blob = a.store.put(&bytes).unwrap();
    {
        let partial = b.store.partial(blob).unwrap();
        let first = tree::groups(0, 4 << 20);
        let mut incoming = Incoming::new(blob, &first);
        incoming.feed(&whole(a.store.slice(blob, &first).unwrap())).unwrap();
        partial.write(incoming.take_proven()).unwrap();
    }
    b.bulk.fetch(blob, &[a.id], Urgency::Soon).await.unwrap();
    assert_eq!(b.store.read(&blob.digest, blob.bytes).unwrap(), bytes);
    let received = b.bulk.bytes().1;
    assert!(received < 9_000_000 - (4 << 20) + 100_000, "{received} bytes came, the first piece was there");
}

#[tokio::test]
async fn a_wrong_length_is_proved_and_refused() {
    let table = table();
    let (a, b) = (listed(1, &table).await, listed(2, &table).await);
    for length in [100, 50_000] {
        let blob = a.store.put(&content(length, 5)).unwrap();
        let wrong = BlobRef { bytes: blob.bytes + 1, ..blob };
        let error = b.bulk.fetch(wrong, &[a.id], Urgency::Soon).await.unwrap_err();
        assert!(
            matches!(error, FetchError::SizeMismatch { actual, peer: Some(peer), .. } if actual == blob.bytes && peer == a.id),
            "{length}: {error}"
        );
        assert!(!b.bulk.0.is_dropped(&a.id), "the peer told the truth");
        b.bulk.fetch(blob, &[a.id], Urgency::Soon).await.unwrap();
        let error = b.bulk.fetch(wrong, &[], Urgency::Soon).await.unwrap_err();
        assert!(matches!(error, FetchError::SizeMismatch { .. }), "{error}");
    }
    let huge = BlobRef { digest: Digest::of(b"huge"), bytes: u64::MAX };
    assert!(matches!(b.bulk.fetch(huge, &[], Urgency::Soon).await, Err(FetchError::TooLarge { .. })));
}

#[tokio::test]
async fn a_member_that_comes_back_elsewhere_is_found() {
    let table = table();
    let (a, b) = (listed(1, &table).await, listed(2, &table).await);
    let blob = a.store.put(b"first").unwrap();
    b.bulk.fetch(blob, &[a.id], Urgency::Soon).await.unwrap();
    let second = a.store.put(b"second").unwrap();
    let Peer { id, store, bulk, _dir } = a;
    drop(bulk);
    let again = Bulk::start(LOCAL, &Keypair::from_seed([1; 32]), store, table.subscribe(), Line::default())
        .await
        .unwrap();
    announce(&table, id, again.local_addr());
    b.bulk.fetch(second, &[id], Urgency::Soon).await.unwrap();
}

#[tokio::test]
async fn a_member_that_comes_back_in_place_resets_old_connections() {
    let table = table();
    let b = listed(2, &table).await;
    let key = Keypair::from_seed([1; 32]);
    let dir = tempfile::tempdir().unwrap();
    let store = BlobStore::open(dir.path()).unwrap();
    // a runtime that goes away in the middle says no goodbye, like a killed process
    let doomed = tokio::runtime::Runtime::new().unwrap();
    let (its_key, its_store, its_table) = (key.clone(), store.clone(), table.subscribe());
    let starting = async move { Bulk::start(LOCAL, &its_key, its_store, its_table, Line::default()).await };
    let bulk = doomed.spawn(starting).await.unwrap().unwrap();
    let address = bulk.local_addr();
    let config = tls::client(&Keypair::from_seed([2; 32]), &key.id(), wire::ALPN, transport()).unwrap();
    let old = b.bulk.0.dialler.endpoint.connect_with(config, address, "talkoot").unwrap().await.unwrap();
    doomed.shutdown_background();
    drop(bulk);
    let _again = loop {
        match Bulk::start(address, &key, store.clone(), table.subscribe(), Line::default()).await {
            Ok(again) => break again,
            Err(BulkError::InUse { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    };
    let (mut send, _recv) = old.open_bi().await.unwrap();
    send.write_all(&wire::encode(&Request::Has { digest: [0; 32] }).unwrap()).await.unwrap();
    let reason = old.closed().await;
    assert_eq!(reason, quinn::ConnectionError::Reset);
}

#[tokio::test]
async fn damage_at_the_seeder_never_travels() {
    let table = table();
    let (a, b) = (listed(1, &table).await, listed(2, &table).await);
    let bytes = content(100_000, 6);
    let blob = a.store.put(&bytes).unwrap();
    let path = a.store.path(&blob.digest).unwrap();
    let mut rotten = bytes.clone();
    rotten[50_000] ^= 1;
    fs::write(path, rotten).unwrap();
    let hints = [a.id];
    let fetching = b.bulk.fetch(blob, &hints, Urgency::Soon);
    tokio::pin!(fetching);
    let noticed = async {
        while a.store.contains(&blob.digest) {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        result = &mut fetching => panic!("damaged bytes were taken: {result:?}"),
        () = noticed => {}
    }
    a.store.put(&bytes).unwrap();
    fetching.await.unwrap();
    assert!(!b.bulk.0.is_dropped(&a.id));
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let table = table();
    let a = member(1, &table).await;
    let dir = tempfile::tempdir().unwrap();
    let store = BlobStore::open(dir.path()).unwrap();
    let taken = a.bulk.local_addr();
    let error = Bulk::start(taken, &Keypair::from_seed([2; 32]), store, table.subscribe(), Line::default())
        .await
        .unwrap_err();
    assert!(matches!(error, BulkError::InUse { address } if address == taken), "{error}");
    assert!(error.to_string().contains("choose another bulk port"), "{error}");
}

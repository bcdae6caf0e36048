//! Peers that would have a download wait for ever: mute, dead, full of promises, too many.

use super::*;
use crate::bulk::dial::Dialler;

fn key(seed: u8) -> Keypair {
    Keypair::from_seed([seed; 32])
}

/// A server of the right protocol, over connections with these settings, that does with each request what `answer` says.
fn server<F: Future<Output = ()> + Send + 'static>(
    seed: u8,
    transport: Arc<quinn::TransportConfig>,
    answer: impl Fn(Request, SendStream, RecvStream) -> F + Clone + Send + 'static,
) -> (MemberId, SocketAddr, AbortOnDropHandle<()>) {
    let endpoint = Endpoint::server(tls::server(&key(seed), wire::ALPN, transport).unwrap(), LOCAL).unwrap();
    let address = endpoint.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Some(incoming) = endpoint.accept().await {
            let Ok(connection) = incoming.await else { continue };
            let answer = answer.clone();
            connections.spawn(async move {
                let mut streams = tokio::task::JoinSet::new();
                while let Ok((send, mut recv)) = connection.accept_bi().await {
                    if let Ok(request) = frames::read_frame(&mut recv).await {
                        streams.spawn(answer(request, send, recv));
                    }
                }
            });
        }
    });
    (key(seed).id(), address, AbortOnDropHandle::new(task))
}

const NOTHING: Request = Request::Has { digest: [0; 32] };

#[tokio::test]
async fn however_often_a_connection_is_given_up_the_peer_can_be_asked() {
    let table = table();
    let (a, b) = (listed(1, &table).await, listed(2, &table).await);
    let dialler = &b.bulk.0.dialler;
    for _ in 0..4 * serve::MAX_CONNECTIONS_PER_PEER {
        let connection = dialler.connection(a.id, a.bulk.local_addr()).await.unwrap();
        let (answer, _) = dialler.ask(a.id, a.bulk.local_addr(), &NOTHING).await.unwrap();
        assert_eq!(answer, Response::NotFound);
        Dialler::give_up(&connection);
        // its place is free again once the peer has heard of it
        let again = dialler.connection(a.id, a.bulk.local_addr()).await.unwrap();
        assert_ne!(again.stable_id(), connection.stable_id(), "what is given up is used no more");
    }
}

#[tokio::test]
async fn who_has_too_many_connections_to_us_can_be_asked_by_us() {
    let table = table();
    let (a, b) = (listed(1, &table).await, listed(2, &table).await);
    let mut crowd = Vec::new();
    for _ in 0..serve::MAX_CONNECTIONS_PER_PEER {
        let config = tls::client(&key(2), &a.id, wire::ALPN, transport()).unwrap();
        let endpoint = &b.bulk.0.dialler.endpoint;
        let connection =
            endpoint.connect_with(config, a.bulk.local_addr(), "talkoot").unwrap().await.unwrap();
        assert_eq!(has_nothing(&connection).await, Ok(Response::NotFound));
        crowd.push(connection);
    }
    let connection = a.bulk.0.dialler.connection(b.id, b.bulk.local_addr()).await.unwrap();
    for _ in 0..3 {
        let (answer, _) = a.bulk.0.dialler.ask(b.id, b.bulk.local_addr(), &NOTHING).await.unwrap();
        assert_eq!(answer, Response::NotFound);
    }
    assert_eq!(connection.close_reason(), None);
}

#[tokio::test]
async fn who_never_answers_and_who_lets_nothing_be_asked_are_given_up() {
    let table = table();
    let b = member(2, &table).await;
    let (mute, mute_at, _one) = server(3, transport(), async |_, send, recv| {
        std::future::pending::<()>().await;
        drop((send, recv));
    });
    // not even the question gets through
    let mut closed = quinn::TransportConfig::default();
    closed.stream_receive_window(quinn::VarInt::from_u32(0));
    let (shut, shut_at, _two) = server(4, Arc::new(closed), async |_, _, _| {});
    let dialler = &b.bulk.0.dialler;
    let connections =
        [dialler.connection(mute, mute_at).await.unwrap(), dialler.connection(shut, shut_at).await.unwrap()];
    let asked =
        futures::future::join(dialler.ask(mute, mute_at, &NOTHING), dialler.ask(shut, shut_at, &NOTHING));
    let (one, two) = asked.await;
    for (answer, connection) in [one, two].into_iter().zip(connections) {
        assert_eq!(answer.map(|(answer, _)| answer), Err("the peer does not answer".to_owned()));
        assert!(connection.close_reason().is_some(), "it would be asked over it again");
    }
}

#[tokio::test]
async fn a_peer_that_is_not_there_is_dialled_once_for_all_who_ask() {
    let table = table();
    let b = member(2, &table).await;
    let (socket, address) = nobody();
    let asked = (0..12).map(|_| b.bulk.0.dialler.ask(key(3).id(), address, &NOTHING));
    for answer in futures::future::join_all(asked).await {
        assert!(answer.unwrap_err().contains("handshake"));
    }
    // each attempt has a connection id of its own, which the first packets repeat (RFC 9000, 17.2)
    socket.set_nonblocking(true).unwrap();
    let mut attempts = BTreeSet::new();
    let mut packet = [0; 2048];
    while let Ok(length) = socket.recv(&mut packet) {
        let id = usize::from(packet[5]);
        attempts.insert(packet[6..length.min(6 + id)].to_vec());
    }
    assert_eq!(attempts.len(), 1);
}

#[tokio::test]
async fn small_blobs_come_although_those_who_are_asked_first_are_not_there() {
    let table = table();
    let b = listed(9, &table).await;
    let mut peers: Vec<u8> = (10..30).collect();
    peers.sort_by_key(|seed| key(*seed).id());
    // sources are asked in the order of their ids
    let honest = listed(peers[4], &table).await;
    let silence: Vec<_> = peers[..4].iter().map(|seed| (key(*seed).id(), nobody())).collect();
    for (id, (_, address)) in &silence {
        announce(&table, *id, *address);
    }
    let blob = honest.store.put(b"small").unwrap();
    b.bulk.fetch(blob, &[], Urgency::Soon).await.unwrap();
    assert_eq!(b.store.read(&blob.digest, blob.bytes).unwrap(), b"small");
}

#[tokio::test]
async fn everybody_of_a_large_table_is_asked_in_the_end() {
    let table = table();
    let b = listed(9, &table).await;
    // those that follow in the circle of ids are asked first
    let mut peers: Vec<u8> = (10..80).collect();
    peers.sort_by_key(|seed| {
        let id = key(*seed).id();
        (id < b.id, id)
    });
    let honest = listed(*peers.last().unwrap(), &table).await;
    let silence: Vec<_> = peers.iter().rev().skip(1).map(|seed| (key(*seed).id(), nobody())).collect();
    table.send_modify(|table| {
        table.extend(silence.iter().map(|(id, (_, address))| (*id, *address)));
    });
    let bytes = content(1 << 20, 1);
    let blob = honest.store.put(&bytes).unwrap();
    b.bulk.fetch(blob, &[], Urgency::Soon).await.unwrap();
    assert_eq!(b.store.read(&blob.digest, blob.bytes).unwrap(), bytes);
}

#[tokio::test]
async fn who_promises_everything_and_gives_nothing_keeps_nobody_from_it() {
    // one that is a seeder by its own word; each has its own way not to give
    let excuses = [(3, Response::NotFound), (4, Response::Busy), (5, Response::Elsewhere)];
    let fetches = excuses.map(async |(seed, excuse)| {
        let table = table();
        let (home, b) = (listed(1, &table).await, listed(2, &table).await);
        let (id, address, _task) = server(seed, transport(), move |request, mut send, recv| {
            let excuse = excuse.clone();
            async move {
                if request == Request::Follow {
                    let _ = promise(true, send, recv).await;
                } else {
                    write_frame(&mut send, &excuse).await.unwrap();
                    let _ = send.finish();
                }
            }
        });
        announce(&table, id, address);
        let bytes = content(1 << 20, seed);
        let blob = home.store.put(&bytes).unwrap();
        b.bulk.fetch(blob, &[home.id], Urgency::Soon).await.unwrap();
        assert_eq!(b.store.read(&blob.digest, blob.bytes).unwrap(), bytes);
        assert!(b.bulk.0.seeders.contains(&id), "it was asked, and believed to be a seeder");
    });
    futures::future::join_all(fetches).await;
}

#[tokio::test]
async fn what_seeders_do_not_fetch_comes_from_home_although_other_blobs_flow() {
    let table = table();
    let (home, b) = (listed(1, &table).await, listed(2, &table).await);
    let line = Line { seeder: true, up_bits_per_sec: Some(8_000_000), ..Line::default() };
    let seeder = member_with(3, &table, line).await;
    announce(&table, seeder.id, seeder.bulk.local_addr());
    // of the one blob something comes all the time, of the other one the seeder has nothing
    let flowing = seeder.store.put(&content(40 << 20, 1)).unwrap();
    let wanted = home.store.put(&content(8 << 20, 2)).unwrap();
    let bulk = b.bulk.clone();
    let background = tokio::spawn(async move { bulk.fetch(flowing, &[], Urgency::Now).await });
    b.bulk.fetch(wanted, &[home.id], Urgency::Now).await.unwrap();
    assert!(!background.is_finished(), "it came while the other one did");
    background.abort();
}

//! Real sockets on loopback. Everything waits for events; nothing waits for time.

use std::collections::BTreeMap;

use super::*;

/// A control plane and what it has told.
struct Member {
    control: Control,
    events: mpsc::Receiver<NetworkEvent>,
    bulk: watch::Receiver<BTreeMap<MemberId, Route>>,
    id: MemberId,
}

impl Member {
    async fn try_start(seed: u8, listen: SocketAddr, bootstrap: &[String]) -> Result<Self, NetworkError> {
        Self::start_with(seed, listen, bootstrap, None).await
    }

    async fn with_peers_file(seed: u8, file: PathBuf) -> Self {
        Self::start_with(seed, "127.0.0.1:0".parse().unwrap(), &[], Some(file)).await.unwrap()
    }

    async fn start_with(
        seed: u8,
        listen: SocketAddr,
        bootstrap: &[String],
        peers_file: Option<PathBuf>,
    ) -> Result<Self, NetworkError> {
        let key = Keypair::from_seed([seed; 32]);
        let (signals, _) = mpsc::channel(1);
        let topics = ["news".to_owned()];
        let config = ControlConfig {
            listen,
            bulk_port: 1000 + u16::from(seed),
            bootstrap,
            topics: &topics,
            lan: false,
            seeder: false,
            announce: &[],
            peers_file,
            signals,
        };
        let (control, events) = Control::start(config, &key).await?;
        let bulk = control.routes();
        Ok(Self { control, events, bulk, id: key.id() })
    }

    async fn start(seed: u8, bootstrap: &[String]) -> Self {
        Self::try_start(seed, "127.0.0.1:0".parse().unwrap(), bootstrap).await.unwrap()
    }

    async fn next(&mut self) -> NetworkEvent {
        self.events.recv().await.expect("the driver runs")
    }

    /// Waits until all of `others` are connected.
    async fn meets(&mut self, others: &[MemberId]) {
        let all = |known: &BTreeSet<MemberId>| others.iter().all(|id| known.contains(id));
        self.control.connected.wait_for(all).await.unwrap();
    }

    async fn hears(&mut self, wanted: fn(&NetworkEvent) -> Option<MemberId>, who: MemberId) {
        while wanted(&self.next().await) != Some(who) {}
    }

    /// The UDP address it listens on.
    fn socket(&self) -> SocketAddr {
        let address = self.control.addresses().remove(0);
        let port = address.split('/').nth(4).unwrap();
        format!("127.0.0.1:{port}").parse().unwrap()
    }

    /// Answers every request with its bytes in reverse, until the driver stops.
    fn echo(mut self) -> Control {
        let control = self.control.clone();
        tokio::spawn(async move {
            while let Some(event) = self.events.recv().await {
                if let NetworkEvent::Request { mut body, reply, .. } = event {
                    body.reverse();
                    reply.send(body);
                }
            }
        });
        control
    }
}

fn came(event: &NetworkEvent) -> Option<MemberId> {
    if let NetworkEvent::Connected(member) = event { Some(*member) } else { None }
}

fn went(event: &NetworkEvent) -> Option<MemberId> {
    if let NetworkEvent::Disconnected(member) = event { Some(*member) } else { None }
}

/// Two members that know each other.
async fn pair() -> (Member, Member) {
    let mut one = Member::start(1, &[]).await;
    let mut two = Member::start(2, &one.control.addresses()).await;
    one.meets(&[two.id]).await;
    two.meets(&[one.id]).await;
    (one, two)
}

#[tokio::test]
async fn a_request_is_answered_and_its_bytes_are_counted() {
    let (one, two) = pair().await;
    let id = one.id;
    let before = two.control.bytes();
    let _one = one.echo();
    assert_eq!(two.control.request(id, vec![1, 2, 3]).await, Ok(vec![3, 2, 1]));
    assert_eq!(two.control.request(id, vec![7]).await, Ok(vec![7]));
    let long: Vec<_> = (0..MAX_REQUEST_BYTES).map(|index| index as u8).collect();
    let back: Vec<_> = long.iter().rev().copied().collect();
    assert_eq!(two.control.request(id, long).await, Ok(back));
    let after = two.control.bytes();
    assert!(after.0 - before.0 > MAX_REQUEST_BYTES as u64, "{before:?} {after:?}");
    assert!(after.1 - before.1 > MAX_REQUEST_BYTES as u64, "{before:?} {after:?}");
}

#[tokio::test]
async fn the_bulk_address_is_the_peers_ip_and_what_it_said() {
    let (mut one, two) = pair().await;
    let shown = one.bulk.wait_for(|shown| !shown.is_empty()).await.unwrap();
    assert_eq!(shown[&two.id].address, Some("127.0.0.1:1002".parse().unwrap()));
}

#[tokio::test]
async fn a_request_that_is_too_long_is_refused_here_and_there() {
    let (mut one, two) = pair().await;
    let bytes = MAX_REQUEST_BYTES + 1;
    let expected = RequestError::TooLong { peer: one.id, bytes, max_bytes: MAX_REQUEST_BYTES };
    assert_eq!(two.control.request(one.id, vec![0; bytes]).await, Err(expected));
    let refused = two.control.request_unchecked(one.id, vec![0; bytes]).await.unwrap_err();
    assert!(matches!(refused, RequestError::Refused { peer, .. } if peer == one.id), "{refused:?}");
    // nothing of it came through: the next thing that is heard is the next request
    let (control, id) = (two.control.clone(), one.id);
    tokio::spawn(async move { control.request(id, vec![7]).await });
    loop {
        if let NetworkEvent::Request { body, .. } = one.next().await {
            assert_eq!(body, [7]);
            break;
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_dropped_or_too_long_is_an_error_for_the_asker() {
    let (mut one, two) = pair().await;
    let id = one.id;
    tokio::spawn(async move {
        let mut first = true;
        while let Some(event) = one.events.recv().await {
            if let NetworkEvent::Request { reply, .. } = event {
                if first {
                    drop(reply);
                } else {
                    reply.send(vec![0; MAX_RESPONSE_BYTES + 1]);
                }
                first = false;
            }
        }
    });
    for _ in 0..2 {
        let error = two.control.request(id, vec![1]).await.unwrap_err();
        assert!(matches!(error, RequestError::Refused { peer, .. } if peer == id), "{error:?}");
        assert!(error.is_retryable());
    }
}

#[tokio::test]
async fn somebody_unknown_is_not_connected() {
    let one = Member::start(1, &[]).await;
    let peer = Keypair::from_seed([9; 32]).id();
    assert_eq!(one.control.request(peer, vec![1]).await, Err(RequestError::NotConnected { peer }));
    // bytes that are no key at all
    let peer = MemberId::from_bytes([2; 32]);
    assert_eq!(one.control.request(peer, vec![1]).await, Err(RequestError::NotConnected { peer }));
}

#[tokio::test]
async fn a_flood_of_requests_is_cut_down_to_the_pace() {
    let (one, two) = pair().await;
    let id = one.id;
    let _one = one.echo();
    // fewer at once than a connection carries, so that only the pace can refuse any; far more in all than it lets pass
    let (mut answered, mut refused) = (0, false);
    for _ in 0..20 {
        let wave = (0..50).map(|_| two.control.request(id, vec![1]));
        let results = futures::future::join_all(wave).await;
        answered += results.iter().filter(|result| result.is_ok()).count();
        refused = results.iter().any(|result| matches!(result, Err(RequestError::Refused { .. })));
        if refused {
            break;
        }
    }
    assert!(answered >= rate::REQUEST_PACE.burst as usize / 2, "{answered}");
    assert!(refused, "a thousand requests at once, and all of them answered");
}

#[tokio::test]
async fn gossip_reaches_everybody_with_its_authors_name() {
    let one = Member::start(1, &[]).await;
    let address = one.control.addresses();
    let (two, three) = (Member::start(2, &address).await, Member::start(3, &address).await);
    let author = two.id;
    let mut others = [one, three];
    let heard = async {
        for other in &mut others {
            loop {
                if let NetworkEvent::Gossip { topic, from, body } = other.next().await {
                    assert_eq!((topic.as_str(), from, &body[..]), ("news", author, &b"hello"[..]));
                    break;
                }
            }
        }
    };
    // gossip promises nothing to those who are still subscribing: say it again until both have heard
    let speak = async {
        loop {
            two.control.publish("news".to_owned(), b"hello".to_vec()).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = heard => {}
        () = speak => {}
    }
}

#[tokio::test]
async fn five_that_bootstrap_from_one_all_find_each_other() {
    let hub = Member::start(1, &[]).await;
    let address = hub.control.addresses();
    let mut members = vec![hub];
    for seed in 2..=6 {
        members.push(Member::start(seed, &address).await);
    }
    let ids: Vec<_> = members.iter().map(|member| member.id).collect();
    for member in &mut members {
        let others: Vec<_> = ids.iter().copied().filter(|id| *id != member.id).collect();
        member.meets(&others).await;
        member.bulk.wait_for(|shown| shown.len() == others.len()).await.unwrap();
    }
}

#[tokio::test]
async fn a_peer_that_leaves_is_missed_at_once_and_found_again_when_it_is_back() {
    let (one, mut two) = pair().await;
    let (id, socket) = (one.id, one.socket());
    two.hears(came, id).await;
    one.control.shutdown().await;
    two.hears(went, id).await;
    assert!(two.control.connected().is_empty());
    assert_eq!(one.control.request(two.id, vec![1]).await, Err(RequestError::ShutDown));
    let one = Member::try_start(1, socket, &[]).await.unwrap();
    two.hears(came, id).await;
    let _one = one.echo();
    assert_eq!(two.control.request(id, vec![1, 2]).await, Ok(vec![2, 1]));
}

#[tokio::test]
async fn a_peer_that_died_without_a_word_is_replaced_by_its_successor() {
    // a runtime of its own, thrown away whole, is the nearest thing to a killed process
    let (sender, started) = oneshot::channel();
    let (kill, killed) = oneshot::channel::<()>();
    let doomed = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let one = Member::start(1, &[]).await;
            let _ = sender.send((one.id, one.control.addresses(), one.socket()));
            let _ = killed.await;
            std::mem::forget(one); // a farewell would need the driver to see the handle go
        });
        runtime.shutdown_background();
    });
    let (id, addresses, socket) = started.await.unwrap();
    let mut two = Member::start(2, &addresses).await;
    two.hears(came, id).await;
    let _ = kill.send(());
    doomed.join().unwrap();
    let then = std::time::Instant::now();
    let one = Member::try_start(1, socket, &[]).await.unwrap();
    two.hears(went, id).await;
    two.hears(came, id).await;
    println!("found again after {} ms", then.elapsed().as_millis());
    let _one = one.echo();
    assert_eq!(two.control.request(id, vec![1, 2]).await, Ok(vec![2, 1]));
}

#[tokio::test]
async fn a_port_in_use_is_named_with_the_remedy() {
    let one = Member::start(1, &[]).await;
    let error = Member::try_start(2, one.socket(), &[]).await.err().unwrap();
    assert!(matches!(error, NetworkError::AddressInUse { address } if address == one.socket()), "{error:?}");
    assert!(error.to_string().contains("choose another control port"), "{error}");
}

#[tokio::test]
async fn a_bootstrap_address_that_is_none_is_named() {
    let bad = ["example.org:4001".to_owned()];
    let error = Member::try_start(1, "127.0.0.1:0".parse().unwrap(), &bad).await.err().unwrap();
    assert!(matches!(&error, NetworkError::BadAddress { text, .. } if *text == bad[0]), "{error:?}");
}

#[tokio::test]
async fn listening_everywhere_names_the_loopback_too() {
    let one = Member::try_start(1, "0.0.0.0:0".parse().unwrap(), &[]).await.unwrap();
    let addresses = one.control.addresses();
    assert!(addresses.iter().any(|address| address.starts_with("/ip4/127.0.0.1/udp/")), "{addresses:?}");
    assert!(addresses[0].contains("/quic-v1/p2p/12D3KooW"), "{addresses:?}");
    let all = |address: &String| address.contains("/quic-v1/p2p/12D3KooW") || address.contains("/tcp/");
    assert!(addresses.iter().all(all), "{addresses:?}");
    let mut two = Member::start(2, &addresses).await;
    two.meets(&[one.id]).await;
}

/// Makes so many connections from one place, each under a name of its own, and holds what it gets. The numbers: attempts that
/// have ended in a connection or not, connections that are held.
fn crowd(count: usize, from: &str, target: &str) -> watch::Receiver<(usize, usize)> {
    use futures::StreamExt;
    use libp2p::{Swarm, swarm::SwarmEvent};

    let (numbers, shown) = watch::channel((0, 0));
    let numbers = Arc::new(numbers);
    for index in 0..count {
        let (numbers, target) = (numbers.clone(), target.parse::<libp2p::Multiaddr>().unwrap());
        let listen: libp2p::Multiaddr = format!("/ip4/{from}/udp/0/quic-v1").parse().unwrap();
        tokio::spawn(async move {
            let mut seed = [7; 32];
            seed[..8].copy_from_slice(&index.to_le_bytes());
            let key = libp2p::identity::Keypair::ed25519_from_bytes(seed).unwrap();
            let (transport, _relay) = transport::build(&key, Arc::default()).unwrap();
            let config = libp2p::swarm::Config::with_tokio_executor()
                .with_idle_connection_timeout(Duration::from_secs(3600));
            let me = key.public().to_peer_id();
            let mut swarm = Swarm::new(transport, libp2p::swarm::dummy::Behaviour, me, config);
            swarm.listen_on(listen).unwrap();
            while !matches!(swarm.select_next_some().await, SwarmEvent::NewListenAddr { .. }) {}
            swarm.dial(target).unwrap();
            loop {
                match swarm.select_next_some().await {
                    SwarmEvent::ConnectionEstablished { .. } => numbers.send_modify(|(ended, held)| {
                        *ended += 1;
                        *held += 1;
                    }),
                    SwarmEvent::OutgoingConnectionError { .. } => {
                        numbers.send_modify(|(ended, _)| *ended += 1)
                    }
                    SwarmEvent::ConnectionClosed { .. } => numbers.send_modify(|(_, held)| *held -= 1),
                    _ => {}
                }
            }
        });
    }
    shown
}

#[tokio::test]
async fn a_crowd_from_one_place_gets_its_share_and_others_are_still_answered() {
    let one = Member::start(1, &[]).await;
    let (id, address) = (one.id, one.control.addresses());
    let _one = one.echo();
    let mut before = Member::try_start(2, "127.0.0.3:0".parse().unwrap(), &address).await.unwrap();
    before.meets(&[id]).await;
    let count = gate::MAX_PER_PLACE + 40;
    let mut crowd = crowd(count, "127.0.0.2", &address[0]);
    let full = |&(ended, held): &(usize, usize)| ended == count && held <= gate::MAX_PER_PLACE;
    let (_, held) = *crowd.wait_for(full).await.unwrap();
    assert!(held > 0, "the place is not shut out");
    assert_eq!(
        before.control.request(id, vec![1, 2]).await,
        Ok(vec![2, 1]),
        "who was there is still answered"
    );
    let mut after = Member::try_start(3, "127.0.0.4:0".parse().unwrap(), &address).await.unwrap();
    after.meets(&[id]).await;
    assert_eq!(after.control.request(id, vec![1, 2]).await, Ok(vec![2, 1]), "and so is who comes now");
}

#[tokio::test]
async fn a_peer_that_sends_garbage_again_and_again_is_shut_out_and_others_are_answered() {
    let one = Member::start(1, &[]).await;
    let (id, address) = (one.id, one.control.addresses());
    let at_one = one.control.clone();
    let _one = one.echo();
    let mut two = Member::start(2, &address).await;
    let mut three = Member::start(3, &address).await;
    two.hears(came, id).await;
    three.meets(&[id]).await;
    let garbage = vec![0; MAX_REQUEST_BYTES + 1];
    let mut shut_out = false;
    for _ in 0..100 {
        assert!(two.control.request_unchecked(id, garbage.clone()).await.is_err(), "garbage is answered");
        // what the sender is told hangs on how far its next attempt to connect has come; a connection that only broke comes
        // back within this second, and whoever is banned stays outside whatever it tries
        shut_out = true;
        for _ in 0..20 {
            shut_out &= !at_one.connected().contains(&two.id);
            if !shut_out {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if shut_out {
            break;
        }
    }
    assert!(shut_out, "a hundred times garbage, and no end");
    assert_eq!(three.control.request(id, vec![1, 2]).await, Ok(vec![2, 1]));
}

#[tokio::test]
async fn an_address_with_somebody_elses_id_leads_nowhere() {
    let mut one = Member::start(1, &[]).await;
    let theirs = one.control.addresses().remove(0);
    let (place, _) = theirs.rsplit_once("/p2p/").unwrap();
    let somebody = peer::peer_of(&Keypair::from_seed([9; 32]).id()).unwrap();
    let two = Member::start(2, &[format!("{place}/p2p/{somebody}")]).await;
    // the right id at the same place is met: the place answers
    let mut three = Member::start(3, &[theirs]).await;
    one.meets(&[three.id]).await;
    three.meets(&[one.id]).await;
    assert!(two.control.connected().is_empty());
    assert_eq!(two.control.request(one.id, vec![1]).await, Err(RequestError::NotConnected { peer: one.id }));
}

#[tokio::test]
async fn tcp_alone_is_enough() {
    let one = Member::start(1, &[]).await;
    let id = one.id;
    let tcp: Vec<_> =
        one.control.addresses().into_iter().filter(|address| address.contains("/tcp/")).collect();
    assert_eq!(tcp.len(), 1, "{tcp:?}");
    let _one = one.echo();
    let mut two = Member::start(2, &tcp).await;
    two.meets(&[id]).await;
    assert_eq!(two.control.request(id, vec![1, 2, 3]).await, Ok(vec![3, 2, 1]));
    let (sent, received) = two.control.bytes();
    assert!(sent > 0 && received > 0, "bytes over TCP are counted");
}

#[tokio::test]
async fn members_of_last_time_are_met_again_without_a_link() {
    let folder = tempfile::tempdir().unwrap();
    let peers = folder.path().join("peers.txt");
    let mut one = Member::start(1, &[]).await;
    std::fs::write(&peers, format!("# known before\n{}\n", one.control.addresses()[0])).unwrap();
    let two = Member::with_peers_file(2, peers.clone()).await;
    one.meets(&[two.id]).await;
    two.control.shutdown().await;
    let text = std::fs::read_to_string(&peers).unwrap();
    assert!(text.contains(&one.control.addresses()[0]), "it is written again: {text}");
}

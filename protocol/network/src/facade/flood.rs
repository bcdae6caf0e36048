//! A flood against a process of its own: what it takes of memory, and whether others are still answered.

use std::{fs, io, sync::Arc, time::Duration};

use futures::{AsyncRead, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::{
    StreamProtocol, Swarm,
    identity::Keypair as P2pKeypair,
    request_response::{self, Codec, ProtocolSupport},
    swarm::{self, SwarmEvent},
};
use tokio::sync::Semaphore;

use super::*;
use crate::control::{MAX_REQUEST_BYTES, flooding};

/// Members of the flood, each under a name of its own.
const FLOODERS: usize = 24;
/// Requests that each begins and does not end.
const REQUESTS: usize = 60;
/// Memory that the flood may cost, in bytes: what is set aside for incoming requests, windows and connections. Without that
/// bound it would be 370 MB of half-sent requests alone.
const MAY_COST: u64 = 220 << 20;

/// Begins requests of the greatest length, and leaves them a byte short.
#[derive(Debug, Clone, Default)]
struct Unfinished;

impl Codec for Unfinished {
    type Protocol = StreamProtocol;
    type Request = Arc<Semaphore>;
    type Response = ();

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        _: &mut T,
    ) -> io::Result<Self::Request> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        _: &mut T,
    ) -> io::Result<()> {
        std::future::pending().await
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        begun: Self::Request,
    ) -> io::Result<()> {
        io.write_all(&(MAX_REQUEST_BYTES as u32).to_be_bytes()).await?;
        let sent = io.write_all(&vec![0; MAX_REQUEST_BYTES - 1]).await;
        begun.add_permits(1); // sent, or refused
        sent?;
        io.flush().await?;
        std::future::pending().await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        _: &mut T,
        (): (),
    ) -> io::Result<()> {
        Ok(())
    }
}

fn flooder(index: usize, target: &str, begun: Arc<Semaphore>) {
    let mut seed = [9; 32];
    seed[..8].copy_from_slice(&index.to_le_bytes());
    let key = P2pKeypair::ed25519_from_bytes(seed).unwrap();
    let target: libp2p::Multiaddr = target.parse().unwrap();
    tokio::spawn(async move {
        let (transport, protocol) = flooding(&key);
        let asking = request_response::Config::default()
            .with_request_timeout(Duration::from_secs(600))
            .with_max_concurrent_streams(1000);
        let behaviour =
            request_response::Behaviour::<Unfinished>::new([(protocol, ProtocolSupport::Outbound)], asking);
        let config =
            swarm::Config::with_tokio_executor().with_idle_connection_timeout(Duration::from_secs(3600));
        let mut swarm = Swarm::new(transport, behaviour, key.public().to_peer_id(), config);
        swarm.dial(target).unwrap();
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                    for _ in 0..REQUESTS {
                        swarm.behaviour_mut().send_request(&peer_id, begun.clone());
                    }
                }
                // whoever is shut out has begun all that it ever will
                SwarmEvent::ConnectionClosed { .. } | SwarmEvent::OutgoingConnectionError { .. } => {
                    begun.add_permits(REQUESTS)
                }
                _ => {}
            }
        }
    });
}

/// What a process holds of the machine's memory, in bytes.
pub(crate) fn resident(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_unfinished_requests_costs_bounded_memory_and_others_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (victim, address, _) = tests::process(&dir.path().join("victim"), any, any);
    let id = Keypair::from_seed([1; 32]).id();
    let (honest, _events, _) = tests::member(2, dir.path(), vec![address.clone()]).await;
    while honest.request(id, vec![7]).await != Ok(vec![7]) {}
    let Some(before) = resident(victim.id()) else {
        return eprintln!("SKIPPED: this system does not say what a process holds of its memory");
    };
    let begun = Arc::new(Semaphore::new(0));
    for index in 0..FLOODERS {
        flooder(index, &address, begun.clone());
    }
    // most of it has been sent or refused, and the rest is on its way
    let _ = begun.acquire_many((FLOODERS * REQUESTS / 2) as u32).await.unwrap();
    let mut most = before;
    for _ in 0..20 {
        assert_eq!(honest.request(id, vec![8]).await, Ok(vec![8]), "an honest member is not answered");
        most = most.max(resident(victim.id()).unwrap());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("{} MB before the flood, {} MB in it", before >> 20, most >> 20);
    assert!(most - before < MAY_COST, "{before} bytes before the flood, {most} in it");
}

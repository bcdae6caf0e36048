//! Connections to peers: one each, kept, made anew when dead or when the peer has moved.
//!
//! A live connection is given up only when nothing at all comes over it, and is closed then. It would live on otherwise, as it is
//! served as well; who dials anew at every answer that is late soon has more connections than the peer takes from one member,
//! and is refused by it from then on.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use quinn::{Connection, Endpoint, RecvStream, TransportConfig, VarInt};
use talkoot_protocol::identity::{Keypair, MemberId};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

use super::{
    frames::{read_frame, write_frame},
    heard::{Heard, Silent},
    tls,
    wire::{self, Request, Response},
};

/// How long a handshake may take: one second of lost first packets and a slow line.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// What is known of the way to one peer.
#[derive(Debug, Default)]
struct Way {
    /// Held while the peer is being dialled.
    line: tokio::sync::Mutex<Line>,
    heard: Heard,
}

#[derive(Debug, Default)]
struct Line {
    live: Option<(SocketAddr, Connection)>,
    /// The last attempt, if it failed: where, when it was over, and why.
    failed: Option<(SocketAddr, Instant, String)>,
}

/// Asks peers.
#[derive(Debug)]
pub(super) struct Dialler {
    pub(super) endpoint: Endpoint,
    pub(super) key: Keypair,
    pub(super) received: AtomicU64,
    /// Where connections that we make go to be served as well.
    pub(super) dialled: mpsc::Sender<Connection>,
    pub(super) transport: Arc<TransportConfig>,
    /// What a peer may send ahead once it is asked for something long, in bytes.
    window: VarInt,
    ways: Mutex<BTreeMap<MemberId, Arc<Way>>>,
}

impl Dialler {
    pub(super) fn new(
        endpoint: Endpoint,
        key: Keypair,
        dialled: mpsc::Sender<Connection>,
        (transport, window): (Arc<TransportConfig>, VarInt),
    ) -> Self {
        Self {
            endpoint,
            key,
            received: AtomicU64::new(0),
            dialled,
            transport,
            window,
            ways: Mutex::default(),
        }
    }

    /// A live connection to `peer` at `address`. Who waits while somebody else dials shares what comes of it.
    pub(super) async fn connection(&self, peer: MemberId, address: SocketAddr) -> Result<Connection, String> {
        let came = Instant::now();
        let way = self.way(peer);
        let mut line = way.line.lock().await;
        match line.live.take() {
            Some((at, connection)) if at == address && connection.close_reason().is_none() => {
                line.live = Some((at, connection.clone()));
                return Ok(connection);
            }
            Some((_, stale)) => stale.close(VarInt::from_u32(0), b"moved"),
            None => {}
        }
        if let Some((at, over, reason)) = &line.failed
            && *at == address
            && *over >= came
        {
            return Err(reason.clone());
        }
        match self.dial(peer, address).await {
            Ok(connection) => {
                *line = Line { live: Some((address, connection.clone())), failed: None };
                Ok(connection)
            }
            Err(reason) => {
                line.failed = Some((address, Instant::now(), reason.clone()));
                Err(reason)
            }
        }
    }

    async fn dial(&self, peer: MemberId, address: SocketAddr) -> Result<Connection, String> {
        let config = tls::client(&self.key, &peer, wire::ALPN, self.transport.clone())
            .map_err(|error| error.to_string())?;
        // the name is not looked at: the certificate is the peer's key
        let connecting =
            self.endpoint.connect_with(config, address, "talkoot").map_err(|error| error.to_string())?;
        let connection = timeout(HANDSHAKE, connecting)
            .await
            .map_err(|_| "no answer to the handshake")?
            .map_err(|error| error.to_string())?;
        // full, the peer will make a connection of its own
        let _ = self.dialled.try_send(connection.clone());
        Ok(connection)
    }

    fn way(&self, peer: MemberId) -> Arc<Way> {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner).entry(peer).or_default().clone()
    }

    /// When something that was asked of the peer last came from it.
    pub(super) fn heard(&self, peer: MemberId) -> Heard {
        self.way(peer).heard.clone()
    }

    /// Takes a connection that is there already, unless there is another live one to the same address. Does nothing while
    /// somebody is dialling the peer; it is to be called again now and then.
    pub(super) fn adopt(&self, peer: MemberId, connection: &Connection) {
        let way = self.way(peer);
        let Ok(mut line) = way.line.try_lock() else { return };
        let address = connection.remote_address();
        let good =
            line.live.as_ref().is_some_and(|(at, there)| *at == address && there.close_reason().is_none());
        if !good {
            line.live = Some((address, connection.clone()));
        }
    }

    /// Ends a connection over which nothing comes, for everybody who uses it; the next question makes another one.
    pub(super) fn give_up(connection: &Connection) {
        connection.close(VarInt::from_u32(0), b"no answer");
    }

    /// Sends a request and reads the answer; what follows it is in the stream.
    pub(super) async fn ask(
        &self,
        peer: MemberId,
        address: SocketAddr,
        request: &Request,
    ) -> Result<(Response, RecvStream), String> {
        let connection = self.connection(peer, address).await?;
        if matches!(request, Request::Slice { .. }) {
            connection.set_receive_window(self.window);
        }
        let heard = self.heard(peer);
        let talk = async {
            let (mut send, mut recv) = connection.open_bi().await.map_err(|error| error.to_string())?;
            // before everything that is sent to the peer as its server
            let _ = send.set_priority(i32::MAX);
            write_frame(&mut send, request).await?;
            send.finish().map_err(|error| error.to_string())?;
            let response = read_frame::<Response>(&mut recv).await?;
            Ok((response, recv))
        };
        let begun = Instant::now();
        match heard.wait((begun, begun), talk).await {
            Ok(answer) => {
                if answer.is_ok() {
                    heard.touch(Instant::now());
                }
                answer
            }
            Err(Silent { altogether }) => {
                if altogether {
                    Self::give_up(&connection);
                }
                Err("the peer does not answer".to_owned())
            }
        }
    }

    /// Bytes of a slice that have come.
    pub(super) fn count_received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

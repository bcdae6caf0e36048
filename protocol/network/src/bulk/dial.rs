//! Connections to peers: one each, kept, made anew when dead or when the peer has moved.

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
use tokio::{sync::mpsc, time::timeout};

use super::{
    serve::read_frame,
    tls,
    wire::{self, Request, Response},
};

/// How long a handshake may take: one second of lost first packets and a slow line.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long a peer may keep silent in the middle of an answer.
const STALL: Duration = Duration::from_secs(15);

type Slot = Arc<tokio::sync::Mutex<Option<(SocketAddr, Connection)>>>;

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
    slots: Mutex<BTreeMap<MemberId, Slot>>,
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
            slots: Mutex::default(),
        }
    }

    /// A live connection to `peer` at `address`.
    pub(super) async fn connection(&self, peer: MemberId, address: SocketAddr) -> Result<Connection, String> {
        let slot = self.slot(peer);
        let mut slot = slot.lock().await;
        match slot.take() {
            Some((at, connection)) if at == address && connection.close_reason().is_none() => {
                *slot = Some((at, connection.clone()));
                return Ok(connection);
            }
            Some((_, stale)) => stale.close(VarInt::from_u32(0), b"moved"),
            None => {}
        }
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
        *slot = Some((address, connection.clone()));
        Ok(connection)
    }

    fn slot(&self, peer: MemberId) -> Slot {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).entry(peer).or_default().clone()
    }

    /// Takes a connection that is there already, unless there is another live one to the same address. Does nothing while
    /// somebody is dialling the peer; it is to be called again now and then.
    pub(super) fn adopt(&self, peer: MemberId, connection: &Connection) {
        let slot = self.slot(peer);
        let Ok(mut slot) = slot.try_lock() else { return };
        let address = connection.remote_address();
        let good = slot.as_ref().is_some_and(|(at, there)| *at == address && there.close_reason().is_none());
        if !good {
            *slot = Some((address, connection.clone()));
        }
    }

    /// Forgets a connection that did not answer.
    pub(super) fn forget(&self, peer: MemberId) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).remove(&peer);
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
        let frame = wire::encode(request).map_err(|error| error.to_string())?;
        let (mut send, mut recv) = timeout(STALL, connection.open_bi())
            .await
            .map_err(|_| "the peer opens no stream")?
            .map_err(|error| error.to_string())?;
        // before everything that is sent to the peer as its server
        let _ = send.set_priority(i32::MAX);
        send.write_all(&frame).await.map_err(|error| error.to_string())?;
        send.finish().map_err(|error| error.to_string())?;
        let response = timeout(STALL, read_frame::<Response>(&mut recv))
            .await
            .map_err(|_| "the peer does not answer")??;
        Ok((response, recv))
    }

    /// Bytes of a slice that have come.
    pub(super) fn count_received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

//! Reaching bulk sockets behind routers: from the same socket that blobs travel on, since a router's mapping is a socket's.
//!
//! ```text
//! observed   a public member says at which address it sees our socket
//! probe      both sides send small packets to one another's addresses until both have heard one (`session`)
//! connect    then the QUIC handshake, over the hole that the probes made
//! adopt      a connection that a peer behind a router has made to us is the way to ask it, too
//! ```
//! Who does this when is decided in `ways`.

pub(crate) mod probe;
pub(crate) mod session;
pub(crate) mod socket;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use quinn::{Connection, Endpoint, TokioRuntime, TransportConfig};
use talkoot_protocol::identity::MemberId;
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::socket::Probes;
use super::{
    Bulk, BulkError,
    serve::Server,
    tls,
    wire::{self, Request, Response},
};

/// How long a handshake over a hole may take.
const HANDSHAKE: Duration = Duration::from_secs(4);
/// Accepted connections that wait to be adopted.
pub(super) const ACCEPTED: usize = 64;

/// A connection that a peer made to us.
pub(crate) type Accepted = (MemberId, Connection);

/// A socket of its own for one attempt. Dropped, it takes no new connections; those that were made over it, by us or by the
/// peer, are served on for as long as they live.
#[derive(Debug)]
pub(crate) struct FreshSocket {
    endpoint: Endpoint,
    pub(crate) probes: Probes,
    _open: DropGuard,
}

/// A new endpoint over a socket that lets probes by.
pub(super) fn endpoint(
    listen: SocketAddr,
    key: &talkoot_protocol::identity::Keypair,
    transport: Arc<TransportConfig>,
) -> Result<(Endpoint, Probes), BulkError> {
    let socket_error = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => BulkError::InUse { address: listen },
        _ => BulkError::Socket { address: listen, source },
    };
    let socket = UdpSocket::bind(listen).map_err(socket_error)?;
    let (socket, probes) = socket::wrap(socket).map_err(socket_error)?;
    let server = tls::server(key, wire::ALPN, transport)?;
    let runtime = Arc::new(TokioRuntime);
    let endpoint = Endpoint::new_with_abstract_socket(tls::endpoint(key)?, Some(server), socket, runtime)
        .map_err(socket_error)?;
    Ok((endpoint, probes))
}

impl Bulk {
    /// The probes of the main socket.
    pub(crate) fn probes(&self) -> &Probes {
        &self.0.probes
    }

    /// Connections that peers make to us from now on; once.
    pub(crate) fn accepted(&self) -> Option<mpsc::Receiver<Accepted>> {
        super::unpoisoned(&self.0.accepted).take()
    }

    /// Makes a connection that is there already the one over which the peer is asked, unless there is another live one.
    /// Does nothing while the peer is being dialled.
    pub(crate) fn adopt(&self, peer: MemberId, connection: &Connection) {
        self.0.dialler.adopt(peer, connection);
    }

    /// Makes sure that there is a connection to `peer` at `address`.
    pub(crate) async fn connect(&self, peer: MemberId, address: SocketAddr) -> Result<Connection, String> {
        self.0.dialler.connection(peer, address).await
    }

    /// The address at which `peer` sees our main socket.
    pub(crate) async fn observed(&self, peer: MemberId, address: SocketAddr) -> Option<SocketAddr> {
        let asked = self.0.dialler.ask(peer, address, &Request::WhereAmI).await;
        match asked {
            Ok((Response::YouAre { address }, _)) => Some(address),
            Ok(_) => None,
            Err(reason) => {
                tracing::debug!(%peer, reason, "a member does not say where it sees us");
                None
            }
        }
    }

    /// Opens a socket for one attempt, which serves as the main one does.
    pub(crate) fn fresh_socket(&self) -> Result<FreshSocket, BulkError> {
        let (endpoint, probes) = endpoint(
            SocketAddr::new(self.0.local.ip(), 0),
            &self.0.dialler.key,
            self.0.dialler.transport.clone(),
        )?;
        let server: Server = self.0.server.clone();
        let (_, nothing) = mpsc::channel(1);
        let closing = CancellationToken::new();
        tokio::spawn(server.run(endpoint.clone(), nothing, closing.clone()));
        Ok(FreshSocket { endpoint, probes, _open: closing.drop_guard() })
    }

    /// As [`observed`](Self::observed), for another socket of ours.
    pub(crate) async fn observed_from(
        &self,
        socket: &FreshSocket,
        peer: MemberId,
        address: SocketAddr,
    ) -> Option<SocketAddr> {
        let connection = self.connect_from(socket, peer, address).await.ok()?;
        let (mut send, mut recv) = timeout(HANDSHAKE, connection.open_bi()).await.ok()?.ok()?;
        send.write_all(&wire::encode(&Request::WhereAmI).ok()?).await.ok()?;
        send.finish().ok()?;
        match timeout(HANDSHAKE, super::frames::read_frame::<Response>(&mut recv)).await.ok()?.ok()? {
            Response::YouAre { address } => Some(address),
            _ => None,
        }
    }

    /// Makes a connection over another socket of ours, which is served as well.
    pub(crate) async fn connect_from(
        &self,
        socket: &FreshSocket,
        peer: MemberId,
        address: SocketAddr,
    ) -> Result<Connection, String> {
        let config = tls::client(&self.0.dialler.key, &peer, wire::ALPN, self.0.dialler.transport.clone())
            .map_err(|error| error.to_string())?;
        let connecting =
            socket.endpoint.connect_with(config, address, "talkoot").map_err(|error| error.to_string())?;
        let connection = timeout(HANDSHAKE, connecting)
            .await
            .map_err(|_| "no answer to the handshake")?
            .map_err(|error| error.to_string())?;
        // full, the peer will make a connection of its own
        let _ = self.0.dialler.dialled.try_send(connection.clone());
        Ok(connection)
    }

    /// The local IP address of packets to `there`, with the port of `socket`, or of the main one.
    pub(crate) fn local_towards(
        &self,
        there: SocketAddr,
        socket: Option<&FreshSocket>,
    ) -> Option<SocketAddr> {
        let own = match socket {
            Some(socket) => socket.endpoint.local_addr().ok()?,
            None => self.0.local,
        };
        if !own.ip().is_unspecified() {
            return Some(own);
        }
        // connecting a UDP socket sends nothing: it asks for the route
        let asking = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        asking.connect(there).ok()?;
        Some(SocketAddr::new(asking.local_addr().ok()?.ip(), own.port()))
    }
}

//! One plain QUIC stream with quinn's own CUBIC: what the swarm is measured against. Nothing else uses it.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::Arc,
};

use quinn::{Endpoint, TokioRuntime, congestion::CubicConfig};
use talkoot_protocol::identity::{Keypair, MemberId};
use tokio_util::task::AbortOnDropHandle;

use super::{error::BulkError, tls};

/// Its own protocol name, so that nobody takes it for the bulk plane.
const ALPN: &[u8] = b"talkoot-plain/1";
/// Bytes written at a time.
const PART_BYTES: usize = 64 << 10;

fn transport() -> Arc<quinn::TransportConfig> {
    let mut config = tls::settings(tls::window(None));
    config.congestion_controller_factory(Arc::new(CubicConfig::default()));
    Arc::new(config)
}

fn socket_error(address: SocketAddr) -> impl FnOnce(std::io::Error) -> BulkError {
    move |source| BulkError::Socket { address, source }
}

/// A server that sends as many bytes as each stream asks for; goes with its handle.
#[derive(Debug)]
pub struct PlainServer {
    address: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

impl PlainServer {
    /// Listens at `listen`.
    ///
    /// # Errors
    ///
    /// [`BulkError`] when the socket cannot be opened.
    #[expect(clippy::unused_async, reason = "a runtime is needed for the socket")]
    pub async fn start(listen: SocketAddr, key: &Keypair) -> Result<Self, BulkError> {
        let socket = UdpSocket::bind(listen).map_err(socket_error(listen))?;
        let server = tls::server(key, ALPN, transport())?;
        let endpoint = Endpoint::new(tls::endpoint(key)?, Some(server), socket, Arc::new(TokioRuntime))
            .map_err(socket_error(listen))?;
        let address = endpoint.local_addr().map_err(socket_error(listen))?;
        let task = tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                tokio::spawn(serve(incoming));
            }
        });
        Ok(Self { address, _task: AbortOnDropHandle::new(task) })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn serve(incoming: quinn::Incoming) -> Option<()> {
    let connection = incoming.await.ok()?;
    while let Ok((mut send, mut recv)) = connection.accept_bi().await {
        let mut wanted = [0; 8];
        recv.read_exact(&mut wanted).await.ok()?;
        let mut left = u64::from_le_bytes(wanted);
        let part = vec![7; PART_BYTES];
        while left > 0 {
            let now = usize::try_from(left).unwrap_or(usize::MAX).min(PART_BYTES);
            send.write_all(&part[..now]).await.ok()?;
            left -= now as u64;
        }
        send.finish().ok()?;
    }
    Some(())
}

/// Asks for so many bytes and reads them; `seen` is told of each part that comes.
///
/// # Errors
///
/// A text saying what failed.
pub async fn get_plain(
    key: &Keypair,
    peer: &MemberId,
    address: SocketAddr,
    bytes: u64,
    mut seen: impl FnMut(usize),
) -> Result<(), String> {
    let local = SocketAddr::new(std::net::Ipv4Addr::UNSPECIFIED.into(), 0);
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let socket = UdpSocket::bind(local).map_err(|error| text(&error))?;
    let config = tls::endpoint(key).map_err(|error| text(&error))?;
    let endpoint =
        Endpoint::new(config, None, socket, Arc::new(TokioRuntime)).map_err(|error| text(&error))?;
    let config = tls::client(key, peer, ALPN, transport()).map_err(|error| text(&error))?;
    let connecting = endpoint.connect_with(config, address, "talkoot").map_err(|error| text(&error))?;
    let connection = connecting.await.map_err(|error| text(&error))?;
    let (mut send, mut recv) = connection.open_bi().await.map_err(|error| text(&error))?;
    send.write_all(&bytes.to_le_bytes()).await.map_err(|error| text(&error))?;
    let mut buffer = vec![0; PART_BYTES];
    while let Some(got) = recv.read(&mut buffer).await.map_err(|error| text(&error))? {
        seen(got);
    }
    connection.close(quinn::VarInt::from_u32(0), b"enough");
    endpoint.wait_idle().await;
    Ok(())
}

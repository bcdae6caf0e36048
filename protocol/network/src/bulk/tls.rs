//! The QUIC endpoint's settings: identity, protocol name, windows, limits.

mod client;

use std::{sync::Arc, time::Duration};

use libp2p::{PeerId, identity};
use libp2p_tls::certificate;
use quinn::{
    AckFrequencyConfig, ClientConfig, Connection, ConnectionId, ConnectionIdGenerator, EndpointConfig,
    IdleTimeout, ServerConfig, TransportConfig, VarInt,
    crypto::{
        CryptoError, HmacKey,
        rustls::{QuicClientConfig, QuicServerConfig},
    },
};
use rustls::pki_types::CertificateDer;
use talkoot_protocol::identity::{Keypair, MemberId};

use super::{
    congestion::{self, SteadyConfig},
    error::BulkError,
    wire,
};
use crate::control::peer::{p2p_keypair, peer_of};

/// A peer that says nothing for this long is gone.
const IDLE: VarInt = VarInt::from_u32(15_000);
/// So that a quiet peer is not taken for a gone one.
const KEEP_ALIVE: Duration = Duration::from_secs(4);
/// Receive windows in bytes: 100 Mbit/s over 800 ms, far beyond any home line.
const WINDOW_BYTES: u32 = 10_000_000;
/// What a connection may send us before we ask it for anything long: all the requests that it may have open. Otherwise a crowd
/// of strangers could each make us hold a window of what nobody reads.
const FIRST_WINDOW_BYTES: u32 = MAX_STREAMS * (wire::MAX_FRAME_BYTES as u32 + 2);
/// The smallest window that a limit makes: some dozen packets.
const LEAST_WINDOW_BYTES: u32 = 64 << 10;
/// Requests a peer may have open at once on one connection.
const MAX_STREAMS: u32 = 32;

fn identity_error(error: impl std::fmt::Display) -> BulkError {
    BulkError::Identity { reason: error.to_string() }
}

/// Our key as libp2p's certificates want it.
fn libp2p_key(key: &Keypair) -> Result<identity::Keypair, BulkError> {
    p2p_keypair(key).ok_or_else(|| identity_error("libp2p does not take the ed25519 key"))
}

/// The window of a connection over which we fetch, where the donor's limit lets `limit` bytes be sent ahead.
pub(super) fn window(limit: Option<u64>) -> VarInt {
    let bytes = limit.map_or(WINDOW_BYTES, |bytes| {
        u32::try_from(bytes).unwrap_or(WINDOW_BYTES).clamp(LEAST_WINDOW_BYTES, WINDOW_BYTES)
    });
    bytes.into()
}

/// Settings of each connection; `window` bounds what a peer may send ahead in one stream, in bytes. Whoever fetches over a
/// connection widens its own window first.
pub(super) fn transport(window: VarInt) -> Arc<TransportConfig> {
    let mut config = settings(window);
    config.receive_window(FIRST_WINDOW_BYTES.into());
    Arc::new(config)
}

/// As [`transport`], with the window open for everything.
pub(super) fn settings(window: VarInt) -> TransportConfig {
    let (packets, delay) = congestion::UNACKNOWLEDGED;
    let mut acknowledgements = AckFrequencyConfig::default();
    acknowledgements.ack_eliciting_threshold(packets.into()).max_ack_delay(Some(delay));
    let mut config = TransportConfig::default();
    config
        .ack_frequency_config(Some(acknowledgements))
        .congestion_controller_factory(Arc::new(SteadyConfig))
        .stream_receive_window(window)
        .receive_window(window)
        .send_window(WINDOW_BYTES.into())
        .max_idle_timeout(Some(IdleTimeout::from(IDLE)))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_concurrent_bidi_streams(MAX_STREAMS.into())
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None);
    config
}

/// Settings for dialling `peer` and nobody else.
pub(super) fn client(
    key: &Keypair,
    peer: &MemberId,
    alpn: &[u8],
    transport: Arc<TransportConfig>,
) -> Result<ClientConfig, BulkError> {
    let peer = peer_of(peer).ok_or_else(|| identity_error(format!("member {peer} is not an ed25519 key")))?;
    let mut tls = client::config(&libp2p_key(key)?, peer)?;
    tls.alpn_protocols = vec![alpn.to_vec()];
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).map_err(identity_error)?));
    config.transport_config(transport);
    Ok(config)
}

/// Settings for being dialled by anybody who has an identity.
pub(super) fn server(
    key: &Keypair,
    alpn: &[u8],
    transport: Arc<TransportConfig>,
) -> Result<ServerConfig, BulkError> {
    let mut tls = libp2p_tls::make_server_config(&libp2p_key(key)?).map_err(identity_error)?;
    tls.alpn_protocols = vec![alpn.to_vec()];
    let mut config =
        ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).map_err(identity_error)?));
    config.transport_config(transport);
    Ok(config)
}

/// Who is at the other end, proved by TLS.
pub(super) fn identity_of(connection: &Connection) -> Option<PeerId> {
    let certificates = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    Some(certificate::parse(certificates.first()?).ok()?.peer_id())
}

/// Signs stateless resets with a key that outlives the process: a member that was killed and comes back on the same port
/// can tell its peers at their next packet that the old connections are dead, rather than let them wait for the idle time.
struct ResetKey([u8; 32]);

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        let signature = blake3::keyed_hash(&self.0, data);
        let length = signature_out.len().min(blake3::OUT_LEN);
        signature_out[..length].copy_from_slice(&signature.as_bytes()[..length]);
    }

    fn signature_len(&self) -> usize {
        blake3::OUT_LEN
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let signature = <[u8; blake3::OUT_LEN]>::try_from(signature).map_err(|_| CryptoError)?;
        // compared in constant time
        if blake3::keyed_hash(&self.0, data) == signature { Ok(()) } else { Err(CryptoError) }
    }
}

/// Connection ids that nobody can guess: a hash of a number under a key of this process.
struct Ids {
    key: [u8; 32],
    next: u64,
}

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        self.next = self.next.wrapping_add(1);
        let id = blake3::keyed_hash(&self.key, &self.next.to_le_bytes());
        ConnectionId::new(&id.as_bytes()[..self.cid_len()])
    }

    fn cid_len(&self) -> usize {
        8
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// Settings of the socket itself.
pub(super) fn endpoint(key: &Keypair) -> Result<EndpointConfig, BulkError> {
    let mut ids = [0; 32];
    getrandom::fill(&mut ids).map_err(identity_error)?;
    let reset = blake3::derive_key("talkoot bulk plane, stateless reset, version 1", &key.seed());
    let mut config = EndpointConfig::new(Arc::new(ResetKey(reset)));
    // quinn's own generator takes an unknown id for noise, and would not answer it with a reset
    config.cid_generator(move || Box::new(Ids { key: ids, next: 0 }));
    Ok(config)
}

//! Connections under the member's key: QUIC, TCP, circuits through relays; and a count of what goes through their streams.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{AsyncRead, AsyncWrite};
use libp2p::{
    PeerId, Transport,
    core::{
        muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent},
        transport::Boxed,
        upgrade::Version,
    },
    identity::Keypair,
    noise, quic, relay, tcp, yamux,
};

/// Silence after which a connection is dead: a peer that was killed, a cable that was pulled. Longer than any pause of a busy
/// machine that still deserves its place.
const IDLE_TIMEOUT: Duration = Duration::from_secs(8);
/// How often QUIC breaks its own silence; three may be lost before [`IDLE_TIMEOUT`].
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// How long a handshake may take. Short, because QUIC repeats its first packet ever more rarely: a fresh attempt reaches a
/// restarted peer sooner than an old one.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a circuit may take: two lines one after the other, and three round trips over both.
const CIRCUIT_TIMEOUT: Duration = Duration::from_secs(8);
/// Streams that a peer may have open at once on one connection.
const MAX_STREAMS: u32 = 128;
/// Bytes that may wait unread on one stream: a page of ledger entries.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// Bytes that may wait unread on one connection; over all connections that there may be, 1 GiB. Small messages over a line
/// of 100 ms still go at 160 Mbit/s.
const CONNECTION_WINDOW_BYTES: u32 = 2 << 20;

/// Bytes in and out of the streams of all connections.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    sent: AtomicU64,
    received: AtomicU64,
}

impl Counters {
    /// Sent and received so far.
    pub(crate) fn read(&self) -> (u64, u64) {
        // statistics: no other memory depends on their order
        (self.sent.load(Ordering::Relaxed), self.received.load(Ordering::Relaxed))
    }

    fn add(counter: &AtomicU64, bytes: usize) {
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// Connections of whatever kind, to members with proven ids.
type Connections = Boxed<(PeerId, StreamMuxerBox)>;

/// The transport: QUIC, TCP for networks that let no UDP through, and circuits through relays.
///
/// A circuit is encrypted between its ends. Its bytes are not counted here: they are bytes of a stream to the relay, which
/// is.
pub(crate) fn build(
    key: &Keypair,
    counters: Arc<Counters>,
) -> Result<(Connections, relay::client::Behaviour), String> {
    let security = || noise::Config::new(key).map_err(|error| error.to_string());
    let quic = quic::tokio::Transport::new(quic_config(key))
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
        .boxed();
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .upgrade(Version::V1)
        .authenticate(security()?)
        .multiplex(muxing())
        .timeout(HANDSHAKE_TIMEOUT)
        .boxed();
    let (circuits, relay) = relay::client::new(key.public().to_peer_id());
    let circuits = circuits
        .upgrade(Version::V1)
        .authenticate(security()?)
        .multiplex(muxing())
        .timeout(CIRCUIT_TIMEOUT)
        .boxed();
    let direct = quic
        .or_transport(tcp)
        .map(move |either, _| {
            let (peer, inner) = either.into_inner();
            (peer, StreamMuxerBox::new(Counted { inner, counters: counters.clone() }))
        })
        .boxed();
    // circuits first: the others would take a circuit's address for the relay's
    let all = circuits.or_transport(direct).map(|either, _| either.into_inner()).boxed();
    Ok((all, relay))
}

fn quic_config(key: &Keypair) -> quic::Config {
    let mut config = quic::Config::new(key);
    config.max_idle_timeout = u32::try_from(IDLE_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
    config.keep_alive_interval = KEEP_ALIVE;
    config.handshake_timeout = HANDSHAKE_TIMEOUT;
    config.max_concurrent_stream_limit = MAX_STREAMS;
    config.max_stream_data = STREAM_WINDOW_BYTES;
    config.max_connection_data = CONNECTION_WINDOW_BYTES;
    config
}

fn muxing() -> yamux::Config {
    let mut config = yamux::Config::default();
    config.set_max_num_streams(MAX_STREAMS as usize);
    config
}

/// A connection or a stream whose bytes are counted.
#[derive(Debug)]
struct Counted<T> {
    inner: T,
    counters: Arc<Counters>,
}

impl<T: StreamMuxer + Unpin> Counted<T> {
    fn inner(self: Pin<&mut Self>) -> Pin<&mut T> {
        Pin::new(&mut self.get_mut().inner)
    }
}

impl<T> StreamMuxer for Counted<T>
where
    T: StreamMuxer + Unpin,
    T::Substream: Unpin,
{
    type Substream = Counted<T::Substream>;
    type Error = T::Error;

    fn poll_inbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Self::Substream, T::Error>> {
        let counters = self.counters.clone();
        self.inner().poll_inbound(cx).map_ok(|inner| Counted { inner, counters })
    }

    fn poll_outbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Self::Substream, T::Error>> {
        let counters = self.counters.clone();
        self.inner().poll_outbound(cx).map_ok(|inner| Counted { inner, counters })
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        self.inner().poll_close(cx)
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, T::Error>> {
        self.inner().poll(cx)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let got = ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        Counters::add(&self.counters.received, got);
        Poll::Ready(Ok(got))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let put = ready!(Pin::new(&mut self.inner).poll_write(cx, buffer))?;
        Counters::add(&self.counters.sent, put);
        Poll::Ready(Ok(put))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

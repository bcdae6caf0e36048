//! QUIC with the member's key, and a count of what goes through its streams.

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
    },
    identity::Keypair,
    quic,
};

/// Silence after which a connection is dead: a peer that was killed, a cable that was pulled. Longer than any pause of a busy
/// machine that still deserves its place.
const IDLE_TIMEOUT: Duration = Duration::from_secs(8);
/// How often QUIC breaks its own silence; three may be lost before [`IDLE_TIMEOUT`].
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// How long a handshake may take. Short, because QUIC repeats its first packet ever more rarely: a fresh attempt reaches a
/// restarted peer sooner than an old one.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);

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

/// The transport. TCP and relayed connections join here with `or_transport`, each through the same count.
pub(crate) fn build(key: &Keypair, counters: Arc<Counters>) -> Boxed<(PeerId, StreamMuxerBox)> {
    let mut config = quic::Config::new(key);
    config.max_idle_timeout = u32::try_from(IDLE_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
    config.keep_alive_interval = KEEP_ALIVE;
    config.handshake_timeout = HANDSHAKE_TIMEOUT;
    quic::tokio::Transport::new(config)
        .map(move |(peer, muxer), _| {
            (peer, StreamMuxerBox::new(Counted { inner: muxer, counters: counters.clone() }))
        })
        .boxed()
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

//! The bulk socket, as QUIC sees it and as hole punching does: probes are taken out of what comes in.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use quinn::{
    AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use socket2::SockRef;
use tokio::sync::mpsc;

use super::probe::{PROBE_BYTES, Tag, tag_of};

/// Hops of a probe that only our own router shall see.
const NEAR_HOPS: u32 = 2;
/// Probes that wait for their attempt; more are dropped.
const WAITING: usize = 32;

/// What the system is asked to hold of what comes in while this process does not run, in bytes: a line of 1 Gbit/s for 33 ms. The
/// usual 208 KiB hold less than 100 packets, as each counts with all the memory that it lies in, and a process that shares its
/// processors loses some of every burst.
const RECEIVE_BYTES: usize = 4 << 20;

/// A probe and where it came from.
pub(crate) type Heard = (SocketAddr, [u8; PROBE_BYTES]);

/// Sends probes over a bulk socket and hears those that come in on it.
#[derive(Clone)]
pub(crate) struct Probes {
    raw: Arc<UdpSocket>,
    attempts: Arc<Mutex<BTreeMap<Tag, mpsc::Sender<Heard>>>>,
}

impl fmt::Debug for Probes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probes").field("socket", &self.raw).finish_non_exhaustive()
    }
}

impl Probes {
    /// Sends one; what the system does not take now is as good as lost on the way.
    pub(crate) fn send(&self, to: SocketAddr, probe: &[u8; PROBE_BYTES]) {
        if let Err(error) = self.raw.send_to(probe, to) {
            tracing::trace!(%to, %error, "a probe is not sent");
        }
    }

    /// Sends one that comes as far as the first router and not to the other one: ours then knows that we want to hear from
    /// there before anything comes, and the other one is told nothing unasked. A packet of QUIC's that goes out at this very
    /// moment may die as early; QUIC repeats it. IPv4 only; elsewhere nothing is sent.
    pub(crate) fn send_near(&self, to: SocketAddr, probe: &[u8; PROBE_BYTES]) {
        if !to.is_ipv4() {
            return;
        }
        let Ok(usual) = self.raw.ttl() else { return };
        if self.raw.set_ttl(NEAR_HOPS).is_ok() {
            self.send(to, probe);
        }
        if let Err(error) = self.raw.set_ttl(usual) {
            tracing::warn!(%error, "the bulk socket's packets die early; restart this process");
        }
    }

    /// Hears the probes with this tag until the listener is dropped.
    pub(crate) fn listen(&self, tag: Tag) -> Listener {
        let (sender, heard) = mpsc::channel(WAITING);
        self.attempts().insert(tag, sender);
        Listener { probes: self.clone(), tag, heard }
    }

    fn attempts(&self) -> std::sync::MutexGuard<'_, BTreeMap<Tag, mpsc::Sender<Heard>>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a packet is a probe; it goes to its attempt, if there is one.
    fn take(&self, from: SocketAddr, packet: &[u8]) -> bool {
        let Some(tag) = tag_of(packet) else { return false };
        if let Some(attempt) = self.attempts().get(&tag)
            && let Ok(probe) = packet.try_into()
        {
            let _ = attempt.try_send((from, probe)); // full, or over: no harm
        }
        true
    }
}

/// Hears the probes of one attempt.
#[derive(Debug)]
pub(crate) struct Listener {
    probes: Probes,
    tag: Tag,
    pub(crate) heard: mpsc::Receiver<Heard>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.probes.attempts().remove(&self.tag);
    }
}

/// The socket for QUIC, and its probes.
pub(super) fn wrap(socket: UdpSocket) -> io::Result<(Arc<dyn AsyncUdpSocket>, Probes)> {
    let buffer = SockRef::from(&socket);
    // systems that allow less give what they allow, or refuse
    let set = buffer.set_recv_buffer_size(RECEIVE_BYTES).and_then(|()| buffer.recv_buffer_size());
    if !set.as_ref().is_ok_and(|given| *given >= RECEIVE_BYTES) {
        tracing::debug!(
            ?set,
            wanted = RECEIVE_BYTES,
            "the bulk socket's receive buffer is smaller than it should be"
        );
    }
    let raw = Arc::new(socket.try_clone()?);
    let probes = Probes { raw, attempts: Arc::default() };
    let inner = TokioRuntime.wrap_udp_socket(socket)?;
    Ok((Arc::new(ProbeSocket { inner, probes: probes.clone() }), probes))
}

#[derive(Debug)]
struct ProbeSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    probes: Probes,
}

/// Takes the probes out of one received buffer, which holds one packet or several of one length, and closes the gaps.
/// Returns how many bytes are left.
fn without_probes(
    buffer: &mut [u8],
    length: usize,
    stride: usize,
    mut is_probe: impl FnMut(&[u8]) -> bool,
) -> usize {
    let (mut from, mut kept) = (0, 0);
    while from < length {
        let end = from.saturating_add(stride.max(1)).min(length);
        if !is_probe(&buffer[from..end]) {
            if kept != from {
                buffer.copy_within(from..end, kept);
            }
            kept += end - from;
        }
        from = end;
    }
    kept
}

impl AsyncUdpSocket for ProbeSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = self.inner.poll_recv(cx, bufs, meta);
        if let Poll::Ready(Ok(count)) = received {
            for (meta, buffer) in meta.iter_mut().zip(bufs).take(count) {
                let from = meta.addr;
                let length = meta.len.min(buffer.len());
                meta.len =
                    without_probes(buffer, length, meta.stride, |packet| self.probes.take(from, packet));
            }
        }
        received
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_no_probe_stays_in_its_order(
            packets in prop::collection::vec((any::<bool>(), any::<u8>()), 0..20),
            stride in 1_usize..50,
            last in 1_usize..50,
        ) {
            let mut buffer = Vec::new();
            let mut expected = Vec::new();
            for (index, (probe, fill)) in packets.iter().enumerate() {
                let length = if index + 1 == packets.len() { last.min(stride) } else { stride };
                let mut packet = vec![*fill | 1; length];
                if *probe {
                    packet[0] = 0;
                } else {
                    expected.extend_from_slice(&packet);
                }
                buffer.extend_from_slice(&packet);
            }
            let length = buffer.len();
            let kept = without_probes(&mut buffer, length, stride, |packet| packet[0] == 0);
            prop_assert_eq!(&buffer[..kept], &expected[..]);
        }
    }
}

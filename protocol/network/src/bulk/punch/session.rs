//! One attempt at a hole: probes to every address that the other side may have, until both have heard one.

use std::{net::SocketAddr, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::{
    probe::{Attempt, Kind, Side},
    socket::Probes,
};

/// Pause between two rounds of probes at first, while both sides begin.
const FAST: Duration = Duration::from_millis(20);
/// Rounds at that pace.
const FAST_ROUNDS: u32 = 15;
/// Pause between two rounds afterwards.
const SLOW: Duration = Duration::from_millis(100);
/// An attempt that has heard nothing for this long has failed.
const PATIENCE: Duration = Duration::from_millis(3000);
/// After this long with a ping and without a pong the hole is believed to be open: handshakes repeat themselves.
const BELIEF: Duration = Duration::from_millis(1000);
/// Pongs sent at the end, so that losing one does not leave the other side waiting.
const LAST_PONGS: usize = 3;

/// Makes our own router expect the other side, before that one is told to begin.
///
/// A packet that comes to a router unasked is dropped by most. Some take it for their own, and the port that it came to: the
/// hole would then be at another port than the one that was announced. Once this side has sent something to where the packet
/// comes from, it is not unasked any more.
pub(crate) fn prepare(probes: &Probes, attempt: &Attempt, side: Side, candidates: &[SocketAddr]) {
    for address in candidates {
        probes.send_near(*address, &attempt.probe(side, Kind::Ping));
    }
}

/// Probes until the other side has been heard; returns where it is.
pub(crate) async fn open(
    probes: &Probes,
    attempt: &Attempt,
    side: Side,
    candidates: &[SocketAddr],
) -> Option<SocketAddr> {
    let mut listener = probes.listen(attempt.tag);
    let begin = Instant::now();
    let mut heard: Option<(SocketAddr, Instant)> = None;
    for round in 0_u32.. {
        let now = Instant::now();
        match heard {
            Some((address, since)) if now.duration_since(since) >= BELIEF => return Some(address),
            None if now.duration_since(begin) >= PATIENCE => return None,
            _ => {}
        }
        let kind = if heard.is_some() { Kind::Pong } else { Kind::Ping };
        let known = heard.map(|(address, _)| address).filter(|address| !candidates.contains(address));
        for address in candidates.iter().copied().chain(known) {
            probes.send(address, &attempt.probe(side, kind));
        }
        let next = now + if round < FAST_ROUNDS { FAST } else { SLOW };
        loop {
            tokio::select! {
                probe = listener.heard.recv() => {
                    let (from, probe) = probe?;
                    let Some(kind) = attempt.read(side, &probe) else { continue };
                    if heard.is_none() {
                        heard = Some((from, Instant::now()));
                        probes.send(from, &attempt.probe(side, Kind::Pong));
                    }
                    if kind == Kind::Pong {
                        for _ in 0..LAST_PONGS {
                            probes.send(from, &attempt.probe(side, Kind::Pong));
                        }
                        return Some(from);
                    }
                }
                () = sleep_until(next) => break,
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use talkoot_protocol::identity::MemberId;

    use super::*;
    use crate::bulk::punch::endpoint;

    fn attempt() -> Attempt {
        Attempt::new((&MemberId::from_bytes([1; 32]), &[1; 16]), (&MemberId::from_bytes([2; 32]), &[2; 16]))
    }

    fn socket(seed: u8) -> (quinn::Endpoint, Probes, SocketAddr) {
        let key = talkoot_protocol::identity::Keypair::from_seed([seed; 32]);
        let transport = crate::bulk::tls::transport(crate::bulk::tls::window(None));
        let (endpoint, probes) = endpoint("127.0.0.1:0".parse().unwrap(), &key, transport).unwrap();
        let address = endpoint.local_addr().unwrap();
        (endpoint, probes, address)
    }

    #[tokio::test]
    async fn two_sides_find_each_other_among_wrong_addresses() {
        let (_one, one_probes, one) = socket(1);
        let (_two, two_probes, two) = socket(2);
        let nobody = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let attempt = attempt();
        let (right, wrong) = ([nobody, two], [nobody]);
        let offerer = open(&one_probes, &attempt, Side::Offerer, &right);
        // the answerer is told nothing true: it hears the offerer, and answers to where that came from
        let answerer = open(&two_probes, &attempt, Side::Answerer, &wrong);
        assert_eq!(tokio::join!(offerer, answerer), (Some(two), Some(one)));
    }

    #[tokio::test]
    async fn probes_of_another_attempt_open_nothing() {
        let (_one, one_probes, one) = socket(1);
        let (_two, two_probes, two) = socket(2);
        let other = Attempt::new(
            (&MemberId::from_bytes([1; 32]), &[9; 16]),
            (&MemberId::from_bytes([2; 32]), &[2; 16]),
        );
        let attempt = attempt();
        let (to_two, to_one) = ([two], [one]);
        let offerer = open(&one_probes, &attempt, Side::Offerer, &to_two);
        let answerer = open(&two_probes, &other, Side::Answerer, &to_one);
        assert_eq!(tokio::join!(offerer, answerer), (None, None));
    }
}

//! Opening a hole, as the one who offers and as the one who answers.
//!
//! ```text
//! offerer                                  answerer
//!   Echo --------------------------------->  Gone          the round trip's time
//!   Offer(nonce, candidates) ------------->  looks where its socket is seen; makes its router expect the offerer
//!   <------------- Answer(nonce, candidates)
//!   makes its router expect the answerer
//!   Go ----------------------------------->  begins to probe
//!   half a round trip later: begins to probe
//!   <======== probes, from the bulk sockets, until both have heard ========>
//!   QUIC handshake ----------------------->  accepts; dials itself if nothing comes
//! ```

use std::{collections::BTreeMap, net::SocketAddr, sync::PoisonError, time::Duration};

use talkoot_protocol::identity::MemberId;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use super::{Outcome, Shared, candidates, plan::dialable};
use crate::{
    bulk::punch::{
        FreshSocket,
        probe::{Attempt, Side},
        session,
    },
    control::route::Route,
    signal::{Reply, Signal},
};

/// How long an address that need not be right is tried before a hole is opened.
const DIRECT: Duration = Duration::from_millis(1500);
/// How long an answerer waits for the offerer's Go.
const BEFORE_GO: Duration = Duration::from_secs(10);
/// How long an answerer waits for the offerer's handshake before it makes its own.
const BEFORE_DIALLING: Duration = Duration::from_secs(2);
/// Offers that wait for their Go.
const MAX_DOORS: usize = 16;

/// Another member's offer.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) from: MemberId,
    pub(super) nonce: [u8; 16],
    pub(super) attempt: u8,
    pub(super) candidates: Vec<SocketAddr>,
}

/// Offers that we have answered, until the offerer says go. One for each member: a new offer replaces the old one, and an
/// offer that comes twice opens one door.
#[derive(Debug, Default)]
pub(super) struct Doors(BTreeMap<MemberId, ([u8; 16], oneshot::Sender<()>)>);

impl Doors {
    /// Begins with the offer of this nonce, if it waits; once.
    pub(super) fn open(&mut self, from: MemberId, nonce: [u8; 16]) -> bool {
        match self.0.remove(&from) {
            Some((known, go)) if known == nonce => go.send(()).is_ok(),
            Some(other) => {
                self.0.insert(from, other);
                false
            }
            None => false,
        }
    }

    fn wait(&mut self, from: MemberId, nonce: [u8; 16]) -> Option<oneshot::Receiver<()>> {
        self.0.retain(|_, (_, go)| !go.is_closed());
        if self.0.len() >= MAX_DOORS && !self.0.contains_key(&from) {
            return None;
        }
        let (go, gone) = oneshot::channel();
        self.0.insert(from, (nonce, go));
        Some(gone)
    }
}

fn nonce() -> Result<[u8; 16], String> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(|error| error.to_string())?;
    Ok(nonce)
}

/// The main socket at first; a new one when that failed, as a router may have taken a packet that came too early for its own.
fn socket(shared: &Shared, attempt: u8) -> Result<Option<FreshSocket>, String> {
    if attempt == 0 {
        return Ok(None);
    }
    shared.bulk.fresh_socket().map(Some).map_err(|error| error.to_string())
}

async fn connect(
    shared: &Shared,
    socket: Option<FreshSocket>,
    member: MemberId,
    address: SocketAddr,
) -> Outcome {
    match socket {
        Some(socket) => {
            let connection = shared.bulk.connect_from(&socket, member, address).await?;
            Ok((connection, Some(socket)))
        }
        None => Ok((shared.bulk.connect(member, address).await?, None)),
    }
}

/// Offers `member` to open a hole, and does so.
pub(super) async fn offer(shared: &Shared, member: MemberId, route: Route, tries: u32) -> Outcome {
    if let Some(address) = dialable(&route)
        && let Ok(Ok(connection)) = timeout(DIRECT, shared.bulk.connect(member, address)).await
    {
        return Ok((connection, None));
    }
    let attempt = u8::try_from(tries).unwrap_or(u8::MAX);
    let socket = socket(shared, attempt)?;
    let candidates = candidates::gather(shared, socket.as_ref()).await;
    let say =
        |signal| async { shared.control.signal(member, signal).await.map_err(|error| error.to_string()) };
    let asked = Instant::now();
    say(Signal::Echo).await?;
    let round_trip = asked.elapsed();
    let nonce = nonce()?;
    let symmetric = candidates.symmetric;
    let offer = Signal::Offer { nonce, attempt, candidates: candidates.addresses };
    let (their_nonce, theirs) = match say(offer).await? {
        Reply::Answer { nonce, candidates } => (nonce, candidates),
        _ => return Err("the member takes no offer now".to_owned()),
    };
    let names = Attempt::new((&shared.me, &nonce), (&member, &their_nonce));
    let probes = socket.as_ref().map_or(shared.bulk.probes(), |socket| &socket.probes).clone();
    session::prepare(&probes, &names, Side::Offerer, &theirs);
    let probing = async {
        tokio::time::sleep(round_trip / 2).await;
        session::open(&probes, &names, Side::Offerer, &theirs).await
    };
    let (_, heard) = tokio::join!(say(Signal::Go { nonce }), probing);
    let Some(address) = heard else {
        return Err(format!("no probe was heard ({symmetric} that our router is symmetric)"));
    };
    tracing::debug!(member = %member.short(), %address, "a hole is open");
    connect(shared, socket, member, address).await
}

/// Answers an offer, and opens the hole when the offerer says go.
pub(super) async fn answer(shared: &Shared, offer: Offer, reply: oneshot::Sender<Reply>) -> Outcome {
    let Offer { from, nonce: their_nonce, attempt, candidates: theirs } = offer;
    let socket = socket(shared, attempt)?;
    let ours = candidates::gather(shared, socket.as_ref()).await;
    let nonce = nonce()?;
    let go = {
        let mut doors = shared.doors.lock().unwrap_or_else(PoisonError::into_inner);
        doors.wait(from, their_nonce).ok_or("too many offers wait")?
    };
    let names = Attempt::new((&from, &their_nonce), (&shared.me, &nonce));
    let probes = socket.as_ref().map_or(shared.bulk.probes(), |socket| &socket.probes).clone();
    session::prepare(&probes, &names, Side::Answerer, &theirs);
    let _ = reply.send(Reply::Answer { nonce, candidates: ours.addresses });
    timeout(BEFORE_GO, go)
        .await
        .map_err(|_| "the offerer does not say go")?
        .map_err(|_| "another offer came")?;
    let heard = session::open(&probes, &names, Side::Answerer, &theirs).await;
    let address = heard.ok_or("no probe was heard")?;
    // whichever comes first is kept: the keeper closes the other by the ids
    tokio::time::sleep(BEFORE_DIALLING).await;
    connect(shared, socket, from, address).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_opens_once_and_only_for_its_nonce() {
        let (one, two) = (MemberId::from_bytes([1; 32]), MemberId::from_bytes([2; 32]));
        let mut doors = Doors::default();
        let mut waiting = doors.wait(one, [1; 16]).unwrap();
        assert!(!doors.open(two, [1; 16]), "another member's go");
        assert!(!doors.open(one, [2; 16]), "another nonce");
        assert!(doors.open(one, [1; 16]));
        assert_eq!(waiting.try_recv(), Ok(()));
        assert!(!doors.open(one, [1; 16]), "a go that is said again");
        let mut old = doors.wait(one, [3; 16]).unwrap();
        let _new = doors.wait(one, [4; 16]).unwrap();
        assert!(old.try_recv().is_err(), "a newer offer replaces it");
        assert!(!doors.open(one, [3; 16]));
    }

    #[test]
    fn doors_are_bounded_and_those_that_nobody_waits_at_are_taken_away() {
        let mut doors = Doors::default();
        let member = |index: usize| MemberId::from_bytes([u8::try_from(index).unwrap(); 32]);
        let waiting: Vec<_> =
            (0..MAX_DOORS).map(|index| doors.wait(member(index), [0; 16]).unwrap()).collect();
        assert!(doors.wait(member(MAX_DOORS), [0; 16]).is_none());
        drop(waiting);
        assert!(doors.wait(member(MAX_DOORS), [0; 16]).is_some());
    }
}

//! Whom to dial: members we were told to meet, members we heard of, members on the local network, members of last time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    time::Duration,
};

use libp2p::{
    Multiaddr, PeerId,
    swarm::dial_opts::{DialOpts, PeerCondition},
};
use talkoot_protocol::identity::MemberId;
use tokio::time::Instant;

use super::{
    Driver, MAX_ADDRESSES_PER_PEER,
    address::{Way, is_dialable, parse_bootstrap, way_of},
};
use crate::{
    control::{
        MAX_DIALLED_PEERS,
        peer::{member_of, peer_of},
    },
    error::NetworkError,
};

/// Pause between two attempts to reach one bootstrap member. Attempts overlap, as a handshake that began while the other
/// side was down repeats itself too rarely.
const REDIAL_EVERY: Duration = Duration::from_millis(750);
/// Every so many attempts TCP is tried: what lets no UDP through is rare.
const TCP_EVERY: u32 = 3;
/// How often Kademlia is asked who is near us, when nothing happens.
const LOOK_AROUND_EVERY: Duration = Duration::from_secs(5);
/// How often the members that we know are written down.
const WRITE_EVERY: Duration = Duration::from_secs(15);
/// Members that are written down.
const MAX_WRITTEN: usize = 64;
/// Bytes of the list that are read.
const MAX_LIST_BYTES: usize = 256 << 10;
/// Attempts to reach a member of last time.
const MAX_TRIES: u32 = 24;
/// Neighbours on the local network that are remembered.
const MAX_NEIGHBOURS: usize = 64;

/// A member that we always want to be connected to.
#[derive(Debug, Default)]
struct Bootstrap {
    /// What we were told.
    given: Vec<Multiaddr>,
    /// What it said of itself when it was last met; it may have moved since we were told.
    learned: Vec<Multiaddr>,
    dialled: Option<Instant>,
    attempts: u32,
}

/// Members and where they may be.
#[derive(Debug)]
pub(super) struct Acquaintances {
    bootstrap: BTreeMap<PeerId, Bootstrap>,
    /// Members of last time, and how often they have been tried.
    former: BTreeMap<PeerId, (Vec<Multiaddr>, u32)>,
    neighbours: BTreeMap<PeerId, Vec<Multiaddr>>,
    /// What connected members said of themselves; others, as long as there is room.
    introduced: BTreeMap<PeerId, Vec<Multiaddr>>,
    /// Where to go when the first way fails.
    second: BTreeMap<PeerId, Vec<Multiaddr>>,
    look_around_at: Instant,
    file: Option<PathBuf>,
    written: BTreeSet<String>,
    write_at: Instant,
}

/// Reads a list of addresses, one a line; empty lines and lines that start with `#` are skipped.
fn read_list(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

impl Acquaintances {
    pub(super) fn new(me: PeerId, given: &[String], file: Option<PathBuf>) -> Result<Self, NetworkError> {
        let mut bootstrap: BTreeMap<PeerId, Bootstrap> = BTreeMap::new();
        for text in given {
            let (peer, address) = parse_bootstrap(text)?;
            bootstrap.entry(peer).or_default().given.push(address);
        }
        bootstrap.remove(&me); // a list for everybody may name us
        let mut former: BTreeMap<PeerId, (Vec<Multiaddr>, u32)> = BTreeMap::new();
        let list = file.as_ref().and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
        if list.len() <= MAX_LIST_BYTES {
            // our own list, rebuilt as we go: what cannot be read of it is no loss
            for (peer, address) in read_list(&list).filter_map(|line| parse_bootstrap(line).ok()) {
                if peer != me && former.len() < MAX_WRITTEN {
                    former.entry(peer).or_default().0.push(address);
                }
            }
        }
        let now = Instant::now();
        // members of last time are tried at once: whoever moved has to be the one who calls
        let look_around_at = if former.is_empty() { now + LOOK_AROUND_EVERY } else { now };
        Ok(Self {
            bootstrap,
            former,
            neighbours: BTreeMap::new(),
            introduced: BTreeMap::new(),
            second: BTreeMap::new(),
            look_around_at,
            file,
            written: BTreeSet::new(),
            write_at: now + WRITE_EVERY,
        })
    }

    pub(super) fn is_bootstrap(&self, peer: &PeerId) -> bool {
        self.bootstrap.contains_key(peer)
    }

    pub(super) fn look_soon(&mut self, after: Duration) {
        self.look_around_at = self.look_around_at.min(Instant::now() + after);
    }

    pub(super) fn forget_neighbours(&mut self, gone: &[(PeerId, Multiaddr)]) {
        for (peer, address) in gone {
            if let Some(addresses) = self.neighbours.get_mut(peer) {
                addresses.retain(|known| known != address);
                if addresses.is_empty() {
                    self.neighbours.remove(peer);
                }
            }
        }
    }

    /// A connected member has said where it can be met.
    pub(super) fn introduced(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        if let Some(bootstrap) = self.bootstrap.get_mut(&peer) {
            bootstrap.learned.clone_from(&addresses);
        }
        self.former.remove(&peer);
        if self.introduced.len() >= 2 * MAX_WRITTEN && !self.introduced.contains_key(&peer) {
            self.introduced.pop_first();
        }
        self.introduced.insert(peer, addresses);
    }

    /// Writes down whom we know, for the next start. A cache: failing is no harm.
    pub(super) fn write(&mut self) {
        let Some(file) = &self.file else { return };
        let mut lines = BTreeSet::new();
        for (peer, addresses) in self.introduced.iter().take(MAX_WRITTEN) {
            lines.extend(addresses.iter().take(4).map(|address| match way_of(address) {
                Some(Way::Circuit) => format!("{}/p2p/{peer}", without_target(address)),
                _ => format!("{address}/p2p/{peer}"),
            }));
        }
        if lines.is_empty() || lines == self.written {
            return;
        }
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let temporary = file.with_extension("tmp");
        match fs::write(&temporary, text).and_then(|()| fs::rename(&temporary, file)) {
            Ok(()) => self.written = lines,
            Err(error) => tracing::debug!(%error, "the list of members is not written"),
        }
    }
}

/// A circuit's address without the peer at its end.
fn without_target(address: &Multiaddr) -> Multiaddr {
    let mut address = address.clone();
    while !address.to_string().ends_with("/p2p-circuit") && address.pop().is_some() {}
    address
}

impl Driver {
    /// Dials members that we have to be connected to and have not heard lately.
    pub(super) fn dial_bootstrap(&mut self, now: Instant) {
        for (peer, bootstrap) in &mut self.known.bootstrap {
            let waited = bootstrap.dialled.is_none_or(|then| now.duration_since(then) >= REDIAL_EVERY);
            if !waited || !self.roster.is_suspect(peer, now) {
                continue;
            }
            bootstrap.attempts = bootstrap.attempts.wrapping_add(1);
            let tcp = bootstrap.attempts % TCP_EVERY == 0;
            let all: Vec<_> = bootstrap.given.iter().chain(&bootstrap.learned).cloned().collect();
            let of_turn = |address: &Multiaddr| (way_of(address) == Some(Way::Tcp)) == tcp;
            let turn: Vec<_> = all.iter().filter(|address| of_turn(address)).cloned().collect();
            let addresses = if turn.is_empty() { all } else { turn };
            if addresses.is_empty() {
                continue;
            }
            // beside a connection that may be dead, and beside attempts that may take long
            let options =
                DialOpts::peer_id(*peer).condition(PeerCondition::Always).addresses(addresses).build();
            bootstrap.dialled = Some(now);
            if let Err(error) = self.swarm.dial(options) {
                tracing::debug!(%peer, %error, "a bootstrap member is not dialled");
            }
        }
    }

    /// From now on the member is dialled for ever when it is lost, wherever it was last met.
    pub(super) fn keep(&mut self, member: MemberId) {
        let Some(peer) = peer_of(&member).filter(|peer| peer != self.swarm.local_peer_id()) else { return };
        let learned = self.known.introduced.get(&peer).cloned().unwrap_or_default();
        let bootstrap = self.known.bootstrap.entry(peer).or_default();
        if bootstrap.learned.is_empty() {
            bootstrap.learned = learned;
        }
    }

    /// Now and then: asks who is near us, calls whom we know, writes down whom we know.
    pub(super) fn look_around(&mut self, now: Instant) {
        if now >= self.known.write_at {
            self.known.write_at = now + WRITE_EVERY;
            self.known.write();
        }
        if now < self.known.look_around_at {
            return;
        }
        self.known.look_around_at = now + LOOK_AROUND_EVERY;
        for (_, tries) in self.known.former.values_mut() {
            *tries += 1;
        }
        self.known.former.retain(|_, (_, tries)| *tries <= MAX_TRIES);
        let former = self.known.former.iter().map(|(peer, (addresses, _))| (*peer, addresses.clone()));
        let neighbours = self.known.neighbours.iter().map(|(peer, addresses)| (*peer, addresses.clone()));
        for (peer, addresses) in former.chain(neighbours).collect::<Vec<_>>() {
            self.meet(peer, addresses);
        }
        if self.roster.len() > 0 && self.roster.len() < MAX_DIALLED_PEERS {
            let me = *self.swarm.local_peer_id();
            self.swarm.behaviour_mut().kad.get_closest_peers(me);
        }
        // a lost member may be known to others, at an address that we have not heard of
        let lost: Vec<_> =
            self.known.bootstrap.keys().filter(|peer| !self.roster.is_connected(peer)).copied().collect();
        if self.roster.len() > 0 {
            for peer in lost {
                self.swarm.behaviour_mut().kad.get_closest_peers(peer);
            }
        }
    }

    /// Members on the local network have said where they are.
    pub(super) fn on_neighbours(&mut self, found: Vec<(PeerId, Multiaddr)>) {
        let mut peers = BTreeSet::new();
        for (peer, mut address) in found {
            if matches!(address.iter().last(), Some(libp2p::multiaddr::Protocol::P2p(_))) {
                address.pop();
            }
            let room =
                self.known.neighbours.len() < MAX_NEIGHBOURS || self.known.neighbours.contains_key(&peer);
            if room && is_dialable(&address) && member_of(&peer).is_some() {
                let addresses = self.known.neighbours.entry(peer).or_default();
                if addresses.len() < MAX_ADDRESSES_PER_PEER && !addresses.contains(&address) {
                    addresses.push(address);
                }
                peers.insert(peer);
            }
        }
        for peer in peers {
            tracing::debug!(%peer, "a member on the local network");
            self.meet(peer, self.known.neighbours.get(&peer).cloned().unwrap_or_default());
        }
    }

    /// Dials a member that we have heard of, when there is room for it: by QUIC and through relays, by TCP if that fails.
    pub(super) fn meet(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let known = peer == *self.swarm.local_peer_id() || self.swarm.is_connected(&peer);
        let crowded = self.roster.len() >= MAX_DIALLED_PEERS && !self.known.is_bootstrap(&peer);
        if known
            || crowded
            || member_of(&peer).is_none()
            || self.swarm.behaviour().gate.is_banned(&peer, Instant::now())
        {
            return;
        }
        let dialable = addresses.into_iter().filter(is_dialable).take(MAX_ADDRESSES_PER_PEER);
        let (tcp, first): (Vec<_>, Vec<_>) = dialable.partition(|address| way_of(address) == Some(Way::Tcp));
        if first.is_empty() {
            return self.dial(peer, tcp);
        }
        if !tcp.is_empty() && self.known.second.len() < MAX_DIALLED_PEERS {
            self.known.second.insert(peer, tcp);
        }
        self.dial(peer, first);
    }

    fn dial(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        if addresses.is_empty() {
            return;
        }
        let condition = PeerCondition::DisconnectedAndNotDialing;
        let options = DialOpts::peer_id(peer).condition(condition).addresses(addresses).build();
        if let Err(error) = self.swarm.dial(options) {
            tracing::trace!(%peer, %error, "not dialled");
        }
    }

    /// The first way to a peer has failed.
    pub(super) fn on_not_reached(&mut self, peer: PeerId) {
        if let Some(addresses) = self.known.second.remove(&peer)
            && !self.swarm.is_connected(&peer)
        {
            self.dial(peer, addresses);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

    #[test]
    fn whom_we_know_is_written_down_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("peers.txt");
        let (me, peer) = (PeerId::random(), ONE.parse::<PeerId>().unwrap());
        let mut known = Acquaintances::new(me, &[], Some(file.clone())).unwrap();
        let addresses: Vec<Multiaddr> = [
            "/ip4/192.0.2.1/udp/1/quic-v1".to_owned(),
            format!("/ip4/192.0.2.9/udp/1/quic-v1/p2p/{ONE}/p2p-circuit/p2p/{ONE}"),
        ]
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
        known.introduced(peer, addresses);
        known.write();
        let again = Acquaintances::new(me, &[], Some(file.clone())).unwrap();
        let mut found = again.former[&peer].0.clone();
        found.sort();
        let circuit = format!("/ip4/192.0.2.9/udp/1/quic-v1/p2p/{ONE}/p2p-circuit");
        let expected: Vec<Multiaddr> =
            ["/ip4/192.0.2.1/udp/1/quic-v1", &circuit].map(|text| text.parse().unwrap()).into();
        assert_eq!(found, expected);
        fs::write(&file, "# a comment\n\nnonsense\n").unwrap();
        assert!(Acquaintances::new(me, &[], Some(file)).unwrap().former.is_empty());
    }

    #[test]
    fn what_a_bootstrap_member_says_is_added_to_what_we_were_told() {
        let given = format!("/ip4/192.0.2.1/udp/1/quic-v1/p2p/{ONE}");
        let peer = ONE.parse::<PeerId>().unwrap();
        let mut known = Acquaintances::new(PeerId::random(), &[given], None).unwrap();
        let moved: Multiaddr = "/ip4/192.0.2.1/udp/2/quic-v1".parse().unwrap();
        known.introduced(peer, vec![moved.clone()]);
        let bootstrap = &known.bootstrap[&peer];
        assert_eq!((bootstrap.given.len(), &bootstrap.learned), (1, &vec![moved]));
    }
}

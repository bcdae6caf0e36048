//! Where our sockets may be reached: as public members see them, and on our own network.

use std::{collections::BTreeSet, net::SocketAddr};

use futures::{StreamExt, stream};

use super::Shared;
use crate::{bulk::punch::FreshSocket, signal::MAX_CANDIDATES};

/// Public members asked where they see us: one may lie, and two that differ show a router that gives every destination
/// another port.
const WITNESSES: usize = 3;

/// What others may try.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Candidates {
    pub(super) addresses: Vec<SocketAddr>,
    /// Whether witnesses saw different ports: then a hole is unlikely.
    pub(super) symmetric: bool,
}

impl Candidates {
    fn new(observed: BTreeSet<SocketAddr>, local: Option<SocketAddr>) -> Self {
        let ports: BTreeSet<_> = observed.iter().map(SocketAddr::port).collect();
        let symmetric = ports.len() > 1;
        let local = local.filter(|local| !observed.contains(local));
        let addresses =
            observed.into_iter().chain(local).filter(crate::signal::is_sound).take(MAX_CANDIDATES);
        Self { addresses: addresses.collect(), symmetric }
    }
}

/// Asks public members where they see a socket of ours: the main one, or a fresh one.
pub(super) async fn gather(shared: &Shared, socket: Option<&FreshSocket>) -> Candidates {
    let routes = shared.control.routes().borrow().clone();
    let public = |hidden: bool, address| if hidden { None } else { address };
    let mut witnesses: Vec<_> = routes
        .into_iter()
        .filter_map(|(member, route)| Some((!route.seeder, member, public(route.hidden, route.address)?)))
        .collect();
    witnesses.sort_unstable(); // seeders first
    witnesses.truncate(WITNESSES);
    let first = witnesses.first().map(|(_, _, address)| *address);
    let observed = stream::iter(witnesses)
        .map(|(_, member, address)| async move {
            match socket {
                Some(socket) => shared.bulk.observed_from(socket, member, address).await,
                None => shared.bulk.observed(member, address).await,
            }
        })
        .buffer_unordered(WITNESSES)
        .filter_map(std::future::ready)
        .collect()
        .await;
    let local = first.and_then(|there| shared.bulk.local_towards(there, socket));
    let candidates = Candidates::new(observed, local);
    tracing::debug!(?candidates, "where our bulk socket may be reached");
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_differ_between_witnesses_show_a_symmetric_router() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let local = address("10.1.0.2:7");
        let same = Candidates::new(["192.0.2.1:7"].map(address).into(), Some(local));
        assert_eq!(same, Candidates { addresses: vec![address("192.0.2.1:7"), local], symmetric: false });
        let differing = Candidates::new(["192.0.2.1:7", "192.0.2.1:8"].map(address).into(), Some(local));
        assert!(differing.symmetric);
        assert_eq!(differing.addresses.len(), 3);
        let none = Candidates::new(BTreeSet::new(), Some(address("0.0.0.0:7")));
        assert_eq!(none, Candidates::default(), "an address of nobody is no candidate");
    }
}

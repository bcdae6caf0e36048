//! Addresses: what may be dialled, and what people may write.

use std::net::{IpAddr, SocketAddr};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

use crate::{control::peer::member_of, error::NetworkError};

/// A kind of way to a peer, the better ones first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// QUIC.
    Quic,
    /// A circuit through a relay, itself reached by QUIC or TCP.
    Circuit,
    /// TCP.
    Tcp,
}

/// Where to listen, in libp2p's words.
pub(super) fn listen_address(address: SocketAddr) -> Multiaddr {
    Multiaddr::from(address.ip()).with(Protocol::Udp(address.port())).with(Protocol::QuicV1)
}

/// Where to listen for TCP.
pub(super) fn tcp_listen_address(address: SocketAddr) -> Multiaddr {
    Multiaddr::from(address.ip()).with(Protocol::Tcp(address.port()))
}

/// The IP address at the start of a multiaddr.
pub(super) fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(IpAddr::V4(ip)),
        Protocol::Ip6(ip) => Some(IpAddr::V6(ip)),
        _ => None,
    }
}

/// The UDP port of a multiaddr.
pub(super) fn port_of(address: &Multiaddr) -> Option<u16> {
    match address.iter().nth(1)? {
        Protocol::Udp(port) => Some(port),
        _ => None,
    }
}

/// Whether it goes through a relay.
pub(super) fn is_circuit(address: &Multiaddr) -> bool {
    address.iter().any(|part| matches!(part, Protocol::P2pCircuit))
}

/// Whether it may be dialled, and how: an IP address of somebody, a port, QUIC or TCP, perhaps a relay's id and a circuit,
/// and at most the peer's id after that.
pub(super) fn way_of(address: &Multiaddr) -> Option<Way> {
    ip_of(address).filter(|ip| !ip.is_unspecified() && !ip.is_multicast())?;
    let mut parts = address.iter().skip(1).peekable();
    let direct = match parts.next()? {
        Protocol::Udp(port) if port != 0 => {
            parts.next_if_eq(&Protocol::QuicV1)?;
            Way::Quic
        }
        Protocol::Tcp(port) if port != 0 => Way::Tcp,
        _ => return None,
    };
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (None | Some(Protocol::P2p(_)), None, None, None) => Some(direct),
        (Some(Protocol::P2p(_)), Some(Protocol::P2pCircuit), None | Some(Protocol::P2p(_)), None) => {
            Some(Way::Circuit)
        }
        _ => None,
    }
}

/// Whether our transport can dial it.
pub(super) fn is_dialable(address: &Multiaddr) -> bool {
    way_of(address).is_some()
}

/// Reads an address of the bootstrap list.
pub(super) fn parse_bootstrap(text: &str) -> Result<(PeerId, Multiaddr), NetworkError> {
    let bad = |reason: String| NetworkError::BadAddress { text: text.chars().take(200).collect(), reason };
    let mut address: Multiaddr = text.parse().map_err(|error| bad(format!("{error}")))?;
    let Some(Protocol::P2p(peer)) = address.pop() else {
        return Err(bad("it does not end in /p2p/<peer id>".to_owned()));
    };
    if member_of(&peer).is_none() {
        return Err(bad(format!("{peer} is not made from an ed25519 key")));
    }
    if !is_dialable(&address) {
        return Err(bad(format!(
            "{address} is not an IP address with a UDP port and quic-v1, or with a TCP port"
        )));
    }
    Ok((peer, address))
}

/// Reads an address that others shall be told of us.
pub(super) fn parse_announced(text: &str) -> Result<Multiaddr, NetworkError> {
    let bad = |reason: String| NetworkError::BadAddress { text: text.chars().take(200).collect(), reason };
    let address: Multiaddr = text.parse().map_err(|error| bad(format!("{error}")))?;
    if !matches!(way_of(&address), Some(Way::Quic | Way::Tcp))
        || address.iter().any(|part| matches!(part, Protocol::P2p(_)))
    {
        return Err(bad(
            "an announced address is an IP address with a UDP port and quic-v1, or with a TCP port"
                .to_owned(),
        ));
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PEER: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

    fn reason(text: &str) -> String {
        match parse_bootstrap(text) {
            Err(NetworkError::BadAddress { text: named, reason }) => {
                assert_eq!(named, text);
                reason
            }
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_bootstrap_address_is_taken_apart_or_refused_for_its_fault() {
        let (peer, address) =
            parse_bootstrap(&format!("/ip4/192.0.2.1/udp/4001/quic-v1/p2p/{PEER}")).unwrap();
        assert_eq!(peer.to_string(), PEER);
        assert_eq!(address.to_string(), "/ip4/192.0.2.1/udp/4001/quic-v1");
        assert!(parse_bootstrap(&format!("/ip6/2001:db8::1/udp/4001/quic-v1/p2p/{PEER}")).is_ok());
        assert!(reason("/ip4/192.0.2.1/udp/4001/quic-v1").contains("/p2p/"));
        assert!(parse_bootstrap(&format!("/ip4/192.0.2.1/tcp/4001/p2p/{PEER}")).is_ok());
        assert!(reason(&format!("/ip4/192.0.2.1/udp/4001/p2p/{PEER}")).contains("quic-v1"));
        assert!(reason(&format!("/ip4/192.0.2.1/tcp/0/p2p/{PEER}")).contains("TCP port"));
        assert!(reason(&format!("/ip4/0.0.0.0/udp/4001/quic-v1/p2p/{PEER}")).contains("IP address"));
        assert!(reason(&format!("/ip4/192.0.2.1/udp/0/quic-v1/p2p/{PEER}")).contains("UDP port"));
        let rsa = "/ip4/192.0.2.1/udp/4001/quic-v1/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N";
        assert!(reason(rsa).contains("ed25519"));
        reason("192.0.2.1:4001");
        reason("");
    }

    #[test]
    fn ways_are_told_apart_and_what_is_none_is_not_dialled() {
        let way = |text: String| way_of(&text.parse().unwrap());
        let circuit = format!("/ip4/192.0.2.1/udp/1/quic-v1/p2p/{PEER}/p2p-circuit");
        assert_eq!(way(circuit.clone()), Some(Way::Circuit));
        assert_eq!(way(format!("{circuit}/p2p/{PEER}")), Some(Way::Circuit));
        assert_eq!(way(format!("/ip4/192.0.2.1/tcp/1/p2p/{PEER}/p2p-circuit")), Some(Way::Circuit));
        assert_eq!(way("/ip4/192.0.2.1/tcp/1".to_owned()), Some(Way::Tcp));
        assert_eq!(way("/ip6/2001:db8::1/udp/1/quic-v1".to_owned()), Some(Way::Quic));
        for bad in [
            format!("{circuit}/p2p/{PEER}/p2p-circuit"),
            "/ip4/192.0.2.1/udp/1/quic-v1/p2p-circuit".to_owned(),
            "/ip4/224.0.0.1/udp/1/quic-v1".to_owned(),
            "/ip4/192.0.2.1/tcp/1/ws".to_owned(),
            "/dns4/example.org/tcp/1".to_owned(),
        ] {
            assert_eq!(way(bad.clone()), None, "{bad}");
        }
    }

    #[test]
    fn listening_addresses_keep_their_port() {
        assert_eq!(listen_address("0.0.0.0:7".parse().unwrap()).to_string(), "/ip4/0.0.0.0/udp/7/quic-v1");
        assert_eq!(listen_address("[::1]:7".parse().unwrap()).to_string(), "/ip6/::1/udp/7/quic-v1");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(/ip4/|/udp/|/p2p/|/quic-v1|[0-9.]{1,8}|\\PC){0,12}") {
            let _ = parse_bootstrap(&text);
        }
    }
}

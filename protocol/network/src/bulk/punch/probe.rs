//! The packets that open holes: 32 bytes that no QUIC endpoint takes for its own.
//!
//! | bytes | what |
//! |---:|---|
//! | 6 | `00 "tkp1" 00`: QUIC version 1 sets the second highest bit of every packet's first byte |
//! | 1 | 0 ping, 1 pong: I have heard you |
//! | 1 | 0 from the offerer, 1 from the answerer |
//! | 8 | tag of the attempt |
//! | 16 | BLAKE3 of the 16 bytes before, keyed with the attempt's key, cut to 16 |
//!
//! Key and tag follow from the nonces and the names of both sides. Who can read the packets can send them again from
//! elsewhere; all that comes of it is a handshake that fails, since TLS pins the peer.

use talkoot_protocol::identity::MemberId;

/// Length of a probe in bytes.
pub(crate) const PROBE_BYTES: usize = 32;
const MAGIC: [u8; 6] = *b"\0tkp1\0";

/// Names an attempt among others.
pub(crate) type Tag = [u8; 8];

/// Which side of an attempt we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Who made the offer.
    Offerer,
    /// Who answered it.
    Answerer,
}

/// What a probe says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Do you hear me?
    Ping,
    /// I have heard you.
    Pong,
}

/// One attempt, as both sides know it and nobody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attempt {
    key: [u8; 32],
    /// In each of its probes.
    pub(crate) tag: Tag,
}

impl Attempt {
    /// The attempt that these nonces make, between these members.
    pub(crate) fn new(offerer: (&MemberId, &[u8; 16]), answerer: (&MemberId, &[u8; 16])) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("talkoot bulk plane, hole punching, version 1");
        for (member, nonce) in [offerer, answerer] {
            hasher.update(member.as_bytes()).update(nonce);
        }
        let mut out = [0; 40];
        hasher.finalize_xof().fill(&mut out);
        let (mut key, mut tag) = ([0; 32], [0; 8]);
        key.copy_from_slice(&out[..32]);
        tag.copy_from_slice(&out[32..]);
        Self { key, tag }
    }

    /// A probe.
    pub(crate) fn probe(&self, side: Side, kind: Kind) -> [u8; PROBE_BYTES] {
        let mut bytes = [0; PROBE_BYTES];
        bytes[..6].copy_from_slice(&MAGIC);
        bytes[6] = u8::from(kind == Kind::Pong);
        bytes[7] = u8::from(side == Side::Answerer);
        bytes[8..16].copy_from_slice(&self.tag);
        let mac = blake3::keyed_hash(&self.key, &bytes[..16]);
        bytes[16..].copy_from_slice(&mac.as_bytes()[..16]);
        bytes
    }

    /// What a packet of the other side says; nothing when it is not one, or is our own come back.
    pub(crate) fn read(&self, ours: Side, packet: &[u8]) -> Option<Kind> {
        let theirs = if ours == Side::Offerer { Side::Answerer } else { Side::Offerer };
        [Kind::Ping, Kind::Pong].into_iter().find(|kind| {
            let expected = self.probe(theirs, *kind);
            // in constant time over the part that is secret
            packet.len() == PROBE_BYTES
                && packet[..16] == expected[..16]
                && packet[16..].iter().zip(&expected[16..]).fold(0, |all, (one, two)| all | (one ^ two)) == 0
        })
    }
}

/// The tag of a packet that looks like a probe; QUIC gets all others.
pub(crate) fn tag_of(packet: &[u8]) -> Option<[u8; 8]> {
    let probe: &[u8; PROBE_BYTES] = packet.try_into().ok()?;
    if probe[..6] != MAGIC || probe[6] > 1 || probe[7] > 1 {
        return None;
    }
    probe[8..16].try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn attempt(nonce: u8) -> Attempt {
        let (one, two) = (MemberId::from_bytes([1; 32]), MemberId::from_bytes([2; 32]));
        Attempt::new((&one, &[nonce; 16]), (&two, &[3; 16]))
    }

    #[test]
    fn each_side_hears_the_other_and_never_itself() {
        let attempt = attempt(1);
        for kind in [Kind::Ping, Kind::Pong] {
            let probe = attempt.probe(Side::Offerer, kind);
            assert_eq!(tag_of(&probe), Some(attempt.tag));
            assert_eq!(attempt.read(Side::Answerer, &probe), Some(kind));
            assert_eq!(attempt.read(Side::Offerer, &probe), None, "a reflected probe opens nothing");
            assert_eq!(self::attempt(2).read(Side::Answerer, &probe), None, "another attempt's probe");
        }
    }

    #[test]
    fn no_probe_is_a_quic_packet() {
        // RFC 9000, 17.2 and 17.3: long headers set 0x80, and both set the fixed bit 0x40
        assert_eq!(attempt(1).probe(Side::Offerer, Kind::Ping)[0] & 0xc0, 0);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(packet in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = tag_of(&packet);
            prop_assert_eq!(attempt(1).read(Side::Offerer, &packet), None);
        }

        #[test]
        fn a_perturbed_probe_is_none(at in 0..PROBE_BYTES, with in 1_u8..) {
            let mut probe = attempt(1).probe(Side::Offerer, Kind::Ping);
            probe[at] ^= with;
            prop_assert_eq!(attempt(1).read(Side::Answerer, &probe), None);
        }
    }
}

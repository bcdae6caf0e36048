//! Member ids and libp2p peer ids: two spellings of one ed25519 public key.
//!
//! libp2p puts the whole key into the peer id when it is as short as an ed25519 key is (the "identity" multihash), so both
//! directions are exact and need no directory.

use libp2p::{
    PeerId,
    identity::{Keypair as P2pKeypair, PublicKey, ed25519},
};
use talkoot_protocol::identity::{Keypair, MemberId};

/// Multihash code that says "the digest is the data itself".
const IDENTITY_CODE: u64 = 0;

/// The member behind a peer id; nothing when the peer has a key that is not ed25519.
pub(crate) fn member_of(peer: &PeerId) -> Option<MemberId> {
    let hash = peer.as_ref();
    if hash.code() != IDENTITY_CODE {
        return None; // RSA keys are hashed; what they are cannot be told
    }
    let key = PublicKey::try_decode_protobuf(hash.digest()).ok()?.try_into_ed25519().ok()?;
    Some(MemberId::from_bytes(key.to_bytes()))
}

/// The peer id of a member; nothing when the member's 32 bytes are not a point of the curve.
pub(crate) fn peer_of(member: &MemberId) -> Option<PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(member.as_bytes()).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

/// The same key in libp2p's clothes; nothing only if libp2p took something else than 32 bytes for a secret.
pub(crate) fn p2p_keypair(key: &Keypair) -> Option<P2pKeypair> {
    P2pKeypair::ed25519_from_bytes(key.seed()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_names_of_a_member_turn_into_each_other() {
        for seed in 0..20 {
            let key = Keypair::from_seed([seed; 32]);
            let peer = p2p_keypair(&key).unwrap().public().to_peer_id();
            assert_eq!(member_of(&peer), Some(key.id()));
            assert_eq!(peer_of(&key.id()), Some(peer));
        }
    }

    #[test]
    fn a_peer_with_another_kind_of_key_is_nobody() {
        // a random peer id is an identity multihash of random bytes, or, here, a hashed key as RSA has it
        let hashed = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N".parse().unwrap();
        assert_eq!(member_of(&hashed), None);
        assert_eq!(member_of(&PeerId::random()), None);
    }
}

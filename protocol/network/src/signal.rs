//! Words between networks, over the control plane: how to reach one another's bulk sockets, and what a seeder shall fetch.
//!
//! postcard, at most [`MAX_BYTES`] each way; whoever sends what cannot be read is blamed for it. The order is
//!
//! ```text
//! Echo   --> Gone      measures the round trip
//! Offer  --> Answer    candidates and nonces
//! Go     --> Gone      both begin: the answerer at once, the offerer half a round trip after it has sent Go
//! Want   --> Gone      to a seeder: fetch this, I cannot reach who has it
//! ```

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Longest word in bytes: eight IPv6 candidates and room.
pub const MAX_BYTES: usize = 1024;
/// Candidates in one word.
pub const MAX_CANDIDATES: usize = 8;

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Signal {
    /// Nothing: the answer shows how long the way is.
    Echo,
    /// I want to open a way between our bulk sockets.
    Offer {
        /// Names the attempt, with the answer's.
        nonce: [u8; 16],
        /// Attempt number; from 1 on, sockets made for it are used.
        attempt: u8,
        /// Where my socket may be reached.
        candidates: Vec<SocketAddr>,
    },
    /// Begin with the attempt of this nonce.
    Go {
        /// The offer's nonce.
        nonce: [u8; 16],
    },
    /// Fetch a blob for me, since you can reach those whom I cannot.
    Want {
        /// Its BLAKE3 hash.
        digest: [u8; 32],
        /// Its length in bytes.
        bytes: u64,
    },
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// To an offer.
    Answer {
        /// Names the attempt, with the offer's.
        nonce: [u8; 16],
        /// Where my socket may be reached.
        candidates: Vec<SocketAddr>,
    },
    /// It is being done.
    Gone,
    /// No: too many at once, not a seeder, nothing known of this nonce.
    No,
}

/// The bytes are no word of this protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a signal: malformed, too long, or with more than {MAX_CANDIDATES} candidates")]
pub struct SignalError;

fn encode<T: Serialize>(word: &T) -> Vec<u8> {
    // only a writer or a map without a length can fail here, and there is neither
    postcard::to_stdvec(word).unwrap_or_default()
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, SignalError> {
    if bytes.len() > MAX_BYTES {
        return Err(SignalError);
    }
    match postcard::take_from_bytes(bytes) {
        Ok((word, [])) => Ok(word),
        _ => Err(SignalError),
    }
}

/// Whether a candidate may be sent packets: somebody's address and port, no broadcast or multicast.
pub(crate) fn is_sound(candidate: &SocketAddr) -> bool {
    let ip = candidate.ip().to_canonical();
    let broadcast = matches!(ip, std::net::IpAddr::V4(ip) if ip.is_broadcast());
    candidate.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

fn checked(candidates: &[SocketAddr]) -> Result<(), SignalError> {
    if candidates.len() <= MAX_CANDIDATES && candidates.iter().all(is_sound) {
        Ok(())
    } else {
        Err(SignalError)
    }
}

impl Signal {
    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads it, and refuses what breaks a bound.
    ///
    /// # Errors
    ///
    /// [`SignalError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SignalError> {
        let signal = decode(bytes)?;
        if let Self::Offer { candidates, .. } = &signal {
            checked(candidates)?;
        }
        Ok(signal)
    }
}

impl Reply {
    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads it, and refuses what breaks a bound.
    ///
    /// # Errors
    ///
    /// [`SignalError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SignalError> {
        let reply = decode(bytes)?;
        if let Self::Answer { candidates, .. } = &reply {
            checked(candidates)?;
        }
        Ok(reply)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidates() -> impl Strategy<Value = Vec<SocketAddr>> {
        let one = (any::<std::net::IpAddr>(), 1_u16..).prop_map(SocketAddr::from);
        prop::collection::vec(one.prop_filter("sound", is_sound), 0..=MAX_CANDIDATES)
    }

    proptest! {
        #[test]
        fn words_survive_the_wire(nonce: [u8; 16], attempt: u8, candidates in candidates(), digest: [u8; 32], bytes: u64) {
            let offer = Signal::Offer { nonce, attempt, candidates: candidates.clone() };
            for signal in [Signal::Echo, offer, Signal::Go { nonce }, Signal::Want { digest, bytes }] {
                prop_assert!(signal.to_bytes().len() <= MAX_BYTES);
                prop_assert_eq!(Signal::from_bytes(&signal.to_bytes()), Ok(signal));
            }
            for reply in [Reply::Answer { nonce, candidates }, Reply::Gone, Reply::No] {
                prop_assert_eq!(Reply::from_bytes(&reply.to_bytes()), Ok(reply));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..1200)) {
            let _ = Signal::from_bytes(&bytes);
            let _ = Reply::from_bytes(&bytes);
        }

        #[test]
        fn perturbed_words_keep_the_bounds(nonce: [u8; 16], candidates in candidates(), at: prop::sample::Index, with in 1_u8..) {
            let mut bytes = Signal::Offer { nonce, attempt: 0, candidates }.to_bytes();
            let at = at.index(bytes.len());
            bytes[at] ^= with;
            if let Ok(Signal::Offer { candidates, .. }) = Signal::from_bytes(&bytes) {
                prop_assert!(candidates.len() <= MAX_CANDIDATES && candidates.iter().all(is_sound));
            }
        }
    }

    #[test]
    fn candidates_that_would_make_us_shout_at_everybody_are_refused() {
        for bad in [
            "255.255.255.255:1",
            "224.0.0.1:1",
            "0.0.0.0:1",
            "192.0.2.1:0",
            "[ff02::1]:1",
            "[::ffff:224.0.0.1]:1",
        ] {
            let offer = Signal::Offer { nonce: [0; 16], attempt: 0, candidates: vec![bad.parse().unwrap()] };
            assert_eq!(Signal::from_bytes(&offer.to_bytes()), Err(SignalError), "{bad}");
        }
        let many = vec!["192.0.2.1:1".parse().unwrap(); MAX_CANDIDATES + 1];
        let reply = Reply::Answer { nonce: [0; 16], candidates: many };
        assert_eq!(Reply::from_bytes(&reply.to_bytes()), Err(SignalError));
    }
}

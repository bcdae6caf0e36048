//! A network's word that is accepted keeps its bounds and is read again from what it is written as.
#![no_main]

use libfuzzer_sys::fuzz_target;
use talkoot_network::signal::{MAX_CANDIDATES, Reply, Signal};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(signal) = Signal::from_bytes(bytes) {
        if let Signal::Offer { candidates, .. } = &signal {
            assert!(candidates.len() <= MAX_CANDIDATES);
        }
        assert_eq!(Signal::from_bytes(&signal.to_bytes()), Ok(signal));
    }
    if let Ok(reply) = Reply::from_bytes(bytes) {
        assert_eq!(Reply::from_bytes(&reply.to_bytes()), Ok(reply));
    }
});

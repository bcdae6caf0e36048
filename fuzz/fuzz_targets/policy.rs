//! A policy that is accepted has a plain spelling, which means the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use talkoot_ledger::Policy;

fuzz_target!(|data: &[u8]| {
    let Ok(policy) = Policy::parse(data) else { return };
    let cosigned = data.iter().fold(0_u64, |bits, &byte| bits.rotate_left(5) ^ u64::from(byte));
    let by = |witness: usize| cosigned >> (witness % 64) & 1 == 1;
    assert!(policy.is_quorum(|_| true), "who has everybody has a quorum");
    assert_eq!(policy.is_quorum(|_| false), !policy.demands_witnesses());
    // names are bytes; only those that are text can be printed
    if std::str::from_utf8(data).is_ok() {
        let again: Policy = policy.to_string().parse().expect("our own spelling");
        assert_eq!(again, policy);
        assert_eq!(again.is_quorum(by), policy.is_quorum(by));
    }
});

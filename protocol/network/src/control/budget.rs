//! What a seeder gives to members behind routers: circuits for their control connections, and blobs passed on.

use std::time::Duration;

use libp2p::relay;

/// Members that may be reached through this one at once.
const MAX_RESERVATIONS: usize = 256;
/// How long one may be reached before it has to ask again.
const RESERVATION: Duration = Duration::from_secs(3600);
/// Circuits open at once.
const MAX_CIRCUITS: usize = 256;
/// Circuits open at once from or to one member.
const MAX_CIRCUITS_PER_PEER: usize = 32;
/// How long a circuit lives; members that find no direct way make a new one.
const CIRCUIT: Duration = Duration::from_secs(1800);
/// Bytes that a circuit carries each way: control messages of half an hour, no blobs.
const CIRCUIT_BYTES: u64 = 16 << 20;

/// The limits of the relay; how often one may ask is bounded by libp2p's own rates.
pub(crate) fn relay() -> relay::Config {
    relay::Config {
        max_reservations: MAX_RESERVATIONS,
        max_reservations_per_peer: 4,
        reservation_duration: RESERVATION,
        max_circuits: MAX_CIRCUITS,
        max_circuits_per_peer: MAX_CIRCUITS_PER_PEER,
        max_circuit_duration: CIRCUIT,
        max_circuit_bytes: CIRCUIT_BYTES,
        ..relay::Config::default()
    }
}

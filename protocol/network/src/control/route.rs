//! How a connected member can be reached on the bulk plane, as far as the control plane can tell.

use std::net::SocketAddr;

/// One member's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Route {
    /// Its process; another number means that it was restarted, and that what was known of it is void.
    pub(crate) session: u64,
    /// The address that the control connection comes from or goes to, with the bulk port that was said; none when the only
    /// connection is a circuit.
    pub(crate) address: Option<SocketAddr>,
    /// Whether it asks to be met through relays: it does not expect to be dialled.
    pub(crate) hidden: bool,
    /// Whether it fetches for others what they cannot reach.
    pub(crate) seeder: bool,
}

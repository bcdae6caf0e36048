//! Whether others can dial this member.

use std::fmt;

/// Whether others can dial this member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reachability {
    /// Nobody has tried yet, and no router was seen.
    #[default]
    Unknown,
    /// Somebody has dialled us back.
    Public,
    /// Nobody could dial us, or somebody sees us at an address that is not ours. We are met through relays.
    Private,
}

impl fmt::Display for Reachability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::Public => "public",
            Self::Private => "private",
        })
    }
}

/// How this member can be met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReachStatus {
    /// By dialling?
    pub reachability: Reachability,
    /// Relays that were asked to carry connections to us.
    pub relays: usize,
}

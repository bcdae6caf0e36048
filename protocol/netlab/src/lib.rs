//! The network's laboratory: a slow, lossy internet on one machine, and what the swarm does on it.
//!
//! ```text
//! namespace 0 --TUN-- access line 0 --.                    .-- access line 1 --TUN-- namespace 1
//!                     rate, queue,    |--- a core that ----|
//!                     loss, delay     |    loses nothing   |
//! namespace 2 --TUN-- access line 2 --'                    '-- ...
//! ```
//! Kernels without `netem` cannot slow a link down; so each member gets a network namespace with a TUN device, and this process
//! carries the packets across. Every line is drop-tail: a packet that finds the queue full before the bottleneck is dropped;
//! loss strikes after the bottleneck, independently, from a seed. Two members whose far ends are unlimited are one line.
//!
//! Over it, and over loopback, processes of their own are measured: [`flows`] sets a swarm of two beside plain flows, [`wan`] is
//! a round among many.
//!
//! It needs root, `/dev/net/tun` and iproute2, and says so where one is missing ([`World::possible`]).

mod access;
#[cfg(target_os = "linux")]
mod carry;
pub mod crew;
mod error;
pub mod flows;
pub mod member;
#[cfg(target_os = "linux")]
mod tun;
pub mod wan;
mod world;

pub use access::{Access, Counters};
pub use error::LabError;
pub use world::{NetlabError, World};

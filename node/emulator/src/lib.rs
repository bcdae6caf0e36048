//! CUDA kernels on the processor, thread by thread, for tests.
//!
//! ```text
//! kernels/*.cu + runtime/*.h --a C++ compiler--> a library --loaded--> Emulator: Device
//! ```
//!
//! The very files that NVRTC compiles for GPUs are compiled for the processor. Every thread of a block is a fiber, which
//! runs up to its next barrier. What that finds that reading does not:
//!
//! - *Memory.* A page that cannot be touched lies behind every buffer, and nobody wrote what is fresh in one, nor in a
//!   block's shared memory: it is not-a-number. A thread that leaves its buffers ends the launch with its number.
//! - *Barriers.* Threads and blocks run in the order that [`Order`] says; a kernel that lacks a barrier gives other
//!   results in another order. Threads that don't all come to a barrier end the launch.
//! - *Arguments.* The host's list is held to the kernel's declaration.
//!
//! What it cannot find: what only a GPU's own compiler, memory or speed does.

#[cfg(unix)]
mod arena;
#[cfg(unix)]
mod compile;
#[cfg(unix)]
mod cublaslt;
#[cfg(unix)]
mod emulator;
mod faults;

#[cfg(unix)]
pub use cublaslt::Products;
#[cfg(unix)]
pub use emulator::{Emulator, Memory, Order, Pinned};
pub use faults::{Fault, Faults};

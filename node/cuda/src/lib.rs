//! NVIDIA GPUs as a device of the trainer.
//!
//! ```text
//! kernels/*.cu --NVRTC, ptx/build.py--> ptx/ --embedded--> Driver --+
//!      |                                                           +--> Device --> Cuda: Backend
//!      +--a C++ compiler, talkoot-emulator--> Emulator (tests) ----+
//! ```
//!
//! ```text
//! cuda        a GPU as a backend of the trainer; buffer: its memory
//! class       what a class of numbers does in its own way; the exact class
//! fast        the fast class: tensor cores
//! codec       contributions chosen on the GPU
//! offload     numbers of the optimiser in the host's memory
//! rest        gradients and values in the host's memory between their uses
//! blank       a device without numbers: what training takes, found by the very code that trains
//! plan        what training takes of a GPU, and whether a step fits before it begins
//! slab        a device whose memory is taken once and handed out by a rule that a plan can follow
//! opened      a device with a slab or without one
//! check       every operation held to the bits of the processor
//! choice      which device trains, and why not another
//! device      what a GPU must be able to do: memory, copies, launches; the driver; how it can fail
//! kernels     the table of all kernels
//! multiply    a product as NVIDIA's library of products is told of it
//! ptx         the kernels as the driver takes them, embedded
//! ```
//!
//! Building needs nothing of NVIDIA's, and a GPU needs its driver only. **None of this has run on a GPU yet**: kernels
//! are checked on the processor, thread by thread, by `talkoot-emulator`.

pub mod blank;
mod buffer;
pub mod check;
pub mod choice;
pub mod class;
pub mod codec;
mod cuda;
pub mod device;
pub mod fast;
pub mod kernels;
pub mod multiply;
mod offload;
pub mod opened;
pub mod plan;
pub mod ptx;
mod rest;
pub mod slab;

pub use buffer::Buffer;
pub use cuda::{Cuda, Parcel};

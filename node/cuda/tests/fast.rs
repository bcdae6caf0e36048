//! The fast class, the device's codec and the slab on emulated kernels: near the processor's numbers, the same in every
//! order of threads, and where bytes are promised, those bytes.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

#[path = "fast/testkit.rs"]
mod testkit;

#[path = "fast/attention.rs"]
mod attention;
#[path = "fast/codec.rs"]
mod codec;
#[path = "fast/frozen.rs"]
mod frozen;
#[path = "fast/head.rs"]
mod head;
#[path = "fast/library.rs"]
mod library;
#[path = "fast/product.rs"]
mod product;
#[path = "fast/slab.rs"]
mod slab;
#[path = "fast/training.rs"]
mod training;

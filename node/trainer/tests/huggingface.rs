//! Folders of checkpoints: what comes back, what is made of them, and what is refused and why. Files of other tools
//! are written with the safetensors crate, which shares nothing with our writer but the format of a description.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "in a test a panic is the report")]

#[path = "huggingface/convert.rs"]
mod convert;
#[path = "huggingface/damage.rs"]
mod damage;
#[path = "huggingface/merge.rs"]
mod merge;
#[path = "huggingface/support.rs"]
mod support;

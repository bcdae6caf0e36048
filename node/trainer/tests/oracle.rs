//! The reference model against numbers that the released code produced: every intermediate, loss and gradient, and
//! five training steps in seven variants. Skips, aloud, where those numbers don't lie beside the repository.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "in a test a panic is the report")]

#[path = "oracle/cases.rs"]
mod cases;
#[path = "oracle/files.rs"]
mod files;
#[path = "oracle/train.rs"]
mod train;

//! The `talkoot` command line.
fn main() {}

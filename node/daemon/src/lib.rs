//! The process that a donor runs.

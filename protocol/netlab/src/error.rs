//! Why a measurement ends.

use std::io;

use crate::NetlabError;

/// Why a measurement ends.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// There can be no emulated lines.
    #[error(transparent)]
    Netlab(#[from] NetlabError),
    /// A process does not start.
    #[error("starting a process of the laboratory: {source}")]
    Start {
        /// What the system said.
        source: io::Error,
    },
    /// A process failed.
    #[error("a process of the laboratory: {reason}")]
    Member {
        /// What it said.
        reason: String,
    },
    /// A process says nothing any more.
    #[error("a process of the laboratory is gone; what it wrote to its standard error says why")]
    Silent,
}

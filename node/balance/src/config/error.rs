//! Why a configuration cannot be used.

use std::path::PathBuf;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is too long.
    #[error("the configuration has more than {limit} bytes")]
    TooLong {
        /// What it may have.
        limit: usize,
    },
    /// It is not the TOML that is expected.
    #[error(
        "the configuration is wrong: {reason}; `talkoot dataset balance --print-config` shows a right one"
    )]
    Toml {
        /// The parser's words, with line and column.
        reason: String,
    },
    /// A value is out of its bounds.
    #[error("{key} is {got}, it must be {must}")]
    Bounds {
        /// The key, with its table.
        key: String,
        /// Its value.
        got: String,
        /// What it must be.
        must: String,
    },
}

//! A round's exchange alone, between processes of their own: encode, store, fetch from one another, aggregate.
//!
//! No training, no ledger: the process that measures hands the names of the contributions around, which takes a pipe's time. It is
//! the job of an averager such as hivemind's: made-up parameters in, the same mean out everywhere.

mod measure;
mod member;

use serde::{Deserialize, Serialize};
use talkoot_trainer::contribution::CodecSettings;

pub use self::{
    measure::{ExchangeError, ExchangeFigures, measure},
    member::obey,
};

/// How contributions are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// The published settings: 64 of 4,096, two bits, with error feedback.
    Sparse,
    /// Every parameter in eight bits, with a scale for each chunk.
    Dense8,
    /// Every parameter as it is, four bytes: a plain blob, not the codec's.
    F32,
}

impl Encoding {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sparse, Self::Dense8, Self::F32];

    /// The codec's settings; none for plain numbers.
    fn settings(self) -> Option<CodecSettings> {
        match self {
            Self::Sparse => Some(CodecSettings::default()),
            Self::Dense8 => {
                Some(CodecSettings { k: 4096, bits: 8, error_feedback: 0.0, ..CodecSettings::default() })
            }
            Self::F32 => None,
        }
    }
}

/// What is to be measured.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct ExchangeShape {
    /// Processes.
    pub peers: u8,
    /// Parameters of the one tensor.
    pub parameters: u64,
    /// How contributions are written.
    pub encoding: Encoding,
    /// Rounds, each with new numbers.
    pub rounds: u32,
}

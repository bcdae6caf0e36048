//! Looking into a data set: text and pages for people, and a check of every byte.

mod diff;
mod escape;
mod page;
mod stretch;
mod text;
mod verify;

pub use self::{
    diff::{Difference, diff},
    escape::escaped,
    page::page,
    text::{describe_manifest, describe_packs},
    verify::{Depth, Verified, VerifyError, verify},
};
use crate::{reader::ReadError, tokenizer::TokenizerError};

/// Why a data set cannot be shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// A pack cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The tokens cannot be written as text.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

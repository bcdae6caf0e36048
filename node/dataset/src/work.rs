//! Long work in a folder: what ingesting, filtering, mixing and packing need to be stopped, split and gone on with.
//!
//! ```text
//! <out>/<name>.work/job.json                         the fingerprint of the options and the lists
//!                  /<room>/00002-of-00016.000007.…   a chunk of what the third of 16 parts has found
//!                  /<room>/00002-of-00016.done       how many chunks: the part is finished
//! ```
//!
//! Every file is written under another name, made durable and renamed: it is whole, or not there. So whoever begins
//! again goes on from the files that are there, and several processes may share the folder.

mod chunk;
mod error;
mod file;
mod folder;
mod list;
mod part;
mod parts;
mod place;

pub use self::{
    chunk::ChunkFormat,
    error::{WorkError, read_error, write_error},
    file::{put_file, put_json, read_json, remove_file, remove_folder},
    folder::WorkFolder,
    list::{List, MAX_LISTS, fingerprint, join_roots},
    part::{ParsePartError, Part},
    parts::{Parts, each_chunk},
    place::Place,
};

/// What [`is_plain_name`] asks for, in words for an error.
pub const PLAIN_NAME: &str = "1 to 64 letters, digits, '-' or '_'";

/// Whether files may be called so, and nobody's file system minds.
pub fn is_plain_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    !name.is_empty() && name.len() <= 64 && name.chars().all(plain)
}

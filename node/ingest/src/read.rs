//! From a file of records to a piece, by its kind.

mod archive;
mod json;
mod rows;

use std::path::Path;

use crate::{IngestError, catalogue::Kind, piece::Piece};

/// Reads the file in `path` into `piece`. Whatever is wrong with the file's content becomes rejects.
pub(crate) fn read(piece: &mut Piece<'_>, path: &Path) -> Result<(), IngestError> {
    match piece.file.kind {
        Kind::Json => json::read(piece, path),
        Kind::Tar => archive::read(piece, path),
        Kind::Parquet => rows::read(piece, path),
    }
}

//! Rows of tables.

use std::{fs::File, path::Path};

use talkoot_dataset::RejectKind;

use crate::{
    IngestError,
    error::read_error,
    piece::{Attached, Piece},
    table::{Batch, Picture, Rows, TableFault},
};

/// How much more than its own length a table may fill the store with, and how much anyhow: pictures do not get smaller by
/// compressing.
const MOST_GROWTH: u64 = 100;
const SMALL_STORE: u64 = 1 << 30;

pub(super) fn read(piece: &mut Piece<'_>, path: &Path) -> Result<(), IngestError> {
    let file = File::open(path).map_err(read_error(path))?;
    let length = file.metadata().map_err(read_error(path))?.len();
    let outcome = Rows::open(file).and_then(|mut rows| {
        let most = length.saturating_mul(MOST_GROWTH).max(SMALL_STORE);
        while let Some(batch) = rows.next_batch()? {
            if let Err(error) = take(piece, &batch) {
                return Ok(Err(error));
            }
            if piece.stored_bytes() > most {
                return Err(TableFault::TooMuch {
                    what: "what it unpacks to",
                    got: piece.stored_bytes(),
                    limit: most,
                });
            }
        }
        Ok(Ok(()))
    });
    piece.job.progress.advance(length);
    match outcome {
        Ok(done) => done,
        Err(TableFault::Read(source)) => Err(read_error(path)(source)),
        // Nothing is damaged: the table is another one than is wanted.
        Err(fault @ (TableFault::Columns { .. } | TableFault::Compression { .. })) => {
            piece.refuse(None, (RejectKind::Malformed, format!("none of its rows is read: {fault}")))
        }
        Err(fault) => piece.damaged(fault),
    }
}

fn take(piece: &mut Piece<'_>, batch: &Batch) -> Result<(), IngestError> {
    for row in 0..batch.rows() {
        match batch.row(row) {
            Err((id, reason)) => piece.refuse(id, (RejectKind::Malformed, reason))?,
            Ok(row) => piece.take(row.id, |piece, origin| {
                let mut record = row.record;
                // Names that stand among the fields are of files that the row does not hold.
                let named = std::mem::take(&mut record.pictures).into_iter().map(Picture::Named);
                let pictures = row.pictures.into_iter().chain(named).map(|picture| match picture {
                    Picture::Bytes(bytes) => Attached::Bytes(bytes),
                    Picture::Named(name) => Attached::Named(name),
                });
                piece.sample(origin, record, pictures.collect(), Vec::new())
            })?,
        }
    }
    Ok(())
}

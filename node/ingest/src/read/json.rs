//! Records in JSON or JSON lines.

use std::path::Path;

use talkoot_dataset::{
    RejectKind,
    ingest::{IngestError as RecordsError, Record, Records, id_of},
};

use crate::{
    IngestError,
    error::read_error,
    piece::{Attached, Piece},
};

pub(super) fn read(piece: &mut Piece<'_>, path: &Path) -> Result<(), IngestError> {
    let mut told = 0;
    let mut records = match Records::open(path) {
        Ok(records) => records,
        Err(error) => return stop(path, error),
    };
    while let Some(raw) = records.next() {
        let value = match raw {
            Ok(raw) => raw.value,
            Err(RecordsError::NotAnArray { reason, .. }) => {
                piece.damaged(format!("it is no JSON array of records: {reason}"))?;
                break;
            }
            Err(error) => return stop(path, error),
        };
        let id = value.as_ref().ok().and_then(id_of);
        piece.take(id, |piece, origin| {
            let malformed = |reason| (RejectKind::Malformed, reason);
            let mut record = Record::parse(value.map_err(malformed)?).map_err(malformed)?;
            let pictures = std::mem::take(&mut record.pictures).into_iter().map(Attached::Named).collect();
            piece.sample(origin, record, pictures, Vec::new())
        })?;
        let read = records.bytes_read();
        piece.job.progress.advance(read - told);
        told = read;
    }
    Ok(())
}

fn stop(path: &Path, error: RecordsError) -> Result<(), IngestError> {
    Err(match error {
        RecordsError::Read { path, source } => read_error(&path)(source),
        other => read_error(path)(std::io::Error::other(other)),
    })
}

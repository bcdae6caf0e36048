//! Tables as the hub has them: Parquet with a column of pictures and one of captions or conversations.
//!
//! ```text
//! id      image {bytes, path} or a list of them     conversations, messages, texts, caption or text
//! ```
//!
//! A file is checked before it is decoded: how deep its schema nests, how long each page says that it is. So the decoder
//! never recurses deeper, nor allocates more, than is meant here; a batch has as many rows as fit
//! [`BATCH_BYTES`]. Snappy and Zstandard are read, which stop at the length that a page announces; other compressions
//! have decoders without a bound and are refused.

mod cell;
mod check;
mod thrift;

use std::{
    fs::File,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
};

use arrow_array::RecordBatch;
use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder},
    },
    errors::ParquetError,
};
use talkoot_dataset::ingest::{Record, id_of};

pub use self::cell::Picture;

/// Bytes that the rows of a batch have, about.
pub const BATCH_BYTES: u64 = 32 << 20;
/// Most rows of a batch.
const BATCH_ROWS: u64 = 1_024;
/// Most rows of a table.
pub const MAX_ROWS: u64 = 1 << 30;

/// Columns that hold pictures.
const PICTURES: [&str; 6] = ["image", "images", "jpg", "jpeg", "png", "webp"];
/// Columns that a record is made of, and what it calls them.
const FIELDS: [(&str, &str); 13] = [
    ("id", "id"),
    ("__key__", "id"),
    ("conversations", "conversations"),
    ("messages", "messages"),
    ("texts", "texts"),
    ("caption", "caption"),
    ("text", "text"),
    ("txt", "text"),
    ("video", "video"),
    ("kind", "kind"),
    ("task", "task"),
    ("license", "license"),
    ("licence", "licence"),
];
/// Fields that something is said in.
const TALK: [&str; 5] = ["conversations", "messages", "texts", "caption", "text"];

/// Why a table cannot be read, or not further.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableFault {
    /// The file cannot be read.
    #[error("it cannot be read")]
    Read(#[from] io::Error),
    /// It is no Parquet file, or damaged.
    #[error("{reason}")]
    Damaged {
        /// How that shows.
        reason: String,
    },
    /// It has something that is more, or deeper, or longer than is read here.
    #[error("{what} is {got}, at most {limit} is read; write the table with smaller parts")]
    TooMuch {
        /// What.
        what: &'static str,
        /// How much.
        got: u64,
        /// How much may be.
        limit: u64,
    },
    /// Its compression is not read.
    #[error("it is compressed with {codec}; write it with snappy or zstd, as the hub does")]
    Compression {
        /// The compression's name.
        codec: String,
    },
    /// Nothing to learn from is in its columns.
    #[error("its columns are {columns}; one of conversations, messages, texts, caption or text is needed")]
    Columns {
        /// Names of the columns, some of them.
        columns: String,
    },
}

fn damaged(reason: impl ToString) -> TableFault {
    TableFault::Damaged { reason: reason.to_string() }
}

/// The rows of a table, a batch at a time.
#[derive(Debug)]
pub struct Rows {
    reader: ParquetRecordBatchReader,
}

/// Some rows.
#[derive(Debug, Clone)]
pub struct Batch(RecordBatch);

impl Rows {
    /// Checks a table and begins to read it.
    ///
    /// # Errors
    ///
    /// [`TableFault`] when it cannot be read at all.
    pub fn open(file: File) -> Result<Self, TableFault> {
        check::footer(&file)?;
        guarded(|| Self::begin(file))
    }

    fn begin(file: File) -> Result<Self, TableFault> {
        // The types of Parquet say enough; what Arrow adds is one more thing that could be damaged.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let length = file.metadata()?.len();
        let pages = file.try_clone()?;
        let builder =
            ParquetRecordBatchReaderBuilder::try_new_with_options(file, options).map_err(of_parquet)?;
        let names: Vec<&str> = builder.schema().fields().iter().map(|field| field.name().as_str()).collect();
        let field = |name: &str| FIELDS.iter().find(|(column, _)| *column == name).map(|(_, field)| *field);
        if !names.iter().any(|name| field(name).is_some_and(|field| TALK.contains(&field))) {
            let columns: Vec<String> = names.iter().take(20).map(|name| format!("{name:.40?}")).collect();
            return Err(TableFault::Columns { columns: columns.join(", ") });
        }
        let wanted = |name: &str| PICTURES.contains(&name) || field(name).is_some();
        let roots: Vec<usize> = (0..names.len()).filter(|&column| wanted(names[column])).collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
        let most = check::pages(builder.metadata(), &mask, &pages, length)?;
        let rows = BATCH_BYTES.checked_div(most.row_bytes).unwrap_or(BATCH_ROWS).clamp(1, BATCH_ROWS);
        let reader =
            builder.with_projection(mask).with_batch_size(rows as usize).build().map_err(of_parquet)?;
        Ok(Self { reader })
    }

    /// The next rows; `None` at the end. After an error nothing more can be read.
    ///
    /// # Errors
    ///
    /// [`TableFault`] when the table is damaged from here on.
    pub fn next_batch(&mut self) -> Result<Option<Batch>, TableFault> {
        guarded(|| self.reader.next().transpose().map_err(damaged)).map(|batch| batch.map(Batch))
    }
}

/// The decoder is a large piece of somebody else's code: were it to give up on what it is given, that must not take the
/// other files' records with it.
fn guarded<T>(work: impl FnOnce() -> Result<T, TableFault>) -> Result<T, TableFault> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(damaged("the decoder gave up on it")))
}

fn of_parquet(error: ParquetError) -> TableFault {
    damaged(error)
}

/// What a row has.
#[derive(Debug)]
pub struct Row<'a> {
    /// Its id.
    pub id: Option<String>,
    /// What is said in it.
    pub record: Record,
    /// Its pictures.
    pub pictures: Vec<Picture<'a>>,
}

impl Batch {
    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.0.num_rows()
    }

    /// The row `row`.
    ///
    /// # Errors
    ///
    /// Its id and what is wrong with it.
    ///
    /// # Panics
    ///
    /// When there is no such row.
    pub fn row(&self, row: usize) -> Result<Row<'_>, (Option<String>, String)> {
        let mut fields = serde_json::Map::new();
        let mut pictures = Vec::new();
        let mut room = cell::MAX_ROW_BYTES;
        let schema = self.0.schema_ref();
        let mut wrong = None;
        for (field, column) in schema.fields().iter().zip(self.0.columns()) {
            let name = field.name().as_str();
            let outcome = if PICTURES.contains(&name) {
                cell::pictures(&**column, row, &mut pictures)
            } else if let Some((_, as_field)) = FIELDS.iter().find(|(known, _)| *known == name) {
                cell::value(&**column, row, &mut room).map(|value| {
                    // A column with nothing in it does not hide another of the same meaning.
                    if !value.is_null() {
                        fields.insert((*as_field).to_owned(), value);
                    }
                })
            } else {
                Ok(())
            };
            if let Err(reason) = outcome {
                wrong = wrong.or(Some(format!("column {name:?}: {reason}")));
            }
        }
        let fields = serde_json::Value::Object(fields);
        let id = id_of(&fields);
        match wrong.map_or_else(|| Record::parse(fields), Err) {
            Ok(record) => Ok(Row { id, record, pictures }),
            Err(reason) => Err((id, reason)),
        }
    }
}

#[cfg(test)]
mod tests;

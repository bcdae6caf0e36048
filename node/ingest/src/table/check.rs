//! What is looked at before the decoder may: the footer's length and nesting, and what each page says of itself.

use std::{
    fs::File,
    io::{self, BufReader, Cursor, Read, Seek, SeekFrom},
};

use parquet::{
    arrow::ProjectionMask,
    basic::Compression,
    file::metadata::{ColumnChunkMetaData, ParquetMetaData},
};

use super::{
    MAX_ROWS, TableFault, damaged,
    thrift::{Compact, I32, LIST, STRUCT, wrong},
};

/// Longest footer, in bytes.
const MAX_FOOTER_BYTES: u64 = 16 << 20;
/// Deepest nesting of columns. A list of structures with a list in them takes 8.
const MAX_DEPTH: usize = 32;
/// Most columns, inner ones counted too.
const MAX_COLUMNS: u64 = 1 << 16;
/// Longest page, in bytes, when it is decompressed.
const MAX_PAGE_BYTES: i64 = 512 << 20;
/// Most values of a page.
const MAX_PAGE_VALUES: i64 = 1 << 24;

const MAGIC: &[u8; 4] = b"PAR1";

/// Checks how long the footer is and how deep the schema in it nests.
pub(super) fn footer(file: &File) -> Result<(), TableFault> {
    let length = file.metadata()?.len();
    let mut end = [0; 8];
    if length < 12 {
        return Err(damaged("it is too short for a Parquet file"));
    }
    let mut file = file;
    file.seek(SeekFrom::Start(length - 8))?;
    file.read_exact(&mut end)?;
    let [a, b, c, d, magic @ ..] = end;
    if magic != *MAGIC {
        return Err(damaged(
            "it does not end as a Parquet file does: it is cut off, encrypted, or something else",
        ));
    }
    let bytes = u64::from(u32::from_le_bytes([a, b, c, d]));
    if bytes > MAX_FOOTER_BYTES {
        return Err(TableFault::TooMuch { what: "the footer's length", got: bytes, limit: MAX_FOOTER_BYTES });
    }
    if bytes > length - 8 {
        return Err(damaged(format!("its footer should have {bytes} bytes, the file has {length}")));
    }
    file.seek(SeekFrom::Start(length - 8 - bytes))?;
    let mut footer = Vec::new();
    file.take(bytes).read_to_end(&mut footer)?;
    match schema(&footer) {
        Ok(depth) if depth > MAX_DEPTH => {
            let (got, limit) = (depth as u64, MAX_DEPTH as u64);
            Err(TableFault::TooMuch { what: "the nesting of its columns", got, limit })
        }
        Ok(_) => Ok(()),
        Err(error) => Err(damaged(format!("its footer is damaged: {error}"))),
    }
}

/// How deep the schema in a footer nests; more than [`MAX_DEPTH`] is not told exactly.
fn schema(footer: &[u8]) -> io::Result<usize> {
    let mut thrift = Compact::new(Cursor::new(footer));
    let mut last = 0;
    while let Some((field, kind)) = thrift.field(&mut last)? {
        if (field, kind) == (2, LIST) {
            return nesting(&mut thrift);
        }
        thrift.skip(kind)?;
    }
    Err(wrong("it has no schema"))
}

/// The schema is a list of nodes, each of which says how many of those that follow are its children.
fn nesting(thrift: &mut Compact<Cursor<&[u8]>>) -> io::Result<usize> {
    let (nodes, kind) = thrift.list()?;
    if kind != STRUCT || nodes > MAX_COLUMNS {
        return Err(wrong("its schema is no list of columns, or too long a one"));
    }
    // How many children are still to come, at each level.
    let mut open: Vec<i64> = Vec::new();
    let mut deepest = 0;
    for _ in 0..nodes {
        let children = children_of(thrift)?;
        while open.last() == Some(&0) {
            open.pop();
        }
        if let Some(left) = open.last_mut() {
            *left -= 1;
        }
        if children > 0 {
            open.push(children);
        }
        deepest = deepest.max(open.len());
        if deepest > MAX_DEPTH {
            return Ok(deepest);
        }
    }
    Ok(deepest)
}

fn children_of(thrift: &mut Compact<Cursor<&[u8]>>) -> io::Result<i64> {
    let (mut last, mut children) = (0, 0);
    while let Some((field, kind)) = thrift.field(&mut last)? {
        if (field, kind) == (5, I32) {
            children = thrift.number()?;
        } else {
            thrift.skip(kind)?;
        }
    }
    Ok(children)
}

/// What is largest in a table.
#[derive(Debug, Default)]
pub(super) struct Most {
    /// Bytes that a row takes, on average of its row group, or, where values are written once and referred to, all of
    /// these: that much one row can refer to.
    pub(super) row_bytes: u64,
}

/// Checks every page of the columns that are read.
pub(super) fn pages(
    metadata: &ParquetMetaData,
    mask: &ProjectionMask,
    file: &File,
    length: u64,
) -> Result<Most, TableFault> {
    let rows = u64::try_from(metadata.file_metadata().num_rows()).map_err(damaged)?;
    if rows > MAX_ROWS {
        return Err(TableFault::TooMuch { what: "the number of rows", got: rows, limit: MAX_ROWS });
    }
    let mut most = Most::default();
    for group in metadata.row_groups() {
        let rows = u64::try_from(group.num_rows()).map_err(damaged)?.max(1);
        let (mut bytes, mut dictionaries) = (0, 0);
        for (_, column) in group.columns().iter().enumerate().filter(|(leaf, _)| mask.leaf_included(*leaf)) {
            let (pages, dictionary) = column_pages(column, file, length)?;
            bytes += pages;
            dictionaries += dictionary;
        }
        most.row_bytes = most.row_bytes.max(bytes / rows + dictionaries);
    }
    Ok(most)
}

/// Checks the pages of a column: bytes of all of them when they are decompressed, and of the dictionary.
fn column_pages(column: &ColumnChunkMetaData, file: &File, length: u64) -> Result<(u64, u64), TableFault> {
    match column.compression() {
        Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::ZSTD(_) => {}
        other => return Err(TableFault::Compression { codec: other.to_string().to_lowercase() }),
    }
    let first = column.dictionary_page_offset().unwrap_or(i64::MAX).min(column.data_page_offset());
    let place = u64::try_from(first).ok().zip(u64::try_from(column.compressed_size()).ok());
    let Some((mut at, end)) = place.and_then(|(at, bytes)| Some((at, at.checked_add(bytes)?))) else {
        return Err(damaged("a column lies nowhere"));
    };
    if end > length {
        return Err(damaged(format!("a column should end at byte {end}, the file has {length}")));
    }
    let (mut bytes, mut dictionary) = (0, 0);
    while at < end {
        let page = page(file, at, end - at)
            .map_err(|error| damaged(format!("no page begins at byte {at}: {error}")))?;
        if !(0..=MAX_PAGE_BYTES).contains(&page.bytes) || !(0..=MAX_PAGE_VALUES).contains(&page.values) {
            let (what, got, limit) = if page.values > MAX_PAGE_VALUES {
                ("the number of values of a page", page.values, MAX_PAGE_VALUES)
            } else {
                ("the length of a page", page.bytes, MAX_PAGE_BYTES)
            };
            return Err(TableFault::TooMuch { what, got: got as u64, limit: limit as u64 });
        }
        if page.is_dictionary {
            if page.values > page.bytes {
                return Err(damaged("a dictionary has more values than bytes"));
            }
            dictionary = dictionary.max(page.bytes as u64);
        }
        bytes += page.bytes as u64;
        at += page.length;
    }
    Ok((bytes, dictionary))
}

struct Page {
    is_dictionary: bool,
    /// Bytes when decompressed.
    bytes: i64,
    values: i64,
    /// Bytes of header and content in the file.
    length: u64,
}

/// The header of the page at byte `at`, which has at most `room` bytes.
fn page(mut file: &File, at: u64, room: u64) -> io::Result<Page> {
    file.seek(SeekFrom::Start(at))?;
    let mut thrift = Compact::new(BufReader::with_capacity(1 << 10, file.take(room)));
    let (mut kind, mut bytes, mut compressed, mut values) = (-1, -1, -1, 0);
    let mut last = 0;
    while let Some((field, sort)) = thrift.field(&mut last)? {
        match (field, sort) {
            (1, I32) => kind = thrift.number()?,
            (2, I32) => bytes = thrift.number()?,
            (3, I32) => compressed = thrift.number()?,
            // The three sorts of pages all say how many values they have in their first field.
            (5 | 7 | 8, STRUCT) => {
                let mut last = 0;
                while let Some((field, sort)) = thrift.field(&mut last)? {
                    if (field, sort) == (1, I32) {
                        values = thrift.number()?;
                    } else {
                        thrift.skip(sort)?;
                    }
                }
            }
            _ => thrift.skip(sort)?,
        }
    }
    let length = u64::try_from(compressed).ok().and_then(|content| content.checked_add(thrift.bytes()));
    match length {
        Some(length) if length <= room => Ok(Page { is_dictionary: kind == 2, bytes, values, length }),
        _ => Err(wrong("it says that it is longer than its column, or not how long it is")),
    }
}

//! Cells of a table as JSON values and as pictures.

use arrow_array::{
    Array, ArrayRef, GenericListArray, OffsetSizeTrait, StructArray,
    cast::AsArray,
    types::{
        Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
        UInt32Type, UInt64Type,
    },
};
use arrow_schema::DataType;
use serde_json::Value;
use talkoot_dataset::{ingest::MAX_LINE_BYTES, sample::MAX_PICTURES};

/// Most bytes of text of a row, as of a line of records.
pub(super) const MAX_ROW_BYTES: u64 = MAX_LINE_BYTES;

/// A picture of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Picture<'a> {
    /// An encoded file.
    Bytes(&'a [u8]),
    /// The name of one that lies elsewhere.
    Named(String),
}

/// Takes `bytes` of what is left in `room`.
fn take(room: &mut u64, bytes: u64) -> Result<(), String> {
    *room = room
        .checked_sub(bytes)
        .ok_or_else(|| format!("the row has more than {MAX_ROW_BYTES} bytes of text"))?;
    Ok(())
}

/// The cell in `row` as JSON, while there is `room`. Nesting is bounded by the schema's.
pub(super) fn value(column: &dyn Array, row: usize, room: &mut u64) -> Result<Value, String> {
    if column.is_null(row) {
        return Ok(Value::Null);
    }
    // What a value takes besides its text, about.
    take(room, 16)?;
    if let Some(text) = text(column, row) {
        take(room, text.len() as u64)?;
        return Ok(text.into());
    }
    macro_rules! number {
        ($type:ty) => {
            Ok(column.as_primitive::<$type>().value(row).into())
        };
    }
    match column.data_type() {
        DataType::Boolean => Ok(column.as_boolean().value(row).into()),
        DataType::Int8 => number!(Int8Type),
        DataType::Int16 => number!(Int16Type),
        DataType::Int32 => number!(Int32Type),
        DataType::Int64 => number!(Int64Type),
        DataType::UInt8 => number!(UInt8Type),
        DataType::UInt16 => number!(UInt16Type),
        DataType::UInt32 => number!(UInt32Type),
        DataType::UInt64 => number!(UInt64Type),
        DataType::Float32 => number!(Float32Type),
        DataType::Float64 => number!(Float64Type),
        DataType::List(_) => list(column.as_list::<i32>(), row, room),
        DataType::LargeList(_) => list(column.as_list::<i64>(), row, room),
        DataType::Struct(_) => {
            let cells = column.as_struct();
            let fields = cells.column_names().into_iter().zip(cells.columns());
            let mut object = serde_json::Map::new();
            for (name, column) in fields {
                take(room, name.len() as u64)?;
                object.insert(name.to_owned(), value(&**column, row, room)?);
            }
            Ok(Value::Object(object))
        }
        other => Err(format!("cells of the type {other} are not read")),
    }
}

fn list<O: OffsetSizeTrait>(
    lists: &GenericListArray<O>,
    row: usize,
    room: &mut u64,
) -> Result<Value, String> {
    let items: ArrayRef = lists.value(row);
    (0..items.len()).map(|item| value(&*items, item, room)).collect::<Result<Vec<_>, _>>().map(Value::Array)
}

fn text(column: &dyn Array, row: usize) -> Option<&str> {
    match column.data_type() {
        DataType::Utf8 => Some(column.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => Some(column.as_string::<i64>().value(row)),
        DataType::Utf8View => Some(column.as_string_view().value(row)),
        _ => None,
    }
}

fn bytes(column: &dyn Array, row: usize) -> Option<&[u8]> {
    match column.data_type() {
        DataType::Binary => Some(column.as_binary::<i32>().value(row)),
        DataType::LargeBinary => Some(column.as_binary::<i64>().value(row)),
        DataType::BinaryView => Some(column.as_binary_view().value(row)),
        DataType::FixedSizeBinary(_) => Some(column.as_fixed_size_binary().value(row)),
        _ => None,
    }
}

/// Adds the pictures of the cell in `row` to `pictures`: none, one, or a list of them.
pub(super) fn pictures<'a>(
    column: &'a dyn Array,
    row: usize,
    pictures: &mut Vec<Picture<'a>>,
) -> Result<(), String> {
    if column.is_null(row) {
        return Ok(());
    }
    match column.data_type() {
        DataType::List(_) => {
            let lists = column.as_list::<i32>();
            let offsets = lists.value_offsets();
            items(lists.values(), offsets[row] as usize..offsets[row + 1] as usize, pictures)
        }
        DataType::LargeList(_) => {
            let lists = column.as_list::<i64>();
            let offsets = lists.value_offsets();
            items(lists.values(), offsets[row] as usize..offsets[row + 1] as usize, pictures)
        }
        _ => one(column, row).map(|picture| pictures.push(picture)),
    }
}

fn items<'a>(
    items: &'a ArrayRef,
    range: std::ops::Range<usize>,
    pictures: &mut Vec<Picture<'a>>,
) -> Result<(), String> {
    if range.len() > MAX_PICTURES {
        return Err(format!("{} pictures, at most {MAX_PICTURES} are taken", range.len()));
    }
    for item in range {
        pictures.push(one(&**items, item)?);
    }
    Ok(())
}

fn one(column: &dyn Array, row: usize) -> Result<Picture<'_>, String> {
    if column.is_null(row) {
        return Err("a picture of the list is null".into());
    }
    if let Some(bytes) = bytes(column, row) {
        return Ok(Picture::Bytes(bytes));
    }
    if let Some(name) = text(column, row) {
        return Ok(Picture::Named(name.to_owned()));
    }
    let DataType::Struct(_) = column.data_type() else {
        return Err(format!("pictures of the type {} are not read", column.data_type()));
    };
    let cells: &StructArray = column.as_struct();
    let field = |name| cells.column_by_name(name).filter(|column| !column.is_null(row));
    if let Some(bytes) = field("bytes").and_then(|column| bytes(&**column, row)) {
        return Ok(Picture::Bytes(bytes));
    }
    field("path")
        .and_then(|column| text(&**column, row))
        .map(|name| Picture::Named(name.to_owned()))
        .ok_or_else(|| "a picture without bytes and path".into())
}

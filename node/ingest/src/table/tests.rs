use std::{io::Write, sync::Arc};

use arrow_array::{ArrayRef, BinaryArray, StringArray};
use parquet::{arrow::ArrowWriter, basic::Compression, file::properties::WriterProperties};
use proptest::prelude::*;

use super::*;

fn table(columns: Vec<(&str, ArrayRef)>, compression: Compression) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let properties = WriterProperties::builder().set_compression(compression).build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

fn captions() -> Vec<(&'static str, ArrayRef)> {
    let pictures: ArrayRef = Arc::new(BinaryArray::from(vec![Some(&b"one"[..]), None, Some(b"three")]));
    let captions: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), Some("b"), None]));
    vec![("image", pictures), ("caption", captions)]
}

/// What comes of all rows of `bytes` as a table.
fn rows(bytes: &[u8]) -> Result<Vec<(usize, bool)>, TableFault> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    let mut rows = Rows::open(file)?;
    let mut out = Vec::new();
    while let Some(batch) = rows.next_batch()? {
        out.extend((0..batch.rows()).map(|row| match batch.row(row) {
            Ok(row) => (row.pictures.len(), true),
            Err(_) => (0, false),
        }));
    }
    Ok(out)
}

#[test]
fn rows_have_their_pictures_and_what_is_said_of_them() {
    for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::ZSTD(Default::default())]
    {
        assert_eq!(rows(&table(captions(), compression)).unwrap(), [(1, true), (0, true), (0, false)]);
    }
}

#[test]
fn what_is_no_table_or_has_nothing_to_learn_is_told() {
    let only = vec![("price", Arc::new(StringArray::from(vec!["1"])) as ArrayRef)];
    let error = rows(&table(only, Compression::SNAPPY)).unwrap_err();
    assert!(matches!(error, TableFault::Columns { .. }) && error.to_string().contains("price"), "{error}");
    for bytes in [&b""[..], b"PAR1PAR1PAR1", b"PAR1\xff\xff\xff\xffPAR1", b"PAR1\xff\xff\xff\x00PAR1"] {
        assert!(rows(bytes).is_err());
    }
    let whole = table(captions(), Compression::SNAPPY);
    assert!(rows(&whole[..whole.len() - 3]).is_err(), "cut off");
}

#[test]
fn a_schema_that_nests_without_end_is_refused_before_it_is_decoded() {
    // A list of 100,000 nodes, each of which says that it has one child: field 5 of type i32 with the value 1.
    let mut footer = vec![0x15, 0x02, 0x19, 0xfc];
    footer.extend([0xa0, 0x8d, 0x06]);
    footer.extend([0x55, 0x02, 0x00].repeat(100_000));
    let mut bytes = b"PAR1".to_vec();
    bytes.extend(&footer);
    bytes.extend((footer.len() as u32).to_le_bytes());
    bytes.extend(b"PAR1");
    assert!(rows(&bytes).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn damaged_tables_come_to_an_end(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let mut bytes = table(captions(), Compression::SNAPPY);
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        // Whatever comes of it, it is no more than there was.
        if let Ok(rows) = rows(&bytes) {
            prop_assert!(rows.len() <= 1 << 16);
        }
    }
}

//! A table: any bytes as a Parquet file.
#![no_main]

use std::io::Write;

use libfuzzer_sys::fuzz_target;
use talkoot_ingest::table::Rows;

fuzz_target!(|data: &[u8]| {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(data).expect("a file");
    let Ok(mut rows) = Rows::open(file) else { return };
    for _ in 0..64 {
        let Ok(Some(batch)) = rows.next_batch() else { return };
        (0..batch.rows()).for_each(|row| drop(batch.row(row)));
    }
});

//! A list of samples: any bytes as a whole file, and any bytes behind a right first line. What is read can be read again
//! at its place, and passes every check.
#![no_main]

use std::{
    fs::{self, File},
    path::Path,
    sync::LazyLock,
};

use libfuzzer_sys::fuzz_target;
use talkoot_dataset::{ListReader, sample::list::read_at};

const HEAD: &[u8] = b"{\"list\":\"talkoot samples\",\"version\":1,\"roots\":{}}\n";

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a folder"));

fn read(path: &Path) {
    let Ok(reader) = ListReader::open(path) else { return };
    let mut file = File::open(path).expect("the file");
    for placed in reader {
        let Ok(placed) = placed else { return };
        placed.sample.check().expect("it was checked");
        let again = read_at(&mut file, path, placed.offset).expect("it was read");
        assert_eq!(again, placed.sample);
    }
}

fuzz_target!(|data: &[u8]| {
    let path = FOLDER.path().join("fuzzed.jsonl");
    for bytes in [data, &[HEAD, data].concat()] {
        fs::write(&path, bytes).expect("the file");
        read(&path);
    }
});

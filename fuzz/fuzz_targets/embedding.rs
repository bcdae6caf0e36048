//! Embeddings: any bytes as a file of NumPy's or as safetensors, whichever the first byte says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use talkoot_balance::embedding::EmbeddingFile;

fuzz_target!(|data: &[u8]| {
    let Some((kind, data)) = data.split_first() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(if kind % 2 == 0 { "x.npy" } else { "x.safetensors" });
    std::fs::write(&path, data).expect("a file");
    let Ok(mut file) = EmbeddingFile::open(&path) else { return };
    assert!(file.rows() * file.width() as u64 <= data.len() as u64);
    let (mut rows, mut ids) = (Vec::new(), Vec::new());
    file.read(0, file.rows() as usize, &mut rows).expect("the rows lie in the file");
    let _ = file.read_ids(0, file.rows() as usize, &mut ids);
});

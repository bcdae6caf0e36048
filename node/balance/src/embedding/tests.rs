use std::fs;

use proptest::prelude::*;

use super::*;

fn id(number: u64) -> SampleId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    SampleId::from_bytes(bytes)
}

fn write(path: &Path, rows: &[f32], width: usize, ids: &[SampleId]) {
    let count = rows.len() / width;
    let mut writer = EmbeddingWriter::create(path, count as u64, width, !ids.is_empty()).unwrap();
    let cut = count / 2;
    writer.write(&rows[..cut * width], &ids[..cut.min(ids.len())]).unwrap();
    writer.write(&rows[cut * width..], &ids[cut.min(ids.len())..]).unwrap();
    writer.finish().unwrap();
}

proptest! {
    #[test]
    fn rows_come_back_as_they_were_written(
        width in 1usize..40,
        count in 0usize..30,
        seed: u32,
        with_ids: bool,
        tensors: bool,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(if tensors { "x.safetensors" } else { "x.npy" });
        let rows: Vec<f32> =
            (0..count * width).map(|at| f32::from_bits(seed.wrapping_mul(at as u32 | 1) >> 2)).collect();
        let ids: Vec<SampleId> = (0..count as u64).filter(|_| with_ids).map(id).collect();
        write(&path, &rows, width, &ids);
        let mut file = EmbeddingFile::open(&path).unwrap();
        prop_assert_eq!((file.rows(), file.width()), (count as u64, width));
        prop_assert_eq!(file.has_ids(), !ids.is_empty());
        let bits = |rows: &[f32]| rows.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        let first = count / 3;
        let (mut back, mut back_ids) = (Vec::new(), Vec::new());
        file.read(first as u64, count - first, &mut back).unwrap();
        file.read_ids(first as u64, count - first, &mut back_ids).unwrap();
        prop_assert_eq!(bits(&back), bits(&rows[first * width..]));
        prop_assert_eq!(&back_ids[..], &ids[first.min(ids.len())..]);
    }

    #[test]
    fn damaged_files_never_panic(at in 0usize..200, byte: u8, cut in 0usize..400, tensors: bool) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(if tensors { "x.safetensors" } else { "x.npy" });
        write(&path, &[1.0; 12], 4, &[id(1), id(2), id(3)]);
        let mut bytes = fs::read(&path).unwrap();
        let at = at % bytes.len();
        bytes[at] = byte;
        bytes.truncate(cut);
        fs::write(&path, &bytes).unwrap();
        if let Ok(mut file) = EmbeddingFile::open(&path) {
            prop_assert!(file.rows() <= 400 && file.width() <= 400);
            let mut rows = Vec::new();
            file.read(0, file.rows() as usize, &mut rows).unwrap();
        }
    }
}

#[test]
fn files_that_are_not_rows_are_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        EmbeddingFile::open(&path).unwrap_err().to_string()
    };
    let npy = |shape: &str, body: usize| {
        let text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
        let head =
            [b"\x93NUMPY\x01\x00", (text.len() as u16).to_le_bytes().as_slice(), text.as_bytes()].concat();
        [head, vec![0; body]].concat()
    };
    assert!(refused("x.txt", b"1 2 3").contains("neither .npy nor .safetensors"));
    assert!(refused("x.npy", &npy("(3,)", 12)).contains("shape [3]; it must be (rows, width)"));
    assert!(refused("x.npy", &npy("(1, 3, 1)", 12)).contains("shape [1, 3, 1]"));
    assert!(refused("x.npy", &npy("(3, 0)", 0)).contains("1 to 65536 numbers"));
    assert!(refused("x.npy", &npy("(3, 4)", 47)).contains("bytes by its head and has"));
    let huge = npy("(4611686018427387904, 4)", 16);
    assert!(refused("x.npy", &huge).contains("bytes by its head"), "a length that overflows");
    let tensors = |json: &str, body: usize| {
        [(json.len() as u64).to_le_bytes().as_slice(), json.as_bytes(), &vec![0; body]].concat()
    };
    let refused = |json: &str, body: usize| refused("x.safetensors", &tensors(json, body));
    assert!(
        refused(r#"{"embeddings":{"dtype":"I32","shape":[1,2],"data_offsets":[0,8]}}"#, 8).contains("I32")
    );
    assert!(refused(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 8).contains("tensors a:"));
    let two = r#"{"a":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1,1],"data_offsets":[4,8]}}"#;
    assert!(refused(two, 8).contains("tensors a, b:"));
    let ids = r#"{"x":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},"ids":{"dtype":"U8","shape":[1,16],"data_offsets":[8,24]}}"#;
    assert!(refused(ids, 24).contains("must be (2, 16)"));
    let oversize = [u64::MAX.to_le_bytes().as_slice(), b"{}"].concat();
    fs::write(folder.path().join("y.safetensors"), oversize).unwrap();
    let error = EmbeddingFile::open(&folder.path().join("y.safetensors")).unwrap_err().to_string();
    assert!(error.contains("cut off"), "{error}");
}

#[test]
fn ids_beside_the_rows_have_to_be_as_many_and_ids() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.npy");
    write(&path, &[1.0; 4], 2, &[id(7), id(8)]);
    let beside = folder.path().join("x.ids.txt");
    assert_eq!(fs::read_to_string(&beside).unwrap(), format!("{}\n{}\n", id(7), id(8)));
    fs::write(&beside, format!("{}\n", id(7))).unwrap();
    let error = EmbeddingFile::open(&path).unwrap_err().to_string();
    assert!(error.contains("x.ids.txt should have 66 bytes"), "{error}");
    fs::write(&beside, format!("{}\n{}\n", id(7), id(8).to_string().to_uppercase().replace('0', "G")))
        .unwrap();
    let error = EmbeddingFile::open(&path).unwrap().read_ids(0, 2, &mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("the id of row 1"), "{error}");
}

#[test]
fn half_numbers_are_read_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.npy");
    let values = [1.5f32, -0.25, 65_504.0];
    let body: Vec<u8> = values.iter().flat_map(|&value| half::f16::from_f32(value).to_le_bytes()).collect();
    fs::write(&path, [npy::head(FloatType::F16, 1, 3), body].concat()).unwrap();
    let mut rows = Vec::new();
    EmbeddingFile::open(&path).unwrap().read(0, 1, &mut rows).unwrap();
    assert_eq!(rows, values);
}

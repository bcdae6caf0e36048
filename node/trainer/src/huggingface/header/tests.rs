use proptest::prelude::*;
use safetensors::{SafeTensors, tensor::TensorView};

use super::*;

/// A file of two tensors, and its description as text.
fn file() -> (Vec<u8>, String) {
    let (a, b) = ([1u8; 24], [2u8; 6]);
    let views = [
        ("a", TensorView::new(Dtype::F32, vec![2, 3], &a).unwrap()),
        ("b", TensorView::new(Dtype::BF16, vec![3], &b).unwrap()),
    ];
    let bytes = safetensors::serialize(views, Some([("format".to_owned(), "pt".to_owned())].into())).unwrap();
    let length = Header::length(*bytes.first_chunk().unwrap(), bytes.len() as u64).unwrap();
    let text = String::from_utf8(bytes[8..8 + length].to_vec()).unwrap();
    (bytes, text)
}

fn parse(file: &[u8]) -> Result<Header, HeaderError> {
    let bytes = file.len() as u64;
    let Some(first) = file.first_chunk() else {
        return Err(HeaderError::Cut { header: 0, file: bytes });
    };
    let length = Header::length(*first, bytes)?;
    Header::parse(&file[8..8 + length], bytes)
}

#[test]
fn the_crates_file_is_read_and_ours_is_the_same() {
    let (bytes, text) = file();
    let header = parse(&bytes).unwrap();
    let data = 8 + text.len() as u64;
    let a = TensorPlace { dtype: Dtype::F32, shape: vec![2, 3], start: data, bytes: 24 };
    let b = TensorPlace { dtype: Dtype::BF16, shape: vec![3], start: data + 24, bytes: 6 };
    assert_eq!(header.tensors, [("a".to_owned(), a), ("b".to_owned(), b)].into());
    let ours = first_bytes([("a", Dtype::F32, &[2, 3][..]), ("b", Dtype::BF16, &[3])].into_iter()).unwrap();
    assert_eq!(ours, bytes[..data as usize]);
}

/// What is wrong with the file when `from` in its description is `to`.
fn refused(from: &str, to: &str) -> String {
    let (bytes, text) = file();
    assert!(text.contains(from), "{text}");
    let json = text.replacen(from, to, 1);
    let whole = (bytes.len() - text.len() + json.len()) as u64;
    Header::parse(json.as_bytes(), whole).unwrap_err().to_string()
}

#[test]
fn each_damage_is_named_with_its_tensor() {
    assert_eq!(refused("BF16", "BF17"), r#"tensor b has the unknown number type "BF17""#);
    assert_eq!(refused("[2,3]", "[2,4]"), "tensor a has shape [2, 4] of F32, but 24 bytes");
    assert_eq!(refused("BF16", "F4"), "tensor b has shape [3] of F4, but 6 bytes");
    assert_eq!(refused("[24,30]", "[30,24]"), "tensor b has shape [3] of BF16, but -6 bytes");
    let huge = refused("[2,3]", "[9223372036854775807,3]");
    assert!(huge.starts_with("tensor a has shape [9223372036854775807, 3]"), "{huge}");
    let gap = refused("[24,30]", "[26,32]");
    assert_eq!(gap, "tensor b starts at byte 26 of the data, but the tensor before it ends at 24");
    let overlap = refused("[24,30]", "[18,24]");
    assert_eq!(overlap, "tensor b starts at byte 18 of the data, but the tensor before it ends at 24");
}

#[test]
fn a_description_that_is_none_says_why() {
    let (bytes, text) = file();
    let said = |json: &str| match Header::parse(json.as_bytes(), bytes.len() as u64) {
        Err(HeaderError::Json(error)) => error.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(said(&text.replacen("\"b\"", "\"a\"", 1)).contains("a stands there twice"));
    assert!(said(&text.replacen("__metadata__", "metadata", 1)).contains("metadata: missing field"));
    assert!(said(&text.replacen("[3]", "[3.5]", 1)).contains("b: invalid type: floating point"));
    assert!(said("[]").contains("expected an object"));
    assert!(said(&format!("{text}x")).contains("trailing characters"));
}

#[test]
fn a_length_that_cannot_be_is_refused_before_anything_is_read() {
    let (bytes, text) = file();
    let whole = bytes.len() as u64;
    assert!(matches!(Header::length([255; 8], whole), Err(HeaderError::Cut { header: u64::MAX, .. })));
    assert!(matches!(Header::length((whole - 7).to_le_bytes(), whole), Err(HeaderError::Cut { .. })));
    assert!(Header::length((whole - 8).to_le_bytes(), whole).is_ok());
    let long = MAX_HEADER_BYTES + 1;
    assert!(
        matches!(Header::length(long.to_le_bytes(), 1 << 40), Err(HeaderError::TooLong { got }) if got == long)
    );
    for wrong in [whole - 1, whole + 1] {
        let refused = Header::parse(text.as_bytes(), wrong);
        assert!(matches!(refused, Err(HeaderError::Length { got, .. }) if got == wrong), "{refused:?}");
    }
}

proptest! {
    /// Whatever is accepted is accepted by the safetensors crate too, which sees the same tensors.
    #[test]
    fn damaged_files_are_refused_or_read_as_others_read_them(at in 0usize..200, byte: u8, cut: bool) {
        let (mut bytes, _) = file();
        let at = at % bytes.len();
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        if let Ok(header) = parse(&bytes) {
            let crates = SafeTensors::deserialize(&bytes).unwrap();
            prop_assert_eq!(crates.len(), header.tensors.len());
            for (name, place) in &header.tensors {
                let view = crates.tensor(name).unwrap();
                prop_assert_eq!(view.shape(), &place.shape);
                prop_assert_eq!(view.data(), &bytes[place.start as usize..][..place.bytes as usize]);
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(header) = parse(&bytes) {
            prop_assert!(SafeTensors::deserialize(&bytes).is_ok(), "{:?}", header);
        }
    }

    #[test]
    fn what_is_written_is_read(
        tensors in prop::collection::btree_map("[a-z.\"\\\\]{1,9}", (0usize..3, prop::collection::vec(0usize..5, 0..4)), 0..6)
    ) {
        let types = [Dtype::F32, Dtype::BF16, Dtype::F16];
        let list = || tensors.iter().map(|(name, (kind, shape))| (name.as_str(), types[*kind], shape.as_slice()));
        let mut file = first_bytes(list()).unwrap();
        let data = list().map(|(_, dtype, shape)| shape.iter().product::<usize>() * dtype.bitsize() / 8).sum::<usize>();
        file.resize(file.len() + data, 0);
        let header = parse(&file).unwrap();
        prop_assert_eq!(header.tensors.len(), tensors.len());
        for (name, dtype, shape) in list() {
            prop_assert_eq!((header.tensors[name].dtype, header.tensors[name].shape.as_slice()), (dtype, shape));
        }
    }
}

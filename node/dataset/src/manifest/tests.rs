use proptest::prelude::*;

use super::*;
use crate::index::tests::index;

pub(crate) fn making() -> Making {
    let source = |source: &str, licence: Option<&str>, samples| SourceCount {
        source: source.into(),
        licence: licence.map(Into::into),
        samples,
    };
    Making {
        name: "mine".into(),
        tool: "talkoot 0".into(),
        seed: 7,
        fit: FitRules { capacity: 256, max_segments: 64, balance: 0 },
        shard_bytes: 1 << 20,
        records: 22,
        rejects: [("bad_picture".into(), 2)].into(),
        sources: vec![source("a", None, 3), source("a", Some("CC0-1.0"), 4), source("b", None, 13)],
        sections: [("filter".into(), b"{}".to_vec())].into(),
    }
}

/// Digest of the manifest of [`index`] and [`making`], as it was before there were periods; from a program of its own.
const PLAIN: &str = "3891fbddb0ce7b0e338393586be89b9fa0956b22217f6fc980f24be1782b6fda";

fn key() -> Keypair {
    Keypair::from_seed([3; 32])
}

#[test]
fn a_manifest_round_trips_and_its_signature_does_not_change_its_name() {
    let bare = DatasetManifest::from_bytes(&to_bytes(&index(), &making(), None).unwrap()).unwrap();
    assert_eq!((&bare.index, &bare.making, bare.publisher), (&index(), &making(), None));
    let signed = DatasetManifest::from_bytes(&to_bytes(&index(), &making(), Some(&key())).unwrap()).unwrap();
    assert_eq!(signed.publisher, Some(key().id()));
    assert_eq!(signed.content, bare.content);
    let other = Making { seed: 8, ..making() };
    let other = DatasetManifest::from_bytes(&to_bytes(&index(), &other, None).unwrap()).unwrap();
    assert_ne!(other.content, bare.content);
}

#[test]
fn periods_make_another_version_and_their_lack_none() {
    let plain = to_bytes(&index(), &making(), None).unwrap();
    assert_eq!(Digest::of(&plain).to_string(), PLAIN, "the same bytes as before there were periods");
    let with = PackIndex { periods: vec![3, 3], ..index() };
    let bytes = to_bytes(&with, &making(), None).unwrap();
    assert_eq!((plain[7], bytes[7]), (1, 2));
    let read = DatasetManifest::from_bytes(&bytes).unwrap();
    assert_eq!(read.index, with);
    // Neither passes for the other.
    let refused = |mut bytes: Vec<u8>, version: u8| {
        bytes[7] = version;
        DatasetManifest::from_bytes(&bytes).unwrap_err().to_string()
    };
    assert!(refused(bytes, 1).contains("not the canonical ones"));
    assert!(refused(plain.clone(), 2).contains("malformed"));
    let none = [&plain[12..], &[0]].concat();
    let none = [MAGIC.as_slice(), &[2], &(none.len() as u32).to_le_bytes(), &none].concat();
    let error = DatasetManifest::from_bytes(&none).unwrap_err().to_string();
    assert!(error.contains("it has none"), "{error}");
}

#[test]
fn a_changed_content_or_signature_is_refused() {
    let signed = to_bytes(&index(), &making(), Some(&key())).unwrap();
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = signed.clone();
        change(&mut bytes);
        DatasetManifest::from_bytes(&bytes).unwrap_err()
    };
    let publisher = key().id();
    let last = signed.len() - 1;
    assert_eq!(refused(&|b| b[last] ^= 1), ManifestError::BadSignature { publisher });
    assert_eq!(refused(&|b| b[20] ^= 1), ManifestError::BadSignature { publisher });
    assert!(refused(&|b| b.truncate(last)).to_string().contains("95 bytes follow"));
    assert!(refused(&|b| b.truncate(30)).to_string().contains("shorter than it says"));
    assert_eq!(refused(&|b| b[7] = 9), ManifestError::WrongMagic);
    // Without its signature it is a sound manifest that nobody vouches for.
    let bare = DatasetManifest::from_bytes(&signed[..signed.len() - 96]).unwrap();
    assert_eq!(bare.publisher, None);
}

#[test]
fn a_manifest_that_contradicts_itself_is_neither_written_nor_read() {
    let mut wrong = index();
    wrong.totals.packs = 7;
    assert!(matches!(to_bytes(&wrong, &making(), None), Err(ManifestError::Index(_))));
    let body = wire::encode(&wrong, &making()).unwrap();
    let bytes = [MAGIC.as_slice(), &[1], &(body.len() as u32).to_le_bytes(), &body].concat();
    assert!(matches!(DatasetManifest::from_bytes(&bytes), Err(ManifestError::Index(_))));
    let mut unordered = making();
    unordered.sources.swap(0, 2);
    let bytes = to_bytes(&index(), &unordered, None).unwrap();
    assert!(DatasetManifest::from_bytes(&bytes).unwrap_err().to_string().contains("not in order"));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = DatasetManifest::from_bytes(&bytes);
        let _ = DatasetManifest::from_bytes(&[MAGIC.as_slice(), &bytes].concat());
        let length = (bytes.len() as u32).to_le_bytes();
        for version in [1, 2] {
            let _ = DatasetManifest::from_bytes(&[MAGIC.as_slice(), &[version], &length, &bytes].concat());
        }
    }

    #[test]
    fn what_is_accepted_is_canonical(at in 0usize..400, flip in 1u8.., in_periods in any::<bool>()) {
        let periods = if in_periods { vec![4, 2] } else { Vec::new() };
        let mut bytes = to_bytes(&PackIndex { periods, ..index() }, &making(), None).unwrap();
        let at = at % bytes.len();
        bytes[at] ^= flip;
        if let Ok(read) = DatasetManifest::from_bytes(&bytes) {
            prop_assert_eq!(to_bytes(&read.index, &read.making, None).unwrap(), bytes);
        }
    }
}

use std::process::Command;

use super::*;

/// Bytes that no 16 KiB group shares with another.
fn content(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut reader = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    reader.fill(&mut bytes);
    bytes
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn blobs_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut blobs = Vec::new();
    {
        let store = BlobStore::open(dir.path()).unwrap();
        for length in [0, 1, 16 * 1024, 16 * 1024 + 1, 300_000] {
            let bytes = content(length, 1);
            let blob = store.put(&bytes).unwrap();
            assert_eq!(blob, BlobRef::of(&bytes));
            assert_eq!(store.put(&bytes).unwrap(), blob);
            assert_eq!(store.layout().outboard(&blob.digest).exists(), length > 16 * 1024);
            blobs.push(blob);
        }
        blobs.sort();
        assert_eq!(store.list(), blobs);
    }
    let store = BlobStore::open(dir.path()).unwrap();
    assert_eq!(store.list(), blobs);
    for blob in &blobs {
        assert_eq!(BlobRef::of(&store.read(&blob.digest, blob.bytes).unwrap()), *blob);
        assert_eq!(store.size(&blob.digest), Some(blob.bytes));
        assert_eq!(store.path(&blob.digest), Some(dir.path().join("blobs").join(blob.digest.to_string())));
    }
    assert!(store.remove(&blobs[0].digest).unwrap());
    assert!(!store.remove(&blobs[0].digest).unwrap());
    assert_eq!(store.list(), blobs[1..]);
    assert!(matches!(store.read(&blobs[0].digest, 1 << 20), Err(StoreError::NotFound { .. })));
}

#[test]
fn a_file_is_copied_in_one_pass() {
    let dir = tempfile::tempdir().unwrap();
    let store = BlobStore::open(&dir.path().join("store")).unwrap();
    let outside = dir.path().join("shard");
    for length in [0, 5, 700_001] {
        let bytes = content(length, 2);
        fs::write(&outside, &bytes).unwrap();
        let blob = store.put_file(&outside).unwrap();
        assert_eq!(blob, BlobRef::of(&bytes));
        assert_eq!(store.read(&blob.digest, blob.bytes).unwrap(), bytes);
        assert_eq!(store.put_file(&outside).unwrap(), blob);
    }
    assert!(files::entries(&store.layout().folder("temp")).unwrap().is_empty());
}

#[test]
fn a_reader_is_bounded_before_it_allocates() {
    let dir = tempfile::tempdir().unwrap();
    let store = BlobStore::open(dir.path()).unwrap();
    let blob = store.put(&[7; 100]).unwrap();
    let error = store.read(&blob.digest, 99).unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { bytes: 100, max_bytes: 99, .. }), "{error}");
}

#[test]
fn a_flipped_bit_is_found_and_the_file_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let store = BlobStore::open(dir.path()).unwrap();
    let bytes = content(100_000, 3);
    let blob = store.put(&bytes).unwrap();
    flip(&store.path(&blob.digest).unwrap(), 70_000);
    let error = store.read(&blob.digest, blob.bytes).unwrap_err();
    let StoreError::Damaged { digest, path } = &error else { panic!("{error}") };
    assert_eq!((*digest, path.exists()), (blob.digest, true));
    assert!(error.to_string().contains("fetched again"), "{error}");
    assert!(!store.contains(&blob.digest) && store.list().is_empty());
    // and it can come back
    store.put(&bytes).unwrap();
    assert_eq!(store.read(&blob.digest, blob.bytes).unwrap(), bytes);
}

#[test]
fn serving_finds_a_flipped_bit_and_rebuilds_a_damaged_tree() {
    let dir = tempfile::tempdir().unwrap();
    let store = BlobStore::open(dir.path()).unwrap();
    let blob = store.put(&content(100_000, 4)).unwrap();
    let all = tree::groups(0, blob.bytes);
    let right = whole(store.slice(blob, &all).unwrap());
    flip(&store.layout().outboard(&blob.digest), 64);
    let found = |result| matches!(result, Err(SliceError::False));
    assert!(found(store.slice(blob, &all).unwrap().read_part(1 << 20)));
    store.mend(blob).unwrap();
    assert_eq!(whole(store.slice(blob, &all).unwrap()), right);
    flip(&store.path(&blob.digest).unwrap(), 99_999);
    assert!(found(store.slice(blob, &all).unwrap().read_part(1 << 20)));
    assert!(matches!(store.mend(blob), Err(StoreError::Damaged { .. })));
    assert!(!store.contains(&blob.digest));
}

#[test]
fn a_second_opening_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = BlobStore::open(dir.path()).unwrap();
    let error = BlobStore::open(dir.path()).unwrap_err();
    assert!(matches!(&error, StoreError::InUse { path } if path == dir.path()), "{error}");
    assert!(error.to_string().contains(&dir.path().display().to_string()), "{error}");
    drop(store);
    BlobStore::open(dir.path()).unwrap();
}

#[test]
fn a_closed_store_can_be_opened_although_a_copy_of_its_lock_file_lives_on() {
    // as in a child process between its birth and its first instruction
    let dir = tempfile::tempdir().unwrap();
    let store = BlobStore::open(dir.path()).unwrap();
    let _copy = store.0._lock.0.try_clone().unwrap();
    drop(store);
    BlobStore::open(dir.path()).unwrap();
}

/// Not a test of its own: the other process of the next one.
#[test]
fn helper_open_in_a_second_process() {
    if let Ok(dir) = std::env::var("TALKOOT_TEST_STORE") {
        assert!(matches!(BlobStore::open(Path::new(&dir)), Err(StoreError::InUse { .. })));
    }
}

#[test]
fn a_second_process_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _store = BlobStore::open(dir.path()).unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::tests::helper_open_in_a_second_process"])
        .env("TALKOOT_TEST_STORE", dir.path())
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn leftovers_of_a_kill_are_put_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (kept, treeless, damaged);
    {
        let store = BlobStore::open(dir.path()).unwrap();
        kept = store.put(&content(50_000, 5)).unwrap();
        treeless = store.put(&content(60_000, 6)).unwrap();
        damaged = store.put(&content(70_000, 7)).unwrap();
    }
    let layout = Layout::create(dir.path()).unwrap();
    fs::write(layout.folder("temp").join("17"), "half a blob").unwrap();
    fs::write(layout.partial(&Digest::of(b"coming")), "half a download").unwrap();
    fs::write(layout.outboard(&Digest::of(b"gone")), [0; 64]).unwrap();
    fs::write(layout.hidden(&Digest::of(b"gone")), "").unwrap();
    fs::write(layout.folder("blobs").join("README"), "somebody's note").unwrap();
    fs::remove_file(layout.outboard(&treeless.digest)).unwrap();
    fs::remove_file(layout.outboard(&damaged.digest)).unwrap();
    flip(&layout.blob(&damaged.digest), 9);

    let store = BlobStore::open(dir.path()).unwrap();
    let mut expected = vec![kept, treeless];
    expected.sort();
    assert_eq!(store.list(), expected);
    assert!(files::entries(&layout.folder("temp")).unwrap().is_empty());
    assert!(layout.partial(&Digest::of(b"coming")).exists(), "a download goes on where it stopped");
    assert!(!layout.outboard(&Digest::of(b"gone")).exists() && !store.is_hidden(&Digest::of(b"gone")));
    assert!(layout.damaged(&damaged.digest).exists());
    whole(store.slice(treeless, &tree::groups(0, treeless.bytes)).unwrap());
}

#[test]
fn a_corrupt_index_is_rebuilt_from_the_files() {
    for way in ["garbage", "removed", "truncated", "file"] {
        let dir = tempfile::tempdir().unwrap();
        let mut blobs: Vec<_> = {
            let store = BlobStore::open(dir.path()).unwrap();
            (0..20).map(|i| store.put(&content(1000 + i, i as u64)).unwrap()).collect()
        };
        blobs.sort();
        let index = dir.path().join("index");
        match way {
            "removed" => fs::remove_dir_all(&index).unwrap(),
            "file" => {
                fs::remove_dir_all(&index).unwrap();
                fs::write(&index, "not a folder").unwrap();
            }
            _ => {
                let files = files::entries(&index).unwrap();
                assert!(!files.is_empty());
                for file in files {
                    let length = fs::metadata(&file).unwrap().len().clamp(64, 1 << 20);
                    let length = usize::try_from(length).unwrap();
                    fs::write(
                        &file,
                        if way == "garbage" { content(length, 99) } else { vec![0; length / 2] },
                    )
                    .unwrap();
                }
            }
        }
        for _ in 0..2 {
            let store = BlobStore::open(dir.path()).unwrap();
            assert_eq!(store.list(), blobs, "{way}");
            assert_eq!(store.0.index().digests().map(|digests| digests.len()), Some(20), "{way}");
        }
    }
}

#[test]
fn the_index_never_outvotes_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = {
        let store = BlobStore::open(dir.path()).unwrap();
        let lost = store.put(b"lost").unwrap();
        store.0.index().insert(&Digest::of(b"never was"), 5);
        fs::remove_file(store.layout().blob(&lost.digest)).unwrap();
        assert_eq!(store.list(), []);
        (lost, BlobRef::of(b"dropped in by hand"))
    };
    fs::write(dir.path().join("blobs").join(second.digest.to_string()), "dropped in by hand").unwrap();
    let store = BlobStore::open(dir.path()).unwrap();
    assert_eq!(store.list(), [second]);
    assert!(!store.contains(&first.digest));
}

#[test]
fn hidden_blobs_stay_hidden_until_revealed() {
    let dir = tempfile::tempdir().unwrap();
    let (secret, open);
    {
        let store = BlobStore::open(dir.path()).unwrap();
        secret = store.put_hidden(b"a contribution").unwrap();
        open = store.put(b"a shard").unwrap();
        store.put_hidden(b"a shard").unwrap();
        assert!(!store.is_hidden(&open.digest), "a visible blob stays visible");
        assert_eq!(store.read(&secret.digest, 100).unwrap(), b"a contribution");
    }
    let store = BlobStore::open(dir.path()).unwrap();
    assert!(store.is_hidden(&secret.digest) && store.visible_size(&secret.digest).is_none());
    store.reveal(&secret.digest).unwrap();
    store.reveal(&secret.digest).unwrap();
    assert_eq!(store.visible_size(&secret.digest), Some(secret.bytes));
    store.hide(&open.digest).unwrap();
    assert!(store.is_hidden(&open.digest));
    assert!(matches!(store.hide(&Digest::of(b"?")), Err(StoreError::NotFound { .. })));
    assert!(matches!(store.reveal(&Digest::of(b"?")), Err(StoreError::NotFound { .. })));
}

#[test]
fn a_full_disk_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("blob");
    let error = StoreError::io("writing", &path, io::Error::from(io::ErrorKind::StorageFull));
    assert!(matches!(error, StoreError::DiskFull { free_bytes: Some(_), .. }), "{error:?}");
    let text = error.to_string();
    for part in ["writing", &path.display().to_string(), "MiB are free there", "free some space"] {
        assert!(text.contains(part), "{text}");
    }
}

/// All of a slice.
fn whole(mut reader: SliceReader) -> Vec<u8> {
    let mut slice = Vec::new();
    loop {
        match reader.read_part(100_000).unwrap() {
            part if part.is_empty() => return slice,
            part => slice.extend(part),
        }
    }
}

/// Feeds a slice in odd parts, and writes what is right of it.
fn feed(partial: &Partial, ranges: &ChunkRanges, slice: &[u8]) -> Result<(), u64> {
    let mut incoming = Incoming::new(partial.blob(), ranges);
    let fed = slice.chunks(1777).try_for_each(|part| incoming.feed(part));
    partial.write(incoming.take_proven()).unwrap();
    assert_eq!(fed.is_ok(), incoming.is_complete());
    fed
}

#[test]
fn a_partial_blob_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let source = BlobStore::open(&dir.path().join("a")).unwrap();
    let target = BlobStore::open(&dir.path().join("b")).unwrap();
    let bytes = content(400_000, 8);
    let blob = source.put(&bytes).unwrap();
    let first = tree::groups(0, 100_000);
    {
        let partial = target.partial(blob).unwrap();
        assert!(partial.have().is_empty());
        feed(&partial, &first, &whole(source.slice(blob, &first).unwrap())).unwrap();
        // others are served from it at once
        assert!(partial.holds(&first) && !partial.holds(&tree::groups(0, 200_000)));
        assert_eq!(whole(partial.slice(&first).unwrap()), whole(source.slice(blob, &first).unwrap()));
    }
    {
        let partial = target.partial(blob).unwrap();
        assert_eq!(partial.have(), first);
        let rest = missing(blob.bytes, &partial.have());
        let mut slice = whole(source.slice(blob, &rest).unwrap());
        let last = slice.len() - 1;
        slice[last] ^= 1;
        assert_eq!(feed(&partial, &rest, &slice), Err(400_000 / tree::GROUP_BYTES * tree::GROUP_BYTES));
        assert!(!target.contains(&blob.digest));
    }
    // a bit that flipped in what was there is fetched again, and nothing else
    flip(&target.layout().partial(&blob.digest), 20_000);
    let partial = target.partial(blob).unwrap();
    let rest = missing(blob.bytes, &partial.have());
    assert_eq!(tree::byte_ranges(&rest, blob.bytes), [(16_384, 32_768), (393_216, 400_000)]);
    assert!(matches!(partial.slice(&rest).unwrap().read_part(1 << 20), Err(SliceError::False)));
    feed(&partial, &rest, &whole(source.slice(blob, &rest).unwrap())).unwrap();
    partial.finish().unwrap();
    assert_eq!(target.read(&blob.digest, blob.bytes).unwrap(), bytes);
    assert!(files::entries(&target.layout().folder("partial")).unwrap().is_empty());
    whole(target.slice(blob, &tree::groups(0, blob.bytes)).unwrap());
}

#[test]
fn bytes_after_the_end_of_a_slice_are_a_lie() {
    let dir = tempfile::tempdir().unwrap();
    let store = BlobStore::open(dir.path()).unwrap();
    let blob = store.put(&content(50_000, 3)).unwrap();
    let all = tree::groups(0, blob.bytes);
    let mut slice = whole(store.slice(blob, &all).unwrap());
    slice.push(0);
    let mut incoming = Incoming::new(blob, &all);
    assert_eq!(incoming.feed(&slice), Err(u64::MAX));
    assert_eq!(incoming.proven_bytes(), 50_000);
}

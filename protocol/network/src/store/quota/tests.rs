use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use super::*;

fn content(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

const KIB_100: usize = 100 << 10;

/// A store with room for three blobs of 100 KiB, and the first three.
fn store(dir: &Path) -> (BlobStore, Vec<BlobRef>) {
    let store = BlobStore::open(dir).unwrap();
    store.set_quota(Some(3 * footprint(KIB_100 as u64) + 1000)).unwrap();
    let blobs = (0..3).map(|seed| store.put(&content(KIB_100, seed)).unwrap()).collect();
    (store, blobs)
}

fn here(store: &BlobStore, blobs: &[BlobRef]) -> Vec<bool> {
    blobs.iter().map(|blob| store.contains(&blob.digest)).collect()
}

#[test]
fn what_was_asked_for_longest_ago_goes_first() {
    let dir = tempfile::tempdir().unwrap();
    let (store, blobs) = store(dir.path());
    store.read(&blobs[0].digest, 1 << 20).unwrap();
    let next = store.put(&content(KIB_100, 3)).unwrap();
    assert_eq!(here(&store, &blobs), [true, false, true]);
    assert!(store.contains(&next.digest));
    assert!(store.used_bytes() <= 3 * footprint(KIB_100 as u64));
    // and again after a restart
    drop(store);
    let store = BlobStore::open(dir.path()).unwrap();
    assert_eq!(store.used_bytes(), 3 * footprint(KIB_100 as u64));
    store.set_quota(Some(footprint(KIB_100 as u64))).unwrap();
    assert_eq!(store.list().len(), 1);
}

#[test]
fn pinned_hidden_and_half_fetched_blobs_stay() {
    let dir = tempfile::tempdir().unwrap();
    let (store, blobs) = store(dir.path());
    store.pin("weights", [blobs[0].digest]);
    store.pin("more", [blobs[0].digest, Digest::of(b"not here yet")]);
    store.hide(&blobs[1].digest).unwrap();
    let coming = BlobRef::of(&content(KIB_100, 9));
    let partial = store.partial(coming).unwrap();
    assert_eq!(here(&store, &blobs), [true, true, false], "the download needed room");
    let error = store.put(&content(KIB_100, 4)).unwrap_err();
    let StoreError::QuotaFull { quota_bytes, kept_bytes, wanted_bytes } = error else { panic!("{error}") };
    assert_eq!(kept_bytes + wanted_bytes, 4 * footprint(KIB_100 as u64));
    assert!(kept_bytes + wanted_bytes > quota_bytes);
    assert!(error.to_string().contains("raise the quota to"), "{error}");
    assert_eq!(here(&store, &blobs), [true, true, false], "nothing was removed in vain");
    // what is given up makes room
    drop(partial);
    store.pin("weights", []);
    assert!(store.put(&content(KIB_100, 4)).is_ok(), "the left-over download makes room");
    assert!(store.put(&content(KIB_100, 5)).is_ok());
    assert_eq!(here(&store, &blobs), [true, true, false], "still pinned for the other purpose");
    store.pin("more", []);
    store.reveal(&blobs[1].digest).unwrap();
    store.set_quota(Some(0)).unwrap();
    assert!(store.list().is_empty());
}

#[test]
fn a_quota_below_what_is_pinned_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (store, blobs) = store(dir.path());
    store.pin("weights", blobs.iter().map(|blob| blob.digest));
    let error = store.set_quota(Some(1000)).unwrap_err();
    assert!(matches!(error, StoreError::QuotaFull { .. }), "{error}");
    assert_eq!(here(&store, &blobs), [true; 3]);
}

#[test]
fn a_download_that_goes_on_does_not_lose_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = store(dir.path());
    let coming = BlobRef::of(&content(2 * KIB_100, 9));
    let path = store.layout().partial(&coming.digest);
    fs::write(&path, [1; 1000]).unwrap();
    let _partial = store.partial(coming).unwrap();
    assert!(path.exists());
    assert_eq!(store.list().len(), 1);
}

const DIR: &str = "TALKOOT_TEST_EVICT_DIR";

/// Not a test of its own: the process that the next one kills.
#[test]
fn helper_evict_until_killed() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let store = BlobStore::open(Path::new(&dir)).unwrap();
    let pinned = store.put(&content(KIB_100, 1_000_000)).unwrap();
    store.pin("weights", [pinned.digest]);
    store.set_quota(Some(4 * footprint(KIB_100 as u64))).unwrap();
    println!("\nevicting");
    for seed in 0.. {
        store.put(&content(KIB_100, seed)).unwrap();
    }
}

#[test]
fn a_kill_in_the_middle_of_an_eviction_leaves_whole_blobs() {
    let dir = tempfile::tempdir().unwrap();
    let pinned = BlobStore::open(dir.path()).unwrap().put(&content(KIB_100, 1_000_000)).unwrap();
    for life in 0..6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::quota::tests::helper_evict_until_killed", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // until it has stored something in this life, and then a little more or less
        let begun = Instant::now();
        let last = dir.path().join("blobs");
        let stamp = || fs::metadata(&last).and_then(|meta| meta.modified()).ok();
        let before = stamp();
        while stamp() == before && begun.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(30 + 7 * life));
        child.kill().unwrap();
        child.wait().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        assert!(store.contains(&pinned.digest), "life {life}");
        let blobs = store.list();
        assert!(!blobs.is_empty() && blobs.len() <= 5, "life {life}: {blobs:?}");
        for blob in blobs {
            store.read(&blob.digest, blob.bytes).unwrap();
            store.mend(blob).unwrap();
        }
    }
}

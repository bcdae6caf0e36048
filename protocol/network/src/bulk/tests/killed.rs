//! Processes that are killed in the middle, and disks that are full.

use std::{
    path::Path,
    process::{Child, Command},
};

use super::*;
use crate::store::missing;

const DIR: &str = "TALKOOT_TEST_FETCH_DIR";
const WHAT: &str = "TALKOOT_TEST_FETCH";

/// Kills the process when the test ends.
pub(super) struct Doomed(pub(super) Child);

impl Drop for Doomed {
    fn drop(&mut self) {
        // SIGKILL on Unix
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Not a test of its own: the process that the next one kills.
#[tokio::test]
async fn helper_fetch_until_killed() {
    let (Ok(dir), Ok(what)) = (std::env::var(DIR), std::env::var(WHAT)) else { return };
    let words: Vec<&str> = what.split(' ').collect();
    let [blob, peer, address] = words[..] else { panic!("{what}") };
    let table = watch::Sender::new(BTreeMap::from([(peer.parse().unwrap(), address.parse().unwrap())]));
    let store = BlobStore::open(Path::new(&dir)).unwrap();
    let key = Keypair::from_seed([2; 32]);
    let bulk = Bulk::start(LOCAL, &key, store, table.subscribe(), Line::default()).await.unwrap();
    bulk.fetch(blob.parse().unwrap(), &[], Urgency::Soon).await.unwrap();
}

fn fetching(dir: &Path, blob: BlobRef, from: &Peer) -> Doomed {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "bulk::tests::killed::helper_fetch_until_killed", "--nocapture"])
        .env(DIR, dir)
        .env(WHAT, format!("{blob} {} {}", from.id, from.bulk.local_addr()))
        .spawn();
    Doomed(child.unwrap())
}

#[tokio::test]
async fn after_a_kill_only_what_is_missing_is_fetched() {
    let table = table();
    let line = Line { seeder: true, up_bits_per_sec: Some(80_000_000), ..Line::default() };
    let a = member_with(1, &table, line).await;
    announce(&table, a.id, a.bulk.local_addr());
    let bytes = content(24 << 20, 1);
    let blob = a.store.put(&bytes).unwrap();
    let dir = tempfile::tempdir().unwrap();
    // twice, so that what one life left the next one takes up
    for upto in [6 << 20, 8 << 20] {
        let before = a.bulk.bytes().0;
        let child = fetching(dir.path(), blob, &a);
        while a.bulk.bytes().0 < before + upto {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(child);
    }
    let store = BlobStore::open(dir.path()).unwrap();
    assert!(!store.contains(&blob.digest));
    let lacks: u64 = {
        let partial = store.partial(blob).unwrap();
        let lacks = missing(blob.bytes, &partial.have());
        tree::byte_ranges(&lacks, blob.bytes).iter().map(|(start, end)| end - start).sum()
    };
    assert!(
        lacks < blob.bytes - (8 << 20),
        "{lacks} of {} bytes are missing after 14 MiB were sent",
        blob.bytes
    );
    let key = Keypair::from_seed([2; 32]);
    let b = Bulk::start(LOCAL, &key, store.clone(), table.subscribe(), Line::default()).await.unwrap();
    b.fetch(blob, &[], Urgency::Soon).await.unwrap();
    assert_eq!(store.read(&blob.digest, blob.bytes).unwrap(), bytes);
    let received = b.bytes().1;
    // the hashes on the way to what is missing come along
    assert!(received < lacks + lacks / 100 + 65_536, "{received} bytes came, {lacks} were missing");
}

/// A small disk of its own, where the system lets us have one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(mib: u32) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={mib}m");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "talkoot-test"]).arg(dir.path()).output();
        if !mount.is_ok_and(|output| output.status.success()) {
            eprintln!("SKIPPED: a small disk needs root and tmpfs");
            return None;
        }
        Some(Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

#[tokio::test]
async fn a_download_waits_for_room_on_a_full_disk_and_goes_on() {
    let Some(disk) = SmallDisk::mount(12) else { return };
    let table = table();
    let a = listed(1, &table).await;
    let bytes = content(6 << 20, 2);
    let blob = a.store.put(&bytes).unwrap();
    let ballast = disk.0.path().join("ballast");
    fs::write(&ballast, vec![1; 8 << 20]).unwrap();
    let store = BlobStore::open(&disk.0.path().join("store")).unwrap();
    // what is full is named, and by how much
    let error = store.put(&content(6 << 20, 3)).unwrap_err();
    assert!(matches!(&error, crate::StoreError::DiskFull { free_bytes: Some(_), .. }), "{error}");
    assert!(error.to_string().contains("the disk is full"), "{error}");
    let key = Keypair::from_seed([2; 32]);
    let b = Bulk::start(LOCAL, &key, store.clone(), table.subscribe(), Line::default()).await.unwrap();
    let fetching = tokio::spawn({
        let b = b.clone();
        async move { b.fetch(blob, &[], Urgency::Soon).await }
    });
    // until it has run into the end of the disk
    while fs4::available_space(disk.0.path()).unwrap() > 64 << 10 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!fetching.is_finished(), "a full disk is waited for");
    fs::remove_file(&ballast).unwrap();
    fetching.await.unwrap().unwrap();
    assert_eq!(store.read(&blob.digest, blob.bytes).unwrap(), bytes);
}

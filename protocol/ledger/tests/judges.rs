//! Logs of ours before judges that nobody here wrote: Go's x/mod (through `tlogcheck`) and the published
//! Rust port of it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/kit.rs"]
mod support;

use std::path::Path;

use proptest::prelude::*;
use support::{ORIGIN, SEED, entries, judged, vkey, write_log};
use talkoot_ledger::{
    CompactRange, Folder, Hash, Log, TileSource as _,
    reader::{consistency_proof, current, inclusion_proof, replay, root_at, verify_history},
    tree::leaf_hash,
};
use tlog_tiles::{TileHashReader, TileReader};

/// Sizes around every edge of a tile.
const SIZES: [u64; 9] = [1, 255, 256, 257, 511, 512, 513, 600, 1_000];

#[test]
fn go_accepts_every_size_with_its_history() {
    for size in SIZES {
        let dir = tempfile::tempdir().unwrap();
        write_log(dir.path(), &[size]);
        expect_accepted(dir.path(), size);
    }
    let dir = tempfile::tempdir().unwrap();
    write_log(dir.path(), &SIZES);
    expect_accepted(dir.path(), 1_000);
}

/// The root of no entries is SHA-256 of nothing (RFC 6962, section 2.1). Debian's x/mod 0.7.0 still takes
/// it for 32 zero bytes; later ones do not.
#[test]
fn go_differs_on_the_empty_log_at_most_by_its_old_empty_root() {
    let dir = tempfile::tempdir().unwrap();
    write_log(dir.path(), &[]);
    assert_eq!(replay(&Folder::new(dir.path()), &vkey(), |_, _| {}).unwrap().checkpoint.size, 0);
    if let Some(Err(said)) = judged(dir.path(), &vkey(), true) {
        assert!(said.contains("root from entries is AAAAAAAA"), "{said}");
    }
}

#[test]
fn go_accepts_a_log_of_three_tile_levels() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::create(dir.path(), ORIGIN, &SEED).unwrap();
    for size in [1, 300, 65_535, 65_536, 65_537, 70_000] {
        log.append(&entries(log.size(), size)).unwrap();
        expect_accepted(dir.path(), size);
    }
    // the example of the specification: 273 + 1, 1 + 1 and 1 hash tiles
    for tile in ["0/272", "0/273.p/112", "1/000", "1/001.p/17", "2/000.p/1"] {
        assert!(dir.path().join("tile").join(tile).exists(), "{tile}");
    }
}

fn expect_accepted(dir: &Path, size: u64) {
    let folder = Folder::new(dir);
    let mut seen = Vec::new();
    let signed = replay(&folder, &vkey(), |_, entry| seen.push(entry.to_vec())).unwrap();
    assert_eq!(signed.checkpoint.size, size);
    assert!(seen == entries(0, size));
    verify_history(&folder, &vkey(), &signed.checkpoint).unwrap();
    if let Some(verdict) = judged(dir, &vkey(), true) {
        let said = verdict.unwrap_or_else(|said| panic!("size {size}: {said}"));
        assert!(said.contains(&format!("replay: {size} entries")), "{said}");
    }
}

/// Our folder for the other crate: it names tiles the older way.
struct Older(Folder);

impl TileReader for Older {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[tlog_tiles::Tile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
        Ok(tiles
            .iter()
            .map(|tile| {
                let path = tile.path().replacen("tile/8/", "tile/", 1);
                self.0.read(&path, 8_193).unwrap().unwrap_or_else(|| panic!("{path}"))
            })
            .collect())
    }

    fn save_tiles(&self, _tiles: &[tlog_tiles::Tile], _data: &[Vec<u8>]) {}
}

fn theirs(hash: Hash) -> tlog_tiles::Hash {
    tlog_tiles::Hash(hash.0)
}

fn hold_against_the_other_crate(dir: &Path, indices: &[u64], olds: &[u64]) {
    let folder = Folder::new(dir);
    let checkpoint = current(&folder, &vkey()).unwrap().checkpoint;
    let (size, root) = (checkpoint.size, theirs(checkpoint.root));
    let older = Older(folder.clone());
    let reader = TileHashReader::new(size, root, &older);
    assert_eq!(tlog_tiles::tree_hash(size, &reader).unwrap(), root);
    for index in indices.iter().map(|index| index % size) {
        let ours: Vec<_> =
            inclusion_proof(&folder, &checkpoint, index).unwrap().into_iter().map(theirs).collect();
        assert_eq!(ours, tlog_tiles::prove_record(size, index, &reader).unwrap());
        let leaf = tlog_tiles::record_hash(&entries(index, index + 1)[0]);
        tlog_tiles::check_record(&ours, size, root, index, leaf).unwrap();
    }
    for old in olds.iter().map(|old| old % size + 1) {
        let ours: Vec<_> =
            consistency_proof(&folder, &checkpoint, old).unwrap().into_iter().map(theirs).collect();
        assert_eq!(ours, tlog_tiles::prove_tree(size, old, &reader).unwrap());
        let old_root = theirs(root_at(&folder, &checkpoint, old).unwrap());
        tlog_tiles::check_tree(&ours, size, root, old, old_root).unwrap();
    }
}

#[test]
fn the_other_crate_gives_the_same_proofs() {
    for size in SIZES {
        let dir = tempfile::tempdir().unwrap();
        write_log(dir.path(), &[size]);
        hold_against_the_other_crate(
            dir.path(),
            &[0, 1, 254, 255, 256, 511, size - 1],
            &[0, 254, 255, 256, size - 1],
        );
    }
}

#[test]
fn around_65_536_tiles_ranges_and_the_other_crate_agree() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::create(dir.path(), ORIGIN, &SEED).unwrap();
    let mut range = CompactRange::new();
    for size in [65_535, 65_536, 65_537] {
        let batch = entries(log.size(), size);
        batch.iter().for_each(|entry| range.append(leaf_hash(entry)));
        log.append(&batch).unwrap();
        assert_eq!(log.root(), range.root());
        hold_against_the_other_crate(
            dir.path(),
            &[0, 255, 256, 65_280, size - 1],
            &[0, 256, 65_534, size - 2],
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn random_logs_stand_before_both(
        steps in proptest::collection::vec(1_u64..400, 1..6),
        indices in proptest::collection::vec(any::<u64>(), 4),
        olds in proptest::collection::vec(any::<u64>(), 4),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let sizes: Vec<u64> = steps.iter().scan(0, |size, step| { *size += step; Some(*size) }).collect();
        write_log(dir.path(), &sizes);
        hold_against_the_other_crate(dir.path(), &indices, &olds);
        expect_accepted(dir.path(), *sizes.last().unwrap());
    }
}

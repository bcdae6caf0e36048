//! Stretches of a blob, proven and not stored.

use super::*;
use std::ops::Range;

use crate::bulk::ranges::RangesError;

fn one(start: u64, end: u64) -> Vec<Range<u64>> {
    std::iter::once(start..end).collect()
}

#[tokio::test]
async fn stretches_come_in_the_order_asked_for_and_nothing_is_kept() {
    let table = table();
    let (a, b) = (listed(1, &table).await, listed(2, &table).await);
    let bytes = content(1_000_003, 3);
    let blob = a.store.put(&bytes).unwrap();
    // within a group, over the end of one, the very last byte, and one twice
    let wanted = [500_000..500_100, 16_000..33_000, 1_000_002..1_000_003, 0..1, 16_000..16_001];
    let came = b.bulk.ranges(blob, &wanted, a.id).await.unwrap();
    for (range, came) in wanted.iter().zip(&came) {
        assert_eq!(came, &bytes[range.start as usize..range.end as usize], "{range:?}");
    }
    assert!(!b.store.contains(&blob.digest) && b.store.open_partial(&blob.digest).is_none());
    assert!(b.bulk.bytes().1 < 200_000, "{} bytes came of a blob of a million", b.bulk.bytes().1);
}

#[tokio::test]
async fn what_is_too_much_hidden_or_absent_does_not_come() {
    let table = table();
    let (a, b) = (listed(1, &table).await, listed(2, &table).await);
    let blob = a.store.put_hidden(&content(100_000, 4)).unwrap();
    let hidden = b.bulk.ranges(blob, &one(0, 10), a.id).await.unwrap_err();
    assert!(matches!(hidden, RangesError::Unavailable { .. }), "{hidden}");
    let absent = b.bulk.ranges(BlobRef::of(b"nobody has this"), &one(0, 3), a.id).await.unwrap_err();
    assert!(matches!(absent, RangesError::Unavailable { .. }), "{absent}");
    let stranger = b.bulk.ranges(blob, &one(0, 10), Keypair::from_seed([7; 32]).id()).await.unwrap_err();
    assert!(stranger.to_string().contains("not connected"), "{stranger}");
    for wrong in [vec![], one(10, 10), one(99_999, 100_001), one(0, 3 << 20), vec![0..1; 33]] {
        let error = b.bulk.ranges(BlobRef { bytes: blob.bytes, ..blob }, &wrong, a.id).await.unwrap_err();
        assert!(matches!(error, RangesError::Bounds { .. }), "{wrong:?}: {error}");
    }
}

#[tokio::test]
async fn who_sends_false_stretches_is_asked_nothing_more() {
    let table = table();
    let (honest, b) = (member(1, &table).await, listed(2, &table).await);
    let blob = honest.store.put(&content(300_000, 5)).unwrap();
    let (id, address, _task) = liar(9, honest.store.clone(), Arc::default());
    announce(&table, id, address);
    let lied = b.bulk.ranges(blob, &one(100_000, 120_000), id).await.unwrap_err();
    assert!(matches!(lied, RangesError::Lied { .. }), "{lied}");
    assert!(b.bulk.0.is_dropped(&id));
    let again = b.bulk.ranges(blob, &one(0, 1), id).await.unwrap_err();
    assert!(matches!(again, RangesError::Unavailable { .. }), "{again}");
}

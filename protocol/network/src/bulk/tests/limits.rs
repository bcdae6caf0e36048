//! The donor's limits, and what goes first.

use tokio::time::Instant;

use super::*;
use crate::store::missing;

/// Bits a second allowed where there is a limit.
const LIMIT: u64 = 12_000_000;

/// What a busy machine cannot hide: that so many bytes which began to flow then were counted against the limit.
fn is_counted(rate: &Rate, bits_per_sec: u64, bytes: usize, begin: Instant) {
    let line = Duration::from_secs_f64(bytes as f64 * 8.0 / bits_per_sec as f64);
    let through = rate.free_at().expect("nothing was counted against the limit");
    assert!(through >= begin + line, "only some of what flowed was counted against the limit");
}

/// Seconds that a fetch of so many bytes takes from a member with one line to another with another.
async fn seconds(from: Line, to: Line, length: usize) -> f64 {
    let table = table();
    let (a, b) = (member_with(1, &table, from).await, member_with(2, &table, to).await);
    announce(&table, a.id, a.bulk.local_addr());
    let blob = a.store.put(&content(length, 1)).unwrap();
    let begin = Instant::now();
    b.bulk.fetch(blob, &[a.id], Urgency::Soon).await.unwrap();
    let took = begin.elapsed().as_secs_f64();
    if from.up_bits_per_sec.is_some() {
        is_counted(a.bulk.0.server.rate(), LIMIT, length, begin);
    }
    if to.down_bits_per_sec.is_some() {
        is_counted(&b.bulk.0.down, LIMIT, length, begin);
    }
    took
}

#[tokio::test]
async fn limits_hold() {
    let none = Line::default();
    let up = Line { up_bits_per_sec: Some(LIMIT), ..none };
    let down = Line { down_bits_per_sec: Some(LIMIT), ..none };
    let length = 3 << 20;
    for (name, from, to) in [("up", up, none), ("down", none, down)] {
        let took = seconds(from, to, length).await;
        let rate = length as f64 * 8.0 / took;
        // on a busy machine it may be less
        assert!(rate < LIMIT as f64 * 1.05, "{name}: {rate} bits a second, {LIMIT} were allowed");
    }
}

#[tokio::test]
async fn a_limit_down_holds_over_several_peers() {
    let table = table();
    let line = Line { down_bits_per_sec: Some(16_000_000), ..Line::default() };
    let bytes = content(3 << 20, 2);
    let blob = BlobRef::of(&bytes);
    let mut peers = Vec::new();
    for seed in 1..5 {
        let peer = listed(seed, &table).await;
        peer.store.put(&bytes).unwrap();
        peers.push(peer);
    }
    let b = member_with(9, &table, line).await;
    let begin = Instant::now();
    b.bulk.fetch(blob, &[], Urgency::Soon).await.unwrap();
    let rate = bytes.len() as f64 * 8.0 / begin.elapsed().as_secs_f64();
    // what the windows let four peers send ahead is over before the first half second
    assert!(rate < 16e6 * 1.05, "{rate} bits a second from four peers");
    is_counted(&b.bulk.0.down, 16_000_000, bytes.len(), begin);
}

#[tokio::test]
async fn what_is_less_urgent_gives_way() {
    let table = table();
    let line = Line { up_bits_per_sec: Some(24_000_000), seeder: true, ..Line::default() };
    let (a, b) = (member_with(1, &table, line).await, listed(2, &table).await);
    announce(&table, a.id, a.bulk.local_addr());
    let shard = a.store.put(&content(8 << 20, 3)).unwrap();
    let contribution = a.store.put(&content(2 << 20, 4)).unwrap();
    let bulk = b.bulk.clone();
    let fetching = tokio::spawn(async move { bulk.fetch(shard, &[], Urgency::Later).await });
    let has = || {
        let partial = b.store.open_partial(&shard.digest)?;
        let lacks = missing(shard.bytes, &partial.have());
        let lacks: u64 = tree::byte_ranges(&lacks, shard.bytes).iter().map(|(start, end)| end - start).sum();
        Some(shard.bytes - lacks)
    };
    while has().is_none_or(|has| has < 1 << 20) {
        tokio::task::yield_now().await;
    }
    let before = has().unwrap();
    b.bulk.fetch(contribution, &[], Urgency::Now).await.unwrap();
    let meanwhile = has().expect("the shard takes longer than the contribution") - before;
    assert!(meanwhile < 1 << 20, "{meanwhile} bytes of the shard came while the contribution did");
    fetching.await.unwrap().unwrap();
    assert!(b.store.contains(&shard.digest), "it goes on afterwards");
}

#[tokio::test]
async fn what_is_less_urgent_gives_way_although_it_comes_from_elsewhere() {
    let table = table();
    let line = |bits| Line { up_bits_per_sec: Some(bits), seeder: true, ..Line::default() };
    let lab = member_with(1, &table, line(40_000_000)).await;
    let slow = member_with(2, &table, line(6_000_000)).await;
    announce(&table, lab.id, lab.bulk.local_addr());
    announce(&table, slow.id, slow.bulk.local_addr());
    let b = listed(3, &table).await;
    let shard = lab.store.put(&content(24 << 20, 6)).unwrap();
    let contribution = slow.store.put(&content(2 << 20, 7)).unwrap();
    let bulk = b.bulk.clone();
    let fetching = tokio::spawn(async move { bulk.fetch(shard, &[], Urgency::Later).await });
    while lab.bulk.bytes().0 < 1 << 20 {
        tokio::task::yield_now().await;
    }
    let before = lab.bulk.bytes().0;
    b.bulk.fetch(contribution, &[], Urgency::Now).await.unwrap();
    let meanwhile = lab.bulk.bytes().0 - before;
    // it takes three seconds, in which the laboratory could send 13 MB; what was on its way still comes
    assert!(meanwhile < 6 << 20, "{meanwhile} bytes of the shard came while the contribution did");
    fetching.abort();
}

#[tokio::test]
async fn what_waits_for_an_absent_member_holds_up_nobody() {
    let table = table();
    let (a, b) = (listed(1, &table).await, listed(2, &table).await);
    let nowhere = BlobRef::of(b"nobody has this");
    let bulk = b.bulk.clone();
    let waiting = tokio::spawn(async move { bulk.fetch(nowhere, &[], Urgency::Now).await });
    let shard = a.store.put(&content(1 << 20, 5)).unwrap();
    b.bulk.fetch(shard, &[a.id], Urgency::Later).await.unwrap();
    waiting.abort();
}

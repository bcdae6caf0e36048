//! Who gives what to whom: parts of blobs, seeders, home lines.

use super::*;
use crate::store::missing;

fn lacks(store: &BlobStore, blob: BlobRef) -> u64 {
    let Some(partial) = store.open_partial(&blob.digest) else { return 0 };
    let lacks = missing(blob.bytes, &partial.have());
    tree::byte_ranges(&lacks, blob.bytes).iter().map(|(start, end)| end - start).sum()
}

#[tokio::test]
async fn what_a_member_has_of_a_blob_is_served_while_it_fetches_the_rest() {
    let table = table();
    let origin = member(1, &table).await; // nobody knows where it is
    let (halfway, last) = (listed(2, &table).await, listed(3, &table).await);
    let bytes = content(8 << 20, 1);
    let blob = origin.store.put(&bytes).unwrap();
    let partial = halfway.store.partial(blob).unwrap();
    give(&origin.store, &partial, 0, 4 << 20);
    let fetching = last.bulk.fetch(blob, &[], Urgency::Soon);
    tokio::pin!(fetching);
    let half = async {
        while last.store.open_partial(&blob.digest).is_none() || lacks(&last.store, blob) > 4 << 20 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        result = &mut fetching => panic!("half of it is nowhere: {result:?}"),
        () = half => {}
    }
    assert!(!halfway.store.contains(&blob.digest));
    give(&origin.store, &partial, 4 << 20, 8 << 20);
    partial.finish().unwrap();
    drop(partial);
    fetching.await.unwrap();
    assert_eq!(last.store.read(&blob.digest, blob.bytes).unwrap(), bytes);
    assert_eq!(origin.bulk.bytes().0, 0);
}

#[tokio::test]
async fn a_home_line_sends_a_blob_about_once_however_many_want_it() {
    let table = table();
    let home = listed(1, &table).await;
    let mut others = Vec::new();
    for seed in 2..6 {
        others.push(listed(seed, &table).await);
    }
    let bytes = content(12 << 20, 3);
    let blob = home.store.put(&bytes).unwrap();
    let hints = [home.id];
    let fetches = others.iter().map(|other| other.bulk.fetch(blob, &hints, Urgency::Soon));
    for result in futures::future::join_all(fetches).await {
        result.unwrap();
    }
    for other in &others {
        assert_eq!(other.store.read(&blob.digest, blob.bytes).unwrap(), bytes);
    }
    let sent = home.bulk.bytes().0 as f64 / blob.bytes as f64;
    assert!(sent < 1.5, "the home line sent the blob {sent} times, four members wanted it");
}

#[tokio::test]
async fn seeders_are_asked_before_home_lines() {
    let table = table();
    let (home, taker) = (listed(1, &table).await, listed(2, &table).await);
    let seeder = member_with(3, &table, SEEDER).await;
    announce(&table, seeder.id, seeder.bulk.local_addr());
    let bytes = content(6 << 20, 4);
    let blob = home.store.put(&bytes).unwrap();
    seeder.store.put(&bytes).unwrap();
    taker.bulk.fetch(blob, &[home.id], Urgency::Soon).await.unwrap();
    assert_eq!(taker.store.read(&blob.digest, blob.bytes).unwrap(), bytes);
    let sent = home.bulk.bytes().0;
    assert!(sent < 1000, "the home line sent {sent} bytes though a seeder had everything");
}

#[tokio::test]
async fn a_seeder_takes_from_home_and_passes_on_while_it_takes() {
    let table = table();
    let line = Line { up_bits_per_sec: Some(40_000_000), ..Line::default() };
    let home = member_with(1, &table, line).await;
    let seeder = member_with(3, &table, SEEDER).await;
    let taker = member(2, &table).await;
    for peer in [&home, &seeder, &taker] {
        announce(&table, peer.id, peer.bulk.local_addr());
    }
    let bytes = content(6 << 20, 5);
    let blob = home.store.put(&bytes).unwrap();
    let hints = [home.id];
    let (one, two) = futures::future::join(
        seeder.bulk.fetch(blob, &hints, Urgency::Now),
        taker.bulk.fetch(blob, &hints, Urgency::Now),
    )
    .await;
    one.unwrap();
    two.unwrap();
    let sent = home.bulk.bytes().0 as f64 / blob.bytes as f64;
    assert!(sent < 1.3, "the home line sent the blob {sent} times");
    assert!(seeder.bulk.bytes().0 > blob.bytes / 2, "the seeder passed it on");
}

#[tokio::test]
async fn when_the_seeder_is_gone_home_is_asked() {
    let table = table();
    let (home, taker) = (listed(1, &table).await, listed(2, &table).await);
    let seeder = member_with(3, &table, SEEDER).await;
    announce(&table, seeder.id, seeder.bulk.local_addr());
    let warm = seeder.store.put(&content(1 << 20, 6)).unwrap();
    taker.bulk.fetch(warm, &[], Urgency::Soon).await.unwrap();
    let blob = home.store.put(&content(3 << 20, 7)).unwrap();
    // it is still in the table, and says nothing any more
    seeder.bulk.shutdown().await;
    taker.bulk.fetch(blob, &[home.id], Urgency::Soon).await.unwrap();
    assert!(taker.store.contains(&blob.digest));
}

#[tokio::test]
async fn questions_out_of_bounds_are_refused() {
    let table = table();
    let (a, b) = (listed(1, &table).await, listed(2, &table).await);
    let blob = BlobRef::of(&content(1 << 20, 8));
    let _partial = a.store.partial(blob).unwrap();
    let order = |bytes, ranges| Request::Slice {
        digest: *blob.digest.as_bytes(),
        bytes,
        ranges,
        urgency: Urgency::Now,
        insists: true,
    };
    for (request, response) in [
        (order(blob.bytes, vec![(0, 0)]), Response::Refused),
        (order(blob.bytes, vec![(0, 1 << 20)]), Response::NotFound),
        (order(blob.bytes + 1, vec![(0, u64::MAX)]), Response::NotFound),
    ] {
        let (answer, _) = b.bulk.0.dialler.ask(a.id, a.bulk.local_addr(), &request).await.unwrap();
        assert_eq!(answer, response, "{request:?}");
    }
}

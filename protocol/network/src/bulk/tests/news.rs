//! Being told what a peer has, as it changes.

use super::*;

/// A stream over which `b` is told what `a` has.
struct Ear {
    send: SendStream,
    recv: RecvStream,
}

impl Ear {
    async fn open(a: &Peer, b: &Peer) -> Self {
        let connection = b.bulk.0.dialler.connection(a.id, a.bulk.local_addr()).await.unwrap();
        let (mut send, recv) = connection.open_bi().await.unwrap();
        write_frame(&mut send, &Request::Follow).await.unwrap();
        Self { send, recv }
    }

    async fn wish(&mut self, blob: BlobRef, first: u64) {
        let wish = Wish::Tell { digest: *blob.digest.as_bytes(), bytes: blob.bytes, first };
        write_frame(&mut self.send, &wish).await.unwrap();
    }

    async fn hear(&mut self) -> Result<News, String> {
        frames::read_frame(&mut self.recv).await
    }
}

fn held(blob: BlobRef, held: Held) -> Result<News, String> {
    Ok(News::Held { digest: *blob.digest.as_bytes(), held })
}

fn pieces(pieces: [bool; 4]) -> Held {
    Held::of(pieces.into_iter())
}

#[tokio::test]
async fn everything_that_changes_for_others_is_told_and_nothing_else() {
    let table = table();
    let (a, b, origin) = (listed(1, &table).await, listed(2, &table).await, member(3, &table).await);
    let blob = origin.store.put(&content(1 << 20, 2)).unwrap();
    let mut ear = Ear::open(&a, &b).await;
    assert_eq!(ear.hear().await, Ok(News::Seeder(false)));
    ear.wish(blob, 0).await;
    assert_eq!(ear.hear().await, held(blob, Held::Nothing));
    let partial = a.store.partial(blob).unwrap();
    give(&origin.store, &partial, 0, 100 << 10);
    a.store.put(b"another one").unwrap();
    give(&origin.store, &partial, 100 << 10, 512 << 10);
    // of the part of a piece and of the other blob there is nothing to be said
    assert_eq!(ear.hear().await, held(blob, pieces([true, true, false, false])));
    give(&origin.store, &partial, 768 << 10, 1 << 20);
    assert_eq!(ear.hear().await, held(blob, pieces([true, true, false, true])));
    give(&origin.store, &partial, 512 << 10, 768 << 10);
    assert_eq!(ear.hear().await, held(blob, pieces([true; 4])));
    partial.finish().unwrap();
    drop(partial);
    assert_eq!(ear.hear().await, held(blob, Held::Whole));
    a.store.hide(&blob.digest).unwrap();
    assert_eq!(ear.hear().await, held(blob, Held::Nothing));
    a.store.reveal(&blob.digest).unwrap();
    assert_eq!(ear.hear().await, held(blob, Held::Whole));
    a.store.remove(&blob.digest).unwrap();
    assert_eq!(ear.hear().await, held(blob, Held::Nothing));
    let wish = Wish::Enough { digest: *blob.digest.as_bytes() };
    write_frame(&mut ear.send, &wish).await.unwrap();
    ear.send.finish().unwrap();
    assert!(ear.hear().await.is_err(), "who wants to know nothing more is told nothing more");
}

#[tokio::test]
async fn a_download_of_a_hidden_blob_and_one_that_has_stopped_are_told_to_nobody() {
    let table = table();
    let (a, b) = (listed(1, &table).await, listed(2, &table).await);
    let blob = b.store.put(&content(1 << 20, 2)).unwrap();
    let partial = a.store.partial(blob).unwrap();
    give(&b.store, &partial, 0, 512 << 10);
    let mut ear = Ear::open(&a, &b).await;
    assert_eq!(ear.hear().await, Ok(News::Seeder(false)));
    ear.wish(blob, 1).await;
    assert_eq!(
        ear.hear().await,
        held(blob, pieces([true, false, false, false])),
        "half of it is here to be shown"
    );
    drop(partial);
    assert_eq!(ear.hear().await, held(blob, Held::Nothing));
    fs::write(a._dir.path().join("hidden").join(blob.digest.to_string()), "").unwrap();
    let partial = a.store.partial(blob).unwrap();
    assert_eq!(partial.have(), tree::groups(0, 512 << 10), "the files are still there");
    ear.wish(blob, 0).await;
    assert_eq!(ear.hear().await, held(blob, Held::Nothing));
}

#[tokio::test]
async fn wishes_out_of_bounds_are_refused() {
    let table = table();
    let (a, b) = (listed(1, &table).await, listed(2, &table).await);
    let blob = BlobRef::of(&content(1 << 20, 8));
    let _partial = a.store.partial(blob).unwrap();
    for first in [4, u64::MAX] {
        let mut ear = Ear::open(&a, &b).await;
        assert_eq!(ear.hear().await, Ok(News::Seeder(false)));
        // another length is another blob, as far as an unfinished download knows
        ear.wish(BlobRef { bytes: 1 << 40, ..blob }, first.min(1000)).await;
        assert_eq!(ear.hear().await, held(blob, Held::Nothing));
        ear.wish(blob, first).await;
        assert_eq!(ear.hear().await, Ok(News::Refused));
        assert!(ear.hear().await.is_err());
    }
    let mut ear = Ear::open(&a, &b).await;
    assert_eq!(ear.hear().await, Ok(News::Seeder(false)));
    for number in 0..=wire::MAX_FOLLOWED {
        let blob = BlobRef::of(&number.to_le_bytes());
        ear.wish(blob, 0).await;
        let expected =
            if number < wire::MAX_FOLLOWED { held(blob, Held::Nothing) } else { Ok(News::Refused) };
        assert_eq!(ear.hear().await, expected);
    }
    let mut ears = Vec::new();
    loop {
        let mut ear = Ear::open(&a, &b).await;
        match ear.hear().await {
            Ok(News::Seeder(_)) => ears.push(ear),
            refused => break assert_eq!(refused, Ok(News::Refused)),
        }
    }
    assert_eq!(ears.len(), serve::MAX_FOLLOWINGS_PER_PEER);
}

#[tokio::test]
async fn no_more_is_followed_than_the_peer_takes() {
    let table = table();
    let (a, b) = (listed(1, &table).await, listed(2, &table).await);
    let follow = |number: usize| {
        let (peer, wake) = ((a.id, a.bulk.local_addr()), Arc::default());
        b.bulk.0.follows.follow(peer, BlobRef::of(&number.to_le_bytes()), 0, wake)
    };
    let mut followings: Vec<_> = (0..wire::MAX_FOLLOWED).map(|number| follow(number).unwrap()).collect();
    assert!(follow(wire::MAX_FOLLOWED).is_none());
    followings.pop();
    // the peer hears of the one that goes before it hears of the one that comes
    followings.push(follow(wire::MAX_FOLLOWED).unwrap());
    for following in &followings {
        let news = loop {
            match following.news().unwrap() {
                Some(news) => break news,
                None => tokio::task::yield_now().await,
            }
        };
        assert_eq!(news, (false, Held::Nothing));
    }
}

#[tokio::test]
async fn a_peer_that_moves_leaves_nobody_waiting_where_it_was() {
    let table = table();
    let (a, b) = (listed(1, &table).await, listed(2, &table).await);
    let follow =
        |address| b.bulk.0.follows.follow((a.id, address), BlobRef::of(b"blob"), 0, Arc::default()).unwrap();
    let (_silence, old) = nobody();
    let there = follow(old);
    let _here = follow(a.bulk.local_addr());
    assert_eq!(there.news(), Err("the peer has moved".to_owned()));
}

#[tokio::test]
async fn who_waits_for_a_blob_asks_once_and_is_told_when_it_is_there() {
    let table = table();
    let (a, b) = (listed(1, &table).await, listed(2, &table).await);
    let bytes = content(1 << 20, 3);
    let blob = a.store.put_hidden(&bytes).unwrap();
    let hints = [a.id];
    let fetching = b.bulk.fetch(blob, &hints, Urgency::Soon);
    tokio::pin!(fetching);
    let waiting = tokio::time::sleep(Duration::from_secs(2));
    tokio::select! {
        result = &mut fetching => panic!("a hidden blob was served: {result:?}"),
        () = waiting => {}
    }
    let sent = a.bulk.bytes().0;
    assert!((1..100).contains(&sent), "{sent} bytes to say once that there is nothing");
    a.store.reveal(&blob.digest).unwrap();
    fetching.await.unwrap();
    assert_eq!(b.store.read(&blob.digest, blob.bytes).unwrap(), bytes);
}

#[tokio::test]
async fn who_was_gone_is_asked_anew_what_it_has() {
    let table = table();
    let b = listed(2, &table).await;
    let gone = member(1, &table).await;
    announce(&table, gone.id, gone.bulk.local_addr());
    let bytes = content(1 << 20, 4);
    let blob = BlobRef::of(&bytes);
    let hints = [gone.id];
    let fetching = b.bulk.fetch(blob, &hints, Urgency::Soon);
    tokio::pin!(fetching);
    let said = async {
        while gone.bulk.bytes().0 == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        result = &mut fetching => panic!("nobody has it: {result:?}"),
        () = said => {}
    }
    let address = gone.bulk.local_addr();
    gone.bulk.shutdown().await;
    let Peer { store, bulk, _dir, .. } = gone;
    drop(bulk);
    store.put(&bytes).unwrap();
    // the same member at the same address, in its next life
    let again = loop {
        let line = Line::default();
        match Bulk::start(address, &Keypair::from_seed([1; 32]), store.clone(), table.subscribe(), line).await
        {
            Ok(again) => break again,
            Err(BulkError::InUse { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    };
    fetching.await.unwrap();
    assert!(again.bytes().0 > blob.bytes);
}

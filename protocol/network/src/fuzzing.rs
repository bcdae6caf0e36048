//! Doors for the fuzz targets to decoders that are nobody else's business.

use talkoot_protocol::digest::{BlobRef, Digest};

use crate::{
    bulk::wire::{self, News, Request, Response, Wish},
    store::{Incoming, tree},
};

/// Decodes the body of a bulk frame as each of the four kinds of message; what is accepted is written back as the same bytes, and
/// what is asked is checked as a server checks it.
///
/// # Panics
///
/// When one of these does not hold.
pub fn bulk_frame(body: &[u8]) {
    if let Ok(request) = wire::decode::<Request>(body) {
        let again = wire::encode(&request).map(|frame| wire::decode::<Request>(&frame[2..]));
        assert_eq!(again, Ok(Ok(request.clone())), "a request does not survive the wire");
        match request {
            Request::Slice { bytes, ranges, .. } => {
                if wire::checked_ranges(bytes, &ranges).is_ok() {
                    let piece = wire::piece_bytes(bytes);
                    assert!(ranges.iter().all(|(start, end)| start / piece <= (end - 1) / piece));
                }
            }
            Request::Has { .. } | Request::WhereAmI | Request::Follow => {}
        }
    }
    if let Ok(response) = wire::decode::<Response>(body) {
        let again = wire::encode(&response).map(|frame| wire::decode::<Response>(&frame[2..]));
        assert_eq!(again, Ok(Ok(response)), "a response does not survive the wire");
    }
    if let Ok(wish) = wire::decode::<Wish>(body) {
        let again = wire::encode(&wish).map(|frame| wire::decode::<Wish>(&frame[2..]));
        assert_eq!(again, Ok(Ok(wish.clone())), "a wish does not survive the wire");
        if let Wish::Tell { bytes, first, .. } = wish
            && let Ok(pieces) = wire::checked_pieces(bytes, first)
        {
            assert!(pieces.end - pieces.start <= wire::MAX_PIECES);
        }
    }
    if let Ok(news) = wire::decode::<News>(body) {
        let again = wire::encode(&news).map(|frame| wire::decode::<News>(&frame[2..]));
        assert_eq!(again, Ok(Ok(news.clone())), "a piece of news does not survive the wire");
        if let News::Held { held, .. } = news {
            let _ = held.has(u64::MAX) | held.has(0);
        }
    }
}

/// Feeds bytes as a slice of a blob that they do not belong to, cut where the first bytes say: nothing may be taken for
/// proved but bytes whose hash is right.
///
/// # Panics
///
/// When false bytes are taken.
pub fn slice(data: &[u8]) {
    let Some((head, rest)) = data.split_first_chunk::<40>() else { return };
    let (mut length, mut digest) = ([0; 8], [0; 32]);
    length.copy_from_slice(&head[..8]);
    digest.copy_from_slice(&head[8..]);
    let bytes = u64::from_le_bytes(length) % (1 << 40) + 1;
    let blob = BlobRef { digest: Digest::from_bytes(digest), bytes };
    let start = u64::from(head[39]) * bytes / 256;
    let end = bytes.min(start + (4 << 20));
    let mut incoming = Incoming::new(blob, &tree::groups(start, end));
    let fed = rest.chunks(usize::from(head[0]) + 1).try_for_each(|part| incoming.feed(part));
    if fed.is_ok()
        && incoming.is_complete()
        && bytes == incoming.proven_bytes() as u64
        && bytes <= tree::GROUP_BYTES
    {
        assert_eq!(Digest::of(&rest[..rest.len().min(bytes as usize)]), blob.digest);
    }
}

//! Asking one peer for one piece.

use std::{net::SocketAddr, sync::Arc};

use bao_tree::ChunkRanges;
use quinn::RecvStream;
use talkoot_protocol::{digest::BlobRef, identity::MemberId};
use tokio::time::Instant;

use super::{
    super::{
        Inner,
        heard::Heard,
        urgency::Urgency,
        wire::{Request, Response},
    },
    MAX_BLOB_BYTES, blocking,
    plan::Moved,
};
use crate::store::{Incoming, Partial, StoreError, tree};

/// Proven bytes that wait to be written together.
const WRITE_BYTES: usize = 256 << 10;

/// What came of asking for a piece.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The piece is written.
    Done,
    /// The peer does not have it now.
    NotNow,
    /// The peer has it, and too much to do.
    Busy,
    /// We did not want it any more.
    Stopped,
    /// Others are to have it; not from here for the moment.
    Elsewhere,
    /// The peer cannot be talked to now.
    Failed(String),
    /// The peer's bytes are false from this offset on.
    Lied(u64),
    /// The blob has another length, proved.
    OtherSize(u64),
    /// Our own side fails.
    Broken(StoreError),
}

/// One piece to be asked for.
pub(super) struct Wanted {
    pub(super) blob: BlobRef,
    pub(super) ranges: ChunkRanges,
    pub(super) urgency: Urgency,
    pub(super) insists: bool,
    pub(super) partial: Arc<Partial>,
    /// Touched when something comes: of the piece, of the download, and of what comes from seeders, where this one is one.
    pub(super) moved: Vec<Moved>,
}

/// Asks one peer for one piece and writes what is right of the answer, as it comes.
pub(super) async fn ask_slice(bulk: &Inner, peer: MemberId, address: SocketAddr, wanted: Wanted) -> Outcome {
    let blob = wanted.blob;
    let request = Request::Slice {
        digest: *blob.digest.as_bytes(),
        bytes: blob.bytes,
        ranges: tree::byte_ranges(&wanted.ranges, blob.bytes),
        urgency: wanted.urgency,
        insists: wanted.insists,
    };
    let answer = bulk.dialler.ask(peer, address, &request).await;
    let slice = |stream| Slice::new(bulk, bulk.dialler.heard(peer), stream, wanted.urgency);
    match answer {
        Ok((Response::Have { bytes }, stream)) if bytes == blob.bytes => {
            let slice = slice(stream);
            take(bulk, slice, wanted).await
        }
        Ok((Response::OtherSize { bytes }, stream)) if bytes != blob.bytes && bytes <= MAX_BLOB_BYTES => {
            proof(slice(stream), BlobRef { bytes, ..blob }).await
        }
        Ok((Response::NotFound, _)) => Outcome::NotNow,
        Ok((Response::Busy, _)) => Outcome::Busy,
        Ok((Response::Elsewhere, _)) => Outcome::Elsewhere,
        Ok((response, _)) => Outcome::Failed(format!("an answer that makes no sense: {response:?}")),
        Err(reason) => Outcome::Failed(reason),
    }
}

/// A slice as it is read.
struct Slice<'a> {
    bulk: &'a Inner,
    heard: Heard,
    stream: RecvStream,
    urgency: Urgency,
    /// When bytes of it last came, and when they last proved something.
    moved: Instant,
    grew: Instant,
}

impl<'a> Slice<'a> {
    fn new(bulk: &'a Inner, heard: Heard, stream: RecvStream, urgency: Urgency) -> Self {
        let now = Instant::now();
        Self { bulk, heard, stream, urgency, moved: now, grew: now }
    }

    /// Reads a part, not faster than the donor's limit allows; nothing at the end of the stream.
    async fn read(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, String> {
        let (bulk, urgency) = (self.bulk, self.urgency);
        let got = self
            .heard
            .wait((self.grew, self.moved), self.stream.read(buffer))
            .await
            .map_err(|_| "the peer stopped in the middle of a slice")?
            .map_err(|error| error.to_string())?;
        let came = Instant::now();
        if let Some(got) = got {
            bulk.dialler.count_received(got);
            // paid for afterwards: the windows are small enough that nobody sends far ahead
            bulk.down.take(got, urgency).await;
        }
        // what the limit costs is not the peer's delay
        self.moved = Instant::now();
        self.grew += self.moved.saturating_duration_since(came);
        Ok(got)
    }

    /// What was read proved something.
    fn grew(&mut self) {
        self.grew = Instant::now();
        self.heard.touch(self.grew);
    }
}

/// Takes a slice.
async fn take(bulk: &Inner, mut slice: Slice<'_>, wanted: Wanted) -> Outcome {
    let _flow = bulk.flowing.begin(wanted.urgency, bulk.awake.now());
    let mut incoming = Incoming::new(wanted.blob, &wanted.ranges);
    let mut buffer = vec![0; bulk.down.part_bytes()];
    let mut result = None;
    while !incoming.is_complete() && result.is_none() {
        match slice.read(&mut buffer).await {
            Ok(Some(got)) => {
                let before = incoming.proven_bytes();
                if let Err(offset) = incoming.feed(&buffer[..got]) {
                    result = Some(Outcome::Lied(offset));
                } else if incoming.proven_bytes() > before {
                    // group by group: of many slices that share a slow line none may end for seconds
                    slice.grew();
                    let now = bulk.awake.now();
                    wanted.moved.iter().for_each(|moved| moved.touch(now));
                    bulk.flowing.came(wanted.urgency, now);
                }
            }
            Ok(None) => result = Some(Outcome::Failed("the slice ends too early".to_owned())),
            Err(reason) => result = Some(Outcome::Failed(reason)),
        }
        if incoming.proven_bytes() >= WRITE_BYTES || incoming.is_complete() || result.is_some() {
            let (proven, partial) = (incoming.take_proven(), wanted.partial.clone());
            if let Err(error) = blocking(move || partial.write(proven)).await {
                return Outcome::Broken(error);
            }
        }
    }
    if matches!(result, Some(Outcome::Failed(_))) {
        // the rest of the answer is not waited for
        let _ = slice.stream.stop(quinn::VarInt::from_u32(0));
    }
    result.unwrap_or(Outcome::Done)
}

/// Takes the slice that proves another length.
async fn proof(mut slice: Slice<'_>, claimed: BlobRef) -> Outcome {
    let mut incoming = Incoming::new(claimed, &tree::last_group(claimed.bytes));
    let mut buffer = vec![0; tree::GROUP_BYTES as usize];
    let lie = Outcome::Lied(claimed.bytes.saturating_sub(1));
    while !incoming.is_complete() {
        match slice.read(&mut buffer).await {
            Ok(Some(got)) => {
                if incoming.feed(&buffer[..got]).is_err() {
                    return lie;
                }
            }
            Ok(None) => return lie,
            Err(reason) => return Outcome::Failed(reason),
        }
    }
    if claimed.bytes > 0 { Outcome::OtherSize(claimed.bytes) } else { lie }
}

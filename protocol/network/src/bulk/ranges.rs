//! A few stretches of a blob from one member, each proven against the blob's hash, kept in memory alone.
//!
//! For who wants to look into a blob that it does not need as a whole. The proofs are the groups of the blob's own tree, as in any
//! other transfer.

use std::{collections::BTreeMap, ops::Range};

use bao_tree::ChunkRanges;
use talkoot_protocol::{digest::BlobRef, identity::MemberId};
use tokio::time::Instant;

use super::{
    Bulk,
    urgency::Urgency,
    wire::{Request, Response},
};
use crate::store::{Incoming, tree};

/// Most stretches at a time, and most bytes of them together: what one request may ask for, with room for whole groups.
const MAX_RANGES: usize = 32;
const MAX_BYTES: u64 = 2 << 20;

/// Why stretches of a blob did not come.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RangesError {
    /// Too much at a time, or beyond the blob's end.
    #[error(
        "{ranges} stretches of {bytes} bytes together: at most {MAX_RANGES} of {MAX_BYTES}, within the blob"
    )]
    Bounds {
        /// How many were asked for.
        ranges: usize,
        /// Their length together.
        bytes: u64,
    },
    /// The member cannot be reached or does not have it now.
    #[error("it did not come: {reason}")]
    Unavailable {
        /// What happened.
        reason: String,
    },
    /// The member sent what the blob's hash disproves; it is asked nothing more.
    #[error("the member sent bytes that the blob's hash disproves, from byte {offset} on")]
    Lied {
        /// Where.
        offset: u64,
    },
}

impl Bulk {
    /// The bytes of `ranges` of a blob, in the order given, from `peer`, proven by the blob's hash. Nothing is stored.
    /// Cancel-safe.
    ///
    /// # Errors
    ///
    /// [`RangesError`]: nothing is known of the blob then.
    pub async fn ranges(
        &self,
        blob: BlobRef,
        ranges: &[Range<u64>],
        peer: MemberId,
    ) -> Result<Vec<Vec<u8>>, RangesError> {
        let bytes = ranges.iter().map(|range| range.end.saturating_sub(range.start)).sum::<u64>();
        let within = |range: &Range<u64>| range.start < range.end && range.end <= blob.bytes;
        if ranges.is_empty() || ranges.len() > MAX_RANGES || bytes > MAX_BYTES || !ranges.iter().all(within) {
            return Err(RangesError::Bounds { ranges: ranges.len(), bytes });
        }
        let wanted =
            ranges.iter().fold(ChunkRanges::empty(), |all, range| all | tree::groups(range.start, range.end));
        let groups = self.groups(blob, &wanted, peer).await?;
        let cut = |range: &Range<u64>| {
            let mut bytes = Vec::with_capacity((range.end - range.start) as usize);
            let mut at = range.start;
            while at < range.end {
                let start = at - at % tree::GROUP_BYTES;
                let group: &[u8] = groups.get(&start).map_or(&[], Vec::as_slice);
                let end = (start + tree::GROUP_BYTES).min(range.end);
                bytes.extend_from_slice(
                    group.get((at - start) as usize..(end - start) as usize).unwrap_or_default(),
                );
                at = end;
            }
            bytes
        };
        Ok(ranges.iter().map(cut).collect())
    }

    /// Proven groups by their offsets.
    async fn groups(
        &self,
        blob: BlobRef,
        wanted: &ChunkRanges,
        peer: MemberId,
    ) -> Result<BTreeMap<u64, Vec<u8>>, RangesError> {
        let unavailable = |reason: String| RangesError::Unavailable { reason };
        let address = self.0.peers.borrow().get(&peer).copied();
        let address = address.filter(|_| !self.0.is_dropped(&peer));
        let address = address.ok_or_else(|| unavailable("the member is not connected".to_owned()))?;
        let request = Request::Slice {
            digest: *blob.digest.as_bytes(),
            bytes: blob.bytes,
            ranges: tree::byte_ranges(wanted, blob.bytes),
            urgency: Urgency::Now,
            insists: true,
        };
        let answer = self.0.dialler.ask(peer, address, &request).await;
        let mut stream = match answer {
            Ok((Response::Have { bytes }, stream)) if bytes == blob.bytes => stream,
            Ok((response, _)) => return Err(unavailable(format!("the member answers {response:?}"))),
            Err(reason) => return Err(unavailable(reason)),
        };
        let heard = self.0.dialler.heard(peer);
        let mut incoming = Incoming::new(blob, wanted);
        let mut buffer = vec![0; self.0.down.part_bytes()];
        let (mut grew, mut moved) = (Instant::now(), Instant::now());
        while !incoming.is_complete() {
            let read = heard.wait((grew, moved), stream.read(&mut buffer)).await;
            let got = read
                .map_err(|_| unavailable("the member stopped in the middle of a slice".to_owned()))?
                .map_err(|error| unavailable(error.to_string()))?
                .ok_or_else(|| unavailable("the slice ends too early".to_owned()))?;
            self.0.dialler.count_received(got);
            self.0.down.take(got, Urgency::Now).await;
            let before = incoming.proven_bytes();
            if let Err(offset) = incoming.feed(&buffer[..got]) {
                self.0.drop_peer(peer);
                return Err(RangesError::Lied { offset });
            }
            moved = Instant::now();
            if incoming.proven_bytes() > before {
                grew = moved;
                heard.touch(moved);
            }
        }
        Ok(incoming.take_groups())
    }
}

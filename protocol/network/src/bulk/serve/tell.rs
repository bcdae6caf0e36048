//! Telling a peer what is here of the blobs that it follows, as it changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use quinn::{RecvStream, SendStream};
use talkoot_protocol::digest::Digest;
use tokio::{
    sync::broadcast::error::RecvError,
    time::{Instant, interval, sleep_until},
};

use super::{Share, Shop};
use crate::{
    bulk::{
        frames::Frames,
        urgency::Urgency,
        wire::{self, Held, News, Wish},
    },
    store::{missing, tree},
};

/// Changes of this time are told together.
const TOGETHER: Duration = Duration::from_millis(30);
/// How often a seeder that follows a blob is noted as one that is fetching it.
const NOTE: Duration = Duration::from_secs(1);

/// What a peer wants to know of one blob.
#[derive(Debug)]
struct Wished {
    bytes: u64,
    first: u64,
    /// A hash of what it was told last: of the longest bitmaps there is no need for a copy.
    told: Option<Digest>,
}

impl Shop {
    /// Answers wishes until the peer ends its side of the stream, or breaks a bound.
    pub(super) async fn follow(
        &self,
        share: &Share,
        send: &mut SendStream,
        recv: &mut RecvStream,
    ) -> Result<(), String> {
        let _ = send.set_priority(i32::MAX);
        let Ok(_place) = share.followings.try_acquire() else {
            return self.refuse(send, "it follows over too many streams").await;
        };
        self.tell(send, &News::Seeder(self.seeder)).await?;
        // before the first look at anything, so that no change falls between
        let mut changes = self.store.changes();
        let mut wishes = BTreeMap::<Digest, Wished>::new();
        let (mut due, mut when) = (BTreeSet::new(), Instant::now());
        let mut note = interval(NOTE);
        let mut frames = Frames::new(recv);
        loop {
            tokio::select! {
                wish = frames.next() => {
                    let Some(wish) = wish? else { break };
                    match wish {
                        Wish::Enough { digest } => {
                            wishes.remove(&Digest::from_bytes(digest));
                        }
                        Wish::Tell { digest, bytes, first } => {
                            let digest = Digest::from_bytes(digest);
                            let refused = wire::checked_pieces(bytes, first).is_err()
                                || (wishes.len() >= wire::MAX_FOLLOWED && !wishes.contains_key(&digest));
                            if refused {
                                return self.refuse(send, "a wish breaks a bound").await;
                            }
                            let wished = wishes.entry(digest).insert_entry(Wished { bytes, first, told: None });
                            self.tell_held(send, digest, wished.into_mut()).await?;
                            self.note_followed(share, [&digest]);
                        }
                    }
                }
                changed = changes.recv() => {
                    if due.is_empty() {
                        when = Instant::now() + TOGETHER;
                    }
                    match changed {
                        Ok(digest) if wishes.contains_key(&digest) => {
                            due.insert(digest);
                        }
                        Ok(_) => {}
                        Err(RecvError::Lagged(_)) => due.extend(wishes.keys().copied()),
                        Err(RecvError::Closed) => break,
                    }
                }
                () = sleep_until(when), if !due.is_empty() => {
                    for digest in std::mem::take(&mut due) {
                        if let Some(wished) = wishes.get_mut(&digest) {
                            self.tell_held(send, digest, wished).await?;
                        }
                    }
                }
                _ = note.tick() => self.note_followed(share, wishes.keys()),
            }
        }
        send.finish().map_err(|error| error.to_string())
    }

    /// What a seeder follows, it fetches.
    fn note_followed<'a>(&self, share: &Share, digests: impl IntoIterator<Item = &'a Digest>) {
        if share.is_seeder(&self.seeders) {
            let now = Instant::now();
            digests.into_iter().for_each(|digest| self.spread.note_seeder(*digest, now));
        }
    }

    /// Tells what is here of a blob, if that is news.
    async fn tell_held(
        &self,
        send: &mut SendStream,
        digest: Digest,
        wished: &mut Wished,
    ) -> Result<(), String> {
        let news = News::Held { digest: *digest.as_bytes(), held: self.held(&digest, wished) };
        let frame = wire::encode(&news).map_err(|error| error.to_string())?;
        let told = Some(Digest::of(&frame));
        if wished.told != told {
            self.write(send, &frame, Urgency::Now).await?;
            wished.told = told;
        }
        Ok(())
    }

    /// What is here of a blob, from the piece on that was asked for.
    fn held(&self, digest: &Digest, wished: &Wished) -> Held {
        if self.store.visible_size(digest).is_some() {
            return Held::Whole;
        }
        let partial =
            self.store.visible_partial(digest).filter(|partial| partial.blob().bytes == wished.bytes);
        let (Some(partial), Ok(asked)) = (partial, wire::checked_pieces(wished.bytes, wished.first)) else {
            return Held::Nothing;
        };
        let (lacks, piece) = (missing(wished.bytes, &partial.have()), wire::piece_bytes(wished.bytes));
        Held::of(asked.map(|number| {
            let end = ((number + 1) * piece).min(wished.bytes);
            (&lacks & &tree::groups(number * piece, end)).is_empty()
        }))
    }

    /// Says that it is told nothing more. The stream ends with the word; were it reset, the word would be lost.
    async fn refuse(&self, send: &mut SendStream, reason: &'static str) -> Result<(), String> {
        tracing::debug!(reason, "a peer is not told what is here");
        self.tell(send, &News::Refused).await?;
        send.finish().map_err(|error| error.to_string())
    }

    async fn tell(&self, send: &mut SendStream, news: &News) -> Result<(), String> {
        let frame = wire::encode(news).map_err(|error| error.to_string())?;
        self.write(send, &frame, Urgency::Now).await
    }
}

//! What peers have of the blobs that are being fetched, as they say it: one stream to each peer, shared by all downloads.
//!
//! Were each download to ask again and again, sixteen members with sixteen contributions would ask thousands of times a second,
//! and what they are told would be old: home lines are asked then for what seeders have by now.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use quinn::Connection;
use talkoot_protocol::{
    digest::{BlobRef, Digest},
    identity::MemberId,
};
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, interval, sleep_until},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    dial::Dialler,
    frames::{Frames, write_frame},
    heard::Silent,
    wire::{Held, MAX_FOLLOWED, News, Request, Wish},
};

/// How often it is looked at whether a peer leaves a wish unanswered for too long.
const LOOK: Duration = Duration::from_secs(1);
/// News that are heard of one peer in such a time; more wait in its own buffers, as each wakes a download up.
const MOST_NEWS: (u32, Duration) = (300, Duration::from_millis(100));

/// The streams to all peers.
#[derive(Debug)]
pub(super) struct Follows {
    dialler: Arc<Dialler>,
    lines: Mutex<BTreeMap<MemberId, Line>>,
    tickets: AtomicU64,
}

/// The stream to one peer.
#[derive(Debug)]
struct Line {
    address: SocketAddr,
    wishes: mpsc::UnboundedSender<Wish>,
    board: Board,
    _task: AbortOnDropHandle<()>,
}

/// What the peer said. Clones are the same.
#[derive(Debug, Clone, Default)]
struct Board(Arc<Mutex<Said>>);

#[derive(Debug, Default)]
struct Said {
    /// Whether it is a seeder, once it has said so.
    seeder: Option<bool>,
    blobs: BTreeMap<Digest, Followed>,
    /// Why it says no more.
    ended: Option<String>,
}

/// What it said of one blob.
#[derive(Debug)]
struct Followed {
    /// Tells a download from an earlier one of the same blob.
    ticket: u64,
    since: Instant,
    held: Option<Held>,
    /// The download has not seen it yet.
    is_new: bool,
    wake: Arc<Notify>,
}

/// A blob that is followed at one peer, for as long as this lives.
#[derive(Debug)]
pub(super) struct Following {
    board: Board,
    wishes: mpsc::UnboundedSender<Wish>,
    digest: Digest,
    ticket: u64,
    /// The piece from which on it is told.
    pub(super) first: u64,
}

impl Board {
    fn said(&self) -> MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, reason: String) {
        let mut said = self.said();
        said.ended = Some(reason);
        said.blobs.values().for_each(|followed| followed.wake.notify_one());
    }

    /// Since when the peer has left a wish unanswered.
    fn waits_since(&self) -> Option<Instant> {
        let said = self.said();
        said.blobs.values().filter(|followed| followed.held.is_none()).map(|followed| followed.since).min()
    }

    /// Takes down what the peer says.
    fn take(&self, news: News) -> Result<(), &'static str> {
        let mut said = self.said();
        match news {
            News::Seeder(seeder) if said.seeder.is_none() => said.seeder = Some(seeder),
            News::Held { digest, held } if said.seeder.is_some() => {
                // of what is not followed any more it may have spoken before it knew
                if let Some(followed) = said.blobs.get_mut(&Digest::from_bytes(digest)) {
                    (followed.held, followed.is_new) = (Some(held), true);
                    followed.wake.notify_one();
                }
            }
            News::Refused => return Err("the peer refuses to say what it has"),
            News::Seeder(_) | News::Held { .. } => return Err("the peer's news make no sense"),
        }
        Ok(())
    }
}

impl Follows {
    pub(super) fn new(dialler: Arc<Dialler>) -> Self {
        Self { dialler, lines: Mutex::default(), tickets: AtomicU64::new(0) }
    }

    /// Follows a blob at the peer, from piece `first` on; `wake` is notified of news. Nothing while so many are followed there that
    /// the peer would take no more.
    pub(super) fn follow(
        &self,
        (peer, address): (MemberId, SocketAddr),
        blob: BlobRef,
        first: u64,
        wake: Arc<Notify>,
    ) -> Option<Following> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.get(&peer).filter(|line| line.address != address) {
            // others that still follow it there would wait for ever
            line.board.end("the peer has moved".to_owned());
        }
        if lines.get(&peer).is_some_and(|line| line.board.said().ended.is_some()) {
            lines.remove(&peer);
        }
        let line = lines.entry(peer).or_insert_with(|| {
            let (wishes, orders) = mpsc::unbounded_channel();
            let board = Board::default();
            let task = run(self.dialler.clone(), (peer, address), orders, board.clone());
            Line { address, wishes, board, _task: AbortOnDropHandle::new(tokio::spawn(task)) }
        });
        let (digest, ticket) = (blob.digest, self.tickets.fetch_add(1, Ordering::Relaxed));
        let followed = Followed { ticket, since: Instant::now(), held: None, is_new: false, wake };
        let mut said = line.board.said();
        if said.blobs.len() >= MAX_FOLLOWED && !said.blobs.contains_key(&digest) {
            return None;
        }
        said.blobs.insert(digest, followed);
        drop(said);
        // when the line has ended meanwhile, the board says so
        let _ = line.wishes.send(Wish::Tell { digest: *digest.as_bytes(), bytes: blob.bytes, first });
        Some(Following { board: line.board.clone(), wishes: line.wishes.clone(), digest, ticket, first })
    }
}

impl Following {
    /// What the peer has said since this was last asked: whether it is a seeder, and what it has.
    ///
    /// # Errors
    ///
    /// Why it says no more.
    pub(super) fn news(&self) -> Result<Option<(bool, Held)>, String> {
        let mut said = self.board.said();
        let seeder = said.seeder.unwrap_or(false);
        let followed = said.blobs.get_mut(&self.digest).filter(|followed| followed.ticket == self.ticket);
        if let Some(followed) = followed.filter(|followed| followed.is_new) {
            followed.is_new = false;
            return Ok(followed.held.clone().map(|held| (seeder, held)));
        }
        said.ended.clone().map_or(Ok(None), Err)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut said = self.board.said();
        if said.blobs.get(&self.digest).is_some_and(|followed| followed.ticket == self.ticket) {
            said.blobs.remove(&self.digest);
            let _ = self.wishes.send(Wish::Enough { digest: *self.digest.as_bytes() });
        }
    }
}

/// Asks one peer, until it cannot be asked any more.
async fn run(
    dialler: Arc<Dialler>,
    (peer, address): (MemberId, SocketAddr),
    mut wishes: mpsc::UnboundedReceiver<Wish>,
    board: Board,
) {
    let heard = dialler.heard(peer);
    let begun = Instant::now();
    let beginning = async {
        let connection = dialler.connection(peer, address).await?;
        let (mut send, recv) = connection.open_bi().await.map_err(|error| error.to_string())?;
        let _ = send.set_priority(i32::MAX);
        write_frame(&mut send, &Request::Follow).await?;
        Ok((connection, send, recv))
    };
    let (connection, mut send, mut recv) = match heard.wait((begun, begun), beginning).await {
        Ok(Ok(begun)) => begun,
        Ok(Err(reason)) => return board.end(reason),
        Err(_) => return board.end("the peer does not answer".to_owned()),
    };
    let mut frames = Frames::new(&mut recv);
    let mut look = interval(LOOK);
    let (most, time) = MOST_NEWS;
    let (mut since, mut count) = (begun, 0);
    let reason = loop {
        tokio::select! {
            news = frames.next() => {
                let news = news.and_then(|news| news.ok_or_else(|| "the peer says no more".to_owned()));
                if let Err(reason) = news.and_then(|news| board.take(news).map_err(str::to_owned)) {
                    break reason;
                }
                let now = Instant::now();
                heard.touch(now);
                if now.saturating_duration_since(since) >= time {
                    (since, count) = (now, 0);
                }
                count += 1;
                if count > most {
                    sleep_until(since + time).await;
                }
            }
            wish = wishes.recv() => {
                let Some(wish) = wish else { break "nobody wants to know any more".to_owned() };
                // a peer that lets nothing be asked would have wishes pile up here
                let asked = Instant::now();
                match heard.wait((asked, asked), write_frame(&mut send, &wish)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(reason)) => break reason,
                    Err(silent) => break given_up(silent, &connection),
                }
            }
            _ = look.tick() => {
                if let Some(since) = board.waits_since()
                    && let Some(silent) = heard.overdue(since)
                {
                    break given_up(silent, &connection);
                }
            }
        }
    };
    board.end(reason);
}

/// Closes a connection over which nothing comes at all; why the peer is not waited for.
fn given_up(silent: Silent, connection: &Connection) -> String {
    if silent.altogether {
        Dialler::give_up(connection);
    }
    "the peer does not answer".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(digest: Digest, held: Held) -> News {
        News::Held { digest: *digest.as_bytes(), held }
    }

    fn followed(board: &Board, digest: Digest, ticket: u64) -> Following {
        let (wishes, _) = mpsc::unbounded_channel();
        let entry =
            Followed { ticket, since: Instant::now(), held: None, is_new: false, wake: Arc::default() };
        board.said().blobs.insert(digest, entry);
        Following { board: board.clone(), wishes, digest, ticket, first: 0 }
    }

    #[test]
    fn news_are_seen_once_and_those_before_the_end_before_the_end() {
        let (board, digest) = (Board::default(), Digest::of(b"blob"));
        let following = followed(&board, digest, 1);
        assert_eq!(following.news(), Ok(None));
        assert!(board.waits_since().is_some());
        board.take(News::Seeder(true)).unwrap();
        board.take(held(digest, Held::Nothing)).unwrap();
        board.take(held(digest, Held::Whole)).unwrap();
        board.take(held(Digest::of(b"what nobody follows"), Held::Whole)).unwrap();
        assert_eq!(board.waits_since(), None);
        board.end("gone".to_owned());
        assert_eq!(following.news(), Ok(Some((true, Held::Whole))));
        assert_eq!(following.news(), Err("gone".to_owned()));
    }

    #[test]
    fn an_earlier_download_takes_nothing_from_a_later_one() {
        let (board, digest) = (Board::default(), Digest::of(b"blob"));
        let (earlier, later) = (followed(&board, digest, 1), followed(&board, digest, 2));
        board.take(News::Seeder(false)).unwrap();
        board.take(held(digest, Held::Whole)).unwrap();
        assert_eq!(earlier.news(), Ok(None));
        drop(earlier);
        assert_eq!(later.news(), Ok(Some((false, Held::Whole))));
        drop(later);
        assert!(board.said().blobs.is_empty());
    }

    #[test]
    fn who_does_not_begin_with_what_it_is_or_says_it_twice_is_heard_no_more() {
        let (board, digest) = (Board::default(), Digest::of(b"blob"));
        assert!(board.take(held(digest, Held::Whole)).is_err());
        board.take(News::Seeder(true)).unwrap();
        assert!(board.take(News::Seeder(false)).is_err(), "a seeder is one for as long as it runs");
        assert!(board.take(News::Refused).is_err());
    }
}

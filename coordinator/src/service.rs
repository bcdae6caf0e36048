//! The coordinator's process: network in, ledger out.

use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, Instant},
};

use talkoot_ledger::LogError;
use talkoot_network::{Line, Network, NetworkConfig, NetworkError, NetworkEvent, ReplySender};
use talkoot_protocol::{
    announcement::{self, Announcement, Body},
    conductor::{Surroundings, next_event},
    digest::Digest,
    entry::Statement,
    identity::MemberId,
    link::{JoinLink, MAX_ADDRESSES as MAX_LINK_ADDRESSES},
    message::{Request, Response},
    run::{Phase, RuleError},
};
use talkoot_witness::PanelError;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    archive::Archive,
    clock,
    desk::Desk,
    folder::{Folder, FolderError, now_ms, replace_file},
    presence::Presence,
};

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(200);

/// Requests that are answered under one signed checkpoint: a burst of commits costs one fsync.
const BURST: usize = 64;

/// Members say something once in this time: so old may the word of one be that has just gone.
const PING: Duration = Duration::from_secs(1);

/// How long the coordinator of an ended run stays, so that everybody can fetch the last entries.
const FAREWELL: Duration = Duration::from_secs(3);

/// Where the coordinator listens.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen. A coordinator is always a seeder: it has what members need, and is where they can meet.
    pub network: NetworkConfig,
    /// Whether to return once the run has ended, or stay and serve it.
    pub stay: bool,
    /// Whether to make a folder that was copied here the original, see [`Folder::claim`].
    pub claim: bool,
}

/// Why the coordinator stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CoordinatorError {
    /// The folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The log could not be written. What was acknowledged is in it; the rest was not acknowledged.
    #[error(
        "the ledger cannot be written, so nothing more is accepted: {source}; nothing acknowledged is lost, start again when this is mended"
    )]
    Log {
        /// What went wrong.
        source: LogError,
    },
    /// The manifest's witnesses cannot be asked.
    #[error("the manifest's witness policy cannot be followed: {0}")]
    Witnesses(#[from] PanelError),
    /// The conductor broke a rule: a defect of this program.
    #[error("the coordinator's own {kind} breaks a rule: {source}")]
    Conductor {
        /// Kind of the event.
        kind: &'static str,
        /// The rule.
        source: RuleError,
    },
}

/// The addresses that a link names: those that others can dial. The loopback only where there is nothing else.
fn worth_telling(mut addresses: Vec<String>) -> Vec<String> {
    let local = |address: &String| address.starts_with("/ip4/127.") || address.starts_with("/ip6/::1/");
    if !addresses.iter().all(local) {
        addresses.retain(|address| !local(address));
    }
    addresses.truncate(MAX_LINK_ADDRESSES);
    addresses
}

/// A running coordinator.
#[derive(Debug)]
pub struct Coordinator {
    desk: Desk,
    network: Network,
    events: mpsc::Receiver<NetworkEvent>,
    archive: Archive,
    arrivals: mpsc::Receiver<Digest>,
    arrived: BTreeSet<Digest>,
    presence: Presence,
    /// Size of the log that was last announced.
    announced: u64,
    stay: bool,
    ended: Option<Instant>,
}

impl Coordinator {
    /// Opens the run in `dir`, starts the network and writes the join link to `link.txt`.
    ///
    /// # Errors
    ///
    /// [`CoordinatorError`] when the folder holds no run or is in use, or an address is taken.
    pub async fn start(dir: &Path, options: Options) -> Result<Self, CoordinatorError> {
        if options.claim {
            Folder::claim(dir)?;
        }
        let folder = Folder::open(dir)?;
        clock::not_before(folder.state.time_ms());
        let run = folder.state.run();
        let config = NetworkConfig {
            topics: vec![announcement::topic(&run)],
            peers_file: Some(dir.join("peers.txt")),
            line: Line { seeder: true, ..options.network.line },
            ..options.network
        };
        let (network, events) =
            talkoot_network::start(config, &folder.operator, folder.store.clone()).await?;
        let link = JoinLink { run, addresses: worth_telling(network.control_addresses()) };
        replace_file(&dir.join("link.txt"), format!("{link}\n").as_bytes())?;
        let (archive, arrivals) = Archive::new(network.clone(), folder.store.clone());
        let absence = folder.state.manifest().terms.deadlines.absence_s;
        tracing::info!(%link, entries = folder.state.size(), "coordinator is ready");
        Ok(Self {
            desk: Desk::new(folder)?,
            network,
            events,
            archive,
            arrivals,
            arrived: BTreeSet::new(),
            presence: Presence::new(Duration::from_secs(absence.into()) + PING),
            announced: 0,
            stay: options.stay,
            ended: None,
        })
    }

    /// The join link's addresses.
    pub fn addresses(&self) -> Vec<String> {
        self.network.control_addresses()
    }

    /// Serves until the run has ended (unless told to stay) or `cancel` is triggered.
    ///
    /// # Errors
    ///
    /// [`CoordinatorError`] when the ledger cannot be written.
    pub async fn run(mut self, cancel: CancellationToken) -> Result<(), CoordinatorError> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.archive.follow(self.desk.state());
        loop {
            tokio::select! {
                biased;
                // 1. stopping beats everything
                () = cancel.cancelled() => break,
                // 2. deadlines next, so that a flood of requests cannot hold them off
                _ = tick.tick() => {}
                // 3. what has been fetched
                Some(digest) = self.arrivals.recv() => {
                    self.arrived.insert(digest);
                }
                // 4. requests last
                event = self.events.recv() => match event {
                    Some(event) => self.on_events(event).await?,
                    None => break,
                },
            }
            self.conduct().await?;
            if self.desk.state().phase() == Phase::Ended && !self.stay && !self.desk.is_waiting() {
                let since = *self.ended.get_or_insert_with(Instant::now);
                if since.elapsed() > FAREWELL {
                    break;
                }
            }
        }
        self.network.shutdown().await;
        Ok(())
    }

    /// Handles an event and whatever else is already waiting, under one checkpoint.
    async fn on_events(&mut self, first: NetworkEvent) -> Result<(), CoordinatorError> {
        let mut answers: Vec<(ReplySender, Response)> = Vec::new();
        let mut next = Some(first);
        for _ in 0..BURST {
            let Some(event) = next else { break };
            match event {
                NetworkEvent::Request { from, body, reply } => {
                    // who gets no answer asks again
                    answers.extend(self.respond(from, &body).map(|response| (reply, response)));
                }
                NetworkEvent::Connected(_) | NetworkEvent::Disconnected(_) | NetworkEvent::Gossip { .. } => {}
            }
            next = self.events.try_recv().ok();
        }
        // Nothing is acknowledged before it is durable and everybody may see it.
        let published = self.flush().await?;
        for (reply, response) in answers {
            if published || !matches!(response, Response::Accepted { .. }) {
                reply.send(response.to_bytes());
            }
        }
        Ok(())
    }

    /// The answer to a request; none to a submission while the ledger waits for its witnesses.
    fn respond(&mut self, from: MemberId, body: &[u8]) -> Option<Response> {
        let request = match Request::from_bytes(body) {
            Ok(request) => request,
            Err(error) => {
                tracing::warn!(peer = %from.short(), %error, "request refused");
                return Some(Response::NotServed { reason: error.to_string() });
            }
        };
        if let Some(response) = self.desk.answer(&request) {
            return Some(response);
        }
        let Request::Submit { statement } = request else {
            return Some(Response::NotServed { reason: "not a request that is served here".to_owned() });
        };
        if self.desk.is_waiting() {
            return None;
        }
        let taken = Statement::from_bytes(&statement)
            .map_err(RuleError::from)
            .and_then(|statement| self.desk.take(statement));
        Some(match taken {
            Ok((index, event)) => {
                tracing::info!(index, kind = event.kind(), from = %from.short(), "entry");
                Response::Accepted { index }
            }
            Err(error) => {
                tracing::warn!(peer = %from.short(), %error, "statement refused");
                Response::Refused { reason: error.to_string() }
            }
        })
    }

    /// Says what the operator has to say, and tells everybody about a new head.
    async fn conduct(&mut self) -> Result<(), CoordinatorError> {
        self.presence.hear(self.network.last_heard());
        while self.flush().await? {
            let around = Surroundings {
                now_ms: now_ms(),
                present: self.presence.present(tokio::time::Instant::now()),
                archived: self.archived(),
            };
            let Some(event) = next_event(self.desk.state(), &around) else { break };
            let index = self
                .desk
                .say(&event)
                .map_err(|source| CoordinatorError::Conductor { kind: event.kind(), source })?;
            tracing::info!(index, kind = event.kind(), "entry");
            self.archive.follow(self.desk.state());
        }
        self.archive.follow(self.desk.state());
        let size = self.desk.checkpoint().checkpoint.size;
        if size != self.announced {
            self.announced = size;
            self.announce().await;
        }
        Ok(())
    }

    /// Tells everybody that there is something new. Sizes only grow, so that an announcement that is played again is old.
    async fn announce(&self) {
        let run = self.desk.state().run();
        let body = Body::Head { note: self.desk.head() };
        let announcement = Announcement::sign(run, self.desk.operator(), self.announced, body);
        self.network.publish(announcement::topic(&run), announcement.to_bytes()).await;
    }

    /// Whether everything that was taken is published.
    async fn flush(&mut self) -> Result<bool, CoordinatorError> {
        self.desk.flush().await.map_err(|source| CoordinatorError::Log { source })
    }

    /// What the conductor may rely on: contributions of the current round and states that were reported for it.
    fn archived(&self) -> BTreeSet<Digest> {
        let Some(round) = self.desk.state().round() else { return BTreeSet::new() };
        let contributions = round.commits.values().map(|record| record.commit.contribution.digest);
        let states = round.outcomes.values().chain([&round.open.start_state]).map(|state| state.digest);
        contributions.chain(states).filter(|digest| self.arrived.contains(digest)).collect()
    }
}

//! Ways to members' bulk sockets: which address a blob is asked for at, and how one is come by behind routers.
//!
//! ```text
//! route (control: address, hidden?) --+--> table (bulk: member -> address)
//! connections that peers made --------+
//! holes that were opened -------------'
//!
//! we cannot be dialled, it can     dial it and keep the connection, so that it can ask us (`Plan::Hold`)
//! neither can be dialled           offer a hole, again with a new socket when it fails (`Plan::Punch`)
//! no hole                          a seeder fetches for us what only that member has (`passing`)
//! ```

mod candidates;
mod hole;
mod passing;
mod plan;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use quinn::{Connection, VarInt};
use talkoot_protocol::{digest::BlobRef, identity::MemberId};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::task::AbortOnDropHandle;

use self::{
    hole::Doors,
    passing::Passing,
    plan::{Plan, Way},
};
use crate::{
    bulk::{
        Bulk,
        punch::{Accepted, FreshSocket},
    },
    control::{Control, IncomingSignal, Reachability},
    signal::{Reply, Signal},
    store::BlobStore,
};

/// How often plans are looked at when nothing happens.
const TICK: Duration = Duration::from_millis(500);
/// Attempts under way at once.
const MAX_ATTEMPTS: usize = 8;
/// How long a seeder is left alone before it is asked to fetch a blob: mostly it has it, or somebody else does.
const BEFORE_ASKING: Duration = Duration::from_secs(2);
/// The pause doubles up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Seeders asked for one blob.
const SEEDERS_ASKED: usize = 2;

/// What came of an attempt.
type Outcome = Result<(Connection, Option<FreshSocket>), String>;

/// How members are reached, for people and tests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WaysStatus {
    /// Members that are reached over a hole, and where.
    pub punched: BTreeMap<MemberId, SocketAddr>,
    /// Members that there is no way to.
    pub unreachable: BTreeSet<MemberId>,
}

/// What all tasks share.
#[derive(Debug, Clone)]
struct Shared {
    me: MemberId,
    control: Control,
    bulk: Bulk,
    doors: Arc<Mutex<Doors>>,
}

/// The task that finds ways; gone with its last handle.
#[derive(Debug, Clone)]
pub(crate) struct Ways {
    control: Control,
    status: watch::Receiver<WaysStatus>,
    _task: Arc<AbortOnDropHandle<()>>,
}

impl Ways {
    /// Starts to keep `table` true.
    pub(crate) fn start(
        me: MemberId,
        control: Control,
        bulk: Bulk,
        store: Option<BlobStore>,
        signals: mpsc::Receiver<IncomingSignal>,
        table: watch::Sender<BTreeMap<MemberId, SocketAddr>>,
    ) -> Self {
        let (shown, status) = watch::channel(WaysStatus::default());
        let accepted = bulk.accepted();
        let passing = store.map(|store| Passing::new(bulk.clone(), store));
        let shared = Shared { me, control: control.clone(), bulk, doors: Arc::default() };
        let keeper =
            Keeper { shared, ways: BTreeMap::new(), attempts: JoinSet::new(), passing, table, shown };
        let task = tokio::spawn(keeper.run(signals, accepted));
        Self { control, status, _task: Arc::new(AbortOnDropHandle::new(task)) }
    }

    /// How members are reached.
    pub(crate) fn status(&self) -> watch::Receiver<WaysStatus> {
        self.status.clone()
    }

    /// Asks seeders, now and then, to fetch a blob that may be with members whom we cannot reach. Never returns.
    pub(crate) async fn ask_seeders(&self, blob: BlobRef) {
        let mut pause = BEFORE_ASKING;
        loop {
            tokio::time::sleep(pause).await;
            if self.status.borrow().unreachable.is_empty() {
                continue;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            let routes = self.control.routes().borrow().clone();
            let seeders = routes.into_iter().filter(|(_, route)| route.seeder && route.address.is_some());
            for (seeder, _) in seeders.take(SEEDERS_ASKED) {
                let want = Signal::Want { digest: *blob.digest.as_bytes(), bytes: blob.bytes };
                let reply = self.control.signal(seeder, want).await;
                tracing::debug!(seeder = %seeder.short(), digest = %blob.digest.short(), ?reply, "asked a seeder to fetch");
            }
        }
    }
}

struct Keeper {
    shared: Shared,
    ways: BTreeMap<MemberId, Way>,
    attempts: JoinSet<(MemberId, u64, Outcome)>,
    passing: Option<Passing>,
    table: watch::Sender<BTreeMap<MemberId, SocketAddr>>,
    shown: watch::Sender<WaysStatus>,
}

impl Keeper {
    async fn run(
        mut self,
        mut signals: mpsc::Receiver<IncomingSignal>,
        accepted: Option<mpsc::Receiver<Accepted>>,
    ) {
        let mut routes = self.shared.control.routes();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (_nobody, nothing) = mpsc::channel(1);
        let mut accepted = accepted.unwrap_or(nothing);
        loop {
            tokio::select! {
                changed = routes.changed() => if changed.is_err() { return },
                Some((member, connection)) = accepted.recv() => self.on_accepted(member, connection),
                Some(signal) = signals.recv() => self.on_signal(signal),
                Some(Ok((member, session, outcome))) = self.attempts.join_next() => {
                    self.on_outcome(member, session, outcome);
                }
                _ = tick.tick() => {}
            }
            self.reconcile(&routes.borrow_and_update().clone());
            self.adopt();
            self.begin_attempts();
            self.publish();
        }
    }

    /// Forgets members that have gone or were restarted, learns those that came.
    fn reconcile(&mut self, routes: &BTreeMap<MemberId, crate::control::route::Route>) {
        self.ways
            .retain(|member, way| routes.get(member).is_some_and(|route| route.session == way.route.session));
        for (member, route) in routes {
            self.ways
                .entry(*member)
                .and_modify(|way| way.route = *route)
                .or_insert_with(|| Way::new(*route, Instant::now()));
        }
    }

    /// A peer has made a connection to us.
    fn on_accepted(&mut self, member: MemberId, connection: Connection) {
        // its control connection may come a moment later
        if let Some(way) = self.ways.get_mut(&member) {
            way.found(self.shared.me, member, connection, false);
        } else if let Some(route) = self.shared.control.routes().borrow().get(&member) {
            let mut way = Way::new(*route, Instant::now());
            way.found(self.shared.me, member, connection, false);
            self.ways.insert(member, way);
        }
    }

    /// Sees to it that each way's connection is the one that blobs are asked for over.
    fn adopt(&mut self) {
        for (member, way) in &mut self.ways {
            if let Some(connection) = way.connection() {
                self.shared.bulk.adopt(*member, &connection);
            }
        }
    }

    /// Whether nobody can dial us.
    fn private(&self) -> bool {
        self.shared.control.reach().borrow().reachability == Reachability::Private
    }

    fn begin_attempts(&mut self) {
        let now = Instant::now();
        let private = self.private();
        for (member, way) in &mut self.ways {
            if self.attempts.len() >= MAX_ATTEMPTS {
                return;
            }
            let Some(plan) = way.plan(self.shared.me, *member, private, now) else { continue };
            let (shared, member, route, tries) = (self.shared.clone(), *member, way.route, way.tries);
            self.attempts.spawn(async move {
                let outcome = match plan {
                    Plan::Hold(address) => {
                        shared.bulk.connect(member, address).await.map(|made| (made, None))
                    }
                    Plan::Punch => hole::offer(&shared, member, route, tries).await,
                };
                (member, route.session, outcome)
            });
        }
    }

    fn on_outcome(&mut self, member: MemberId, session: u64, outcome: Outcome) {
        let Some(way) = self.ways.get_mut(&member).filter(|way| way.route.session == session) else { return };
        match outcome {
            // the attempt's socket takes nobody new from here on; what was made over it is served as long as it lives
            Ok((connection, _)) => {
                let address = connection.remote_address();
                tracing::info!(member = %member.short(), %address, "a way to a member's bulk plane");
                way.found(self.shared.me, member, connection, true);
            }
            Err(reason) => {
                tracing::debug!(member = %member.short(), reason, tries = way.tries, "no way to a member's bulk plane yet");
                way.failed(Instant::now());
            }
        }
    }

    fn on_signal(&mut self, incoming: IncomingSignal) {
        let IncomingSignal { from, signal, reply } = incoming;
        match signal {
            Signal::Echo => drop(reply.send(Reply::Gone)),
            Signal::Offer { nonce, attempt, candidates } => {
                let Some(route) = self.ways.get(&from).map(|way| way.route) else { return };
                if self.attempts.len() >= MAX_ATTEMPTS {
                    return; // dropping the reply says no
                }
                let shared = self.shared.clone();
                let offer = hole::Offer { from, nonce, attempt, candidates };
                self.attempts
                    .spawn(async move { (from, route.session, hole::answer(&shared, offer, reply).await) });
            }
            Signal::Go { nonce } => {
                let mut doors = self.shared.doors.lock().unwrap_or_else(PoisonError::into_inner);
                let _ = reply.send(if doors.open(from, nonce) { Reply::Gone } else { Reply::No });
            }
            Signal::Want { digest, bytes } => {
                let taken = self.passing.as_mut().is_some_and(|passing| passing.want(from, digest, bytes));
                let _ = reply.send(if taken { Reply::Gone } else { Reply::No });
            }
        }
    }

    fn publish(&mut self) {
        let mut table = BTreeMap::new();
        let mut status = WaysStatus::default();
        let private = self.private();
        for (member, way) in &mut self.ways {
            match way.address() {
                Some(address) => drop(table.insert(*member, address)),
                None => drop(status.unreachable.insert(*member)),
            }
            if let Some(address) = way.punched(private) {
                status.punched.insert(*member, address);
            }
            if way.has_failed() {
                status.unreachable.insert(*member);
            }
        }
        self.table.send_if_modified(|shown| replace(shown, table));
        self.shown.send_if_modified(|shown| replace(shown, status));
    }
}

/// Closes a connection that has a better sibling.
fn close_double(connection: &Connection) {
    connection.close(VarInt::from_u32(0), b"another connection is kept");
}

/// Says whether the new value is another one.
fn replace<T: PartialEq>(place: &mut T, value: T) -> bool {
    let changed = *place != value;
    *place = value;
    changed
}

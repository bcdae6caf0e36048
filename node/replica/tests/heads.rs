//! Members on a real network and an operator that lies to some of them, or to all by saying nothing more.

#![allow(clippy::unwrap_used, reason = "helpers of a test are part of the test")]

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use talkoot_ledger::{Fork, Log, SignerKey, VerifierKey};
use talkoot_network::{BlobStore, Network, NetworkConfig, NetworkEvent};
use talkoot_protocol::{
    digest::BlobRef,
    entry::{Entry, Statement},
    event::{Event, Join, Role},
    identity::Keypair,
    link::JoinLink,
    manifest::{Bindings, DatasetBinding, Manifest, RunId, Terms},
    message::{MAX_ENTRIES_BYTES, Request, Response},
};
use talkoot_replica::{Alarm, Follower, ReplicaError};

const LOG_SEED: [u8; 32] = [3; 32];
const ORIGIN: &str = "logs.example.org/run";

fn key(n: u8) -> Keypair {
    Keypair::from_seed([n; 32])
}

fn operator() -> Keypair {
    key(100)
}

fn log_key() -> VerifierKey {
    SignerKey::log(ORIGIN, &LOG_SEED).unwrap().verifier()
}

fn manifest() -> Manifest {
    let terms = Terms::from_toml(include_str!("../../laboratory/src/attack/terms.toml")).unwrap();
    let datasets = vec![DatasetBinding { index: BlobRef::of(b"index"), packs: 50, periods: None }];
    Manifest {
        terms,
        bindings: Bindings {
            operator: operator().id(),
            log_key: log_key().to_string(),
            config: BlobRef::of(b"config"),
            tokenizer: BlobRef::of(b"tokenizer"),
            initial_state: BlobRef::of(b"state"),
            datasets,
        },
    }
}

/// One view of the log, and the operator who serves it.
struct View {
    network: Network,
    log: Arc<Mutex<Log>>,
    run: RunId,
    time_ms: u64,
}

impl View {
    async fn open(dir: &Path, time_ms: u64) -> Self {
        let log = Log::create(&dir.join("log"), ORIGIN, &LOG_SEED).unwrap();
        let store = BlobStore::open(&dir.join("store")).unwrap();
        let (network, mut events) =
            talkoot_network::start(NetworkConfig::default(), &operator(), store).await.unwrap();
        let log = Arc::new(Mutex::new(log));
        let served = Arc::clone(&log);
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if let NetworkEvent::Request { body, reply, .. } = event {
                    reply.send(answer(&served.lock().unwrap(), &body).to_bytes());
                }
            }
        });
        let run = manifest().id();
        let view = Self { network, log, run, time_ms };
        view.say(&operator(), &Event::Manifest(Box::new(manifest())));
        view
    }

    fn say(&self, key: &Keypair, event: &Event) {
        let mut log = self.log.lock().unwrap();
        let statement = Statement::sign(self.run, key, event);
        let entry = Entry::new(log.size(), self.time_ms, statement).to_bytes();
        log.append(&[entry]).unwrap();
    }

    fn join(&self, n: u8) {
        let seen = self.log.lock().unwrap().size();
        self.say(&key(n), &Event::Join(Join { role: Role::Trainer, seen, draw_key: None, recovery: None }));
    }
}

fn answer(log: &Log, request: &[u8]) -> Response {
    match Request::from_bytes(request).unwrap() {
        Request::Entries { from, max } => {
            let entries = log.entries(from, max as usize, MAX_ENTRIES_BYTES).unwrap();
            let entries = entries.into_iter().map(Into::into).collect();
            Response::Entries { from, entries, note: log.checkpoint_note() }
        }
        _ => Response::Head { note: log.checkpoint_note() },
    }
}

/// Member `n`, who meets whoever is at these addresses.
async fn member(n: u8, dir: &Path, run: RunId, addresses: Vec<String>) -> (Follower, Network) {
    let dir = dir.join(format!("member-{n}"));
    let store = BlobStore::open(&dir.join("store")).unwrap();
    let config = NetworkConfig::default().for_member(&JoinLink { run, addresses }, &dir);
    let (network, events) = talkoot_network::start(config, &key(n), store).await.unwrap();
    let follower = Follower::start(network.clone(), events, key(n), run, &dir.join("ledger")).await.unwrap();
    (follower, network)
}

/// Follows until it cannot any more.
async fn follow(mut follower: Follower) -> ReplicaError {
    loop {
        if let Err(error) = follower.sync().await {
            return error;
        }
        follower.wait().await;
    }
}

fn evidence_of(error: &ReplicaError) -> PathBuf {
    match error {
        ReplicaError::Forked { evidence } => evidence.clone(),
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_members_who_are_shown_two_histories_find_out_and_keep_the_proof() {
    let home = tempfile::tempdir().unwrap();
    let now_ms = 1_000;
    let views = [
        View::open(&home.path().join("v1"), now_ms).await,
        View::open(&home.path().join("v2"), now_ms).await,
    ];
    for (view, own) in views.iter().zip([10, 11]) {
        view.join(1);
        view.join(2);
        // the operator tells them different things from here on
        view.join(own);
    }
    let run = views[0].run;
    let (first, network) = member(1, home.path(), run, views[0].network.control_addresses()).await;
    let addresses = [views[1].network.control_addresses(), network.control_addresses()].concat();
    let (second, _) = member(2, home.path(), run, addresses).await;
    let first = tokio::spawn(follow(first));
    let second = tokio::spawn(follow(second));
    for error in [first.await.unwrap(), second.await.unwrap()] {
        assert!(error.to_string().contains("has signed two histories"), "{error}");
        let fork = Fork::read(&evidence_of(&error)).unwrap();
        assert_eq!(fork.verify(&log_key()), Ok(4));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_stands_still_is_reported_and_one_that_goes_on_is_not() {
    let home = tempfile::tempdir().unwrap();
    let old = View::open(&home.path().join("old"), 1_000).await;
    let (mut follower, _) = member(1, home.path(), old.run, old.network.control_addresses()).await;
    while follower.sync().await.unwrap() == 0 {}
    let most_s = manifest().terms.deadlines.most_age_s();
    assert!(
        matches!(follower.alarm(), Some(Alarm::StandsStill { age_s, most_s: most }) if *age_s > *most && *most == most_s),
        "{:?}",
        follower.alarm()
    );
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let fresh = View::open(&home.path().join("fresh"), since.as_millis() as u64).await;
    let (mut follower, _) = member(2, home.path(), fresh.run, fresh.network.control_addresses()).await;
    while follower.sync().await.unwrap() == 0 {}
    assert_eq!(follower.alarm(), None);
}

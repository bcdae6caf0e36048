//! Ledgers that tell a lie, before the part of the audit that has to find it.

#![allow(clippy::unwrap_used, reason = "helpers of a test are part of the test")]

use std::{fs, path::Path};

use talkoot_ledger::SignerKey;
use talkoot_protocol::{
    entry::{Entry, Statement},
    event::{Divergence, DivergentPart, Event, Join, Role, RoundOpen},
    identity::Keypair,
    manifest::{Bindings, DatasetBinding, RunId, Terms},
    run::{Phase, VerdictRecord},
};
use talkoot_trainer::presets::demo_model;

use super::*;
use crate::audit::{LogPlace, fold::Fold};

fn key(n: u8) -> Keypair {
    Keypair::from_seed([n; 32])
}

fn log_key() -> SignerKey {
    SignerKey::log("logs.example.org/run", &[3; 32]).unwrap()
}

/// A folder with the blobs that a run begins with, and the run's manifest.
struct World {
    home: tempfile::TempDir,
    manifest: Manifest,
    start: BlobRef,
}

impl World {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let keep = |bytes: &[u8]| {
            let blob = BlobRef::of(bytes);
            fs::write(home.path().join(blob.digest.to_string()), bytes).unwrap();
            blob
        };
        let config = demo_model(64);
        let start = keep(&State::initial(&config, 1).to_safetensors());
        let bindings = Bindings {
            operator: key(9).id(),
            log_key: log_key().verifier().to_string(),
            config: keep(&serde_json::to_vec(&config).unwrap()),
            tokenizer: BlobRef::of(b"tokenizer"),
            initial_state: start,
            datasets: vec![DatasetBinding { index: BlobRef::of(b"index"), packs: 8, periods: None }],
        };
        let terms = include_str!("../../../../protocol/core/src/manifest/example.toml");
        let manifest = Manifest { terms: Terms::from_toml(terms).unwrap(), bindings };
        Self { home, manifest, start }
    }

    fn options(&self) -> Options {
        let dir: &Path = self.home.path();
        Options {
            ledger: LogPlace::Folder(dir.to_owned()),
            blobs: Blobs::in_folder(dir),
            log_key: None,
            replay: 0.0,
            seed: 1,
            seen: Vec::new(),
            trail: None,
            now_ms: 0,
        }
    }

    /// A round from the first weights that nobody's contribution entered.
    fn round(&self) -> Round {
        let open = RoundOpen { round: 0, stage: 0, start_state: self.start, seats: Vec::new() };
        Round::of(open, Vec::new())
    }
}

#[test]
fn a_state_that_does_not_follow_is_a_lie_of_the_ledger() {
    let world = World::new();
    let another = BlobRef { digest: Digest::of(b"other weights"), ..world.start };
    for (claimed, lies) in [(world.start, 0), (another, 1)] {
        let mut report = Report::new(true);
        let mut states = States::new(&world.manifest, &world.options(), &mut report);
        states.settle(&world.manifest, &world.round(), claimed, &mut report);
        assert_eq!(
            (report.counts.aggregations, report.not_checked.len()),
            (1, 0),
            "{:?}",
            report.not_checked
        );
        assert_eq!(report.lies.len(), lies, "{:?}", report.lies);
        for lie in &report.lies {
            let Lie::State { round: 0, claimed, computed } = lie else { panic!("{lie:?}") };
            assert_eq!((claimed, computed), (&another.digest.to_string(), &world.start.digest.to_string()));
        }
    }
}

#[test]
fn a_verdict_that_a_replay_contradicts_is_the_verifiers_lie() {
    let world = World::new();
    let mut report = Report::new(true);
    let states = States::new(&world.manifest, &world.options(), &mut report);
    let (member, verifier) = (key(1).id(), key(20).id());
    let blob = BlobRef::of(b"blob");
    let commit = Commit {
        round: 0,
        start_state: world.start.digest,
        work: Digest::of(b"work"),
        steps: 1,
        contribution: blob,
        trace: blob,
        feedback_in: None,
        feedback_out: blob,
        tokens: 1,
        loss_first_micronats: 0,
        loss_last_micronats: 0,
        train_ms: 1,
        moments: None,
    };
    let record = CommitRecord { index: 4, commit, late: None };
    let failed = Finding::Fail(Divergence {
        what: DivergentPart::Contribution,
        replayed: blob,
        first_step: None,
        claimed_micronats: None,
        replayed_micronats: None,
        trace: None,
    });
    for (said, found, lies) in
        [(Finding::Pass, &failed, 1), (failed.clone(), &failed, 0), (failed.clone(), &Finding::Pass, 1)]
    {
        let mut round = world.round();
        round.commits.insert(member, record.clone());
        round.verdicts.push(VerdictRecord { index: 7, verifier, commit: 4, finding: said });
        let mut report = Report::new(true);
        states.judge(&round, member, &record, found, &mut report);
        assert_eq!((report.counts.verdicts_checked, report.lies.len()), (1, lies), "{:?}", report.lies);
        for lie in &report.lies {
            assert!(
                matches!(lie, Lie::FalseVerdict { verdict: 7, verifier: named, .. } if *named == verifier.to_string()),
                "{lie:?}"
            );
        }
    }
}

#[test]
fn an_entry_that_breaks_a_rule_is_a_lie_of_the_ledger() {
    let world = World::new();
    let run: RunId = world.manifest.id();
    let join = |draw_key| Event::Join(Join { role: Role::Trainer, seen: 1, draw_key, recovery: None });
    let entry = |index: u64, key: &Keypair, event: &Event| {
        Entry::new(index, 1_000, Statement::sign(run, key, event)).to_bytes()
    };
    let manifest = Event::Manifest(Box::new(world.manifest.clone()));
    let entries = [
        entry(0, &key(9), &manifest),
        entry(1, &key(1), &join(None)),
        entry(2, &key(2), &join(Some(Digest::of(b"a trainer draws nothing")))),
    ];
    let (options, log_key) = (world.options(), log_key().verifier());
    for (count, lies) in [(2, 0), (3, 1)] {
        let mut report = Report::new(true);
        let mut fold = Fold::new(&options, &log_key);
        for (index, entry) in (0..).zip(&entries[..count]) {
            fold.take(index, entry, &mut report);
        }
        fold.finish(&mut report);
        assert_eq!(fold.state().map(|state| state.phase()), Some(Phase::Between));
        assert_eq!(report.lies.len(), lies, "{:?}", report.lies);
        for lie in &report.lies {
            let Lie::Rule { entry: 2, reason } = lie else { panic!("{lie:?}") };
            assert!(reason.contains("a trainer has no draw key"), "{reason}");
        }
    }
}

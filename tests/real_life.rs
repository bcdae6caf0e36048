//! What happens to members in real life: killed, frozen, slow, with wrong clocks, with a coordinator that is away or moves.
//! Real processes on the loopback; each run is audited to the end, training and late work replayed.

mod support;

use std::time::{Duration, Instant};

use support::{Process, TERMS, World};
use talkoot_ledger::{Folder, VerifierKey, reader};
use talkoot_protocol::{
    entry::Entry,
    event::Event,
    run::{Phase, RunState},
};

/// Rounds long enough to be in the middle of; everything is checked, so that late work is, too.
fn terms(rounds: u32, inner_steps: u32) -> String {
    TERMS
        .replace("rounds = 5", &format!("rounds = {rounds}"))
        .replace("inner_steps = 2", &format!("inner_steps = {inner_steps}"))
        .replace("probation = 1", "probation = 100")
}

/// All entries of the ledger with their times, in milliseconds.
fn entries(world: &World) -> Vec<(u64, Event)> {
    let dir = world.path("run/ledger");
    let key: VerifierKey =
        std::fs::read_to_string(dir.join("log.vkey")).expect("a key").trim().parse().expect("a key");
    let mut entries = Vec::new();
    reader::replay(&Folder::new(&dir), &key, |_, bytes| {
        let entry = Entry::from_bytes(bytes).expect("an entry");
        let event = entry.statement.open(&entry.statement.run).expect("an event");
        entries.push((entry.time_ms, event));
    })
    .expect("the ledger can be read");
    entries
}

/// When an event of a round was said.
fn time_of(entries: &[(u64, Event)], wanted: impl Fn(&Event) -> bool) -> u64 {
    entries.iter().find(|(_, event)| wanted(event)).expect("the event is in the ledger").0
}

/// Waits until a round of at least this number is in its training, and some time into it.
fn in_the_middle_of(world: &World, round: u64) -> RunState {
    world.wait_for("the training of a round", |state| {
        state.phase() == Phase::Training && state.round().is_some_and(|open| open.open.round >= round)
    });
    std::thread::sleep(Duration::from_millis(400));
    world.state()
}

fn audited(world: &World) {
    let (code, report) = world.audit("all");
    assert_eq!(code, Some(0), "{report}");
}

/// The figure of docs/benchmarks.md, "Kill and freeze":
/// `cargo test --test real_life one_of_four -- --nocapture`.
#[test]
fn one_of_four_killed_and_one_frozen_in_mid_round_do_not_hold_up_the_others() {
    let world = World::new(&terms(6, 12));
    let _coordinator = world.coordinator();
    let mut nodes: Vec<Process> =
        ["a", "b", "c", "d"].iter().map(|name| world.member("node", name, &[])).collect();
    world.wait_for("four members", |state| support::trainers(state) == 4);
    let _verifier = world.member("verifier", "verifier", &[]);
    let state = world.wait_for("four seats in a round", |state| {
        state.phase() == Phase::Training
            && state.round().is_some_and(|round| round.open.seats.len() == 4 && round.open.round >= 1)
    });
    let round = state.round().expect("a round").open.round;
    let (killed, frozen) = (nodes.remove(3), nodes.remove(2));
    let struck = Instant::now();
    frozen.freeze();
    killed.kill();
    let state = world.wait_for("the next round", |state| {
        state.progress().next_round > round + 1 || state.phase() == Phase::Ended
    });
    println!("kill and freeze: the next round is open {:.1} s after it", struck.elapsed().as_secs_f64());
    let entries = entries(&world);
    let of = |event: &Event| match event {
        Event::RoundOpen(open) => Some(("open", open.round)),
        Event::Seal(seal) => Some(("seal", seal.round)),
        Event::RoundClose(close) => Some(("close", close.round)),
        _ => None,
    };
    let time = |kind: &str| time_of(&entries, |event| of(event) == Some((kind, round)));
    let next = time_of(&entries, |event| of(event) == Some(("open", round + 1)));
    println!(
        "kill and freeze: round {round} opened at 0, sealed at {} ms, closed at {} ms, the next one opened at {} ms",
        time("seal") - time("open"),
        time("close") - time("open"),
        next - time("open")
    );
    let outcomes: Vec<_> = entries
        .iter()
        .filter_map(|(_, event)| match event {
            Event::Outcome(outcome) if outcome.round == round => Some(outcome.state.digest),
            _ => None,
        })
        .collect();
    assert!(outcomes.len() >= 2, "the survivors say what follows: {outcomes:?}");
    assert!(outcomes.iter().all(|digest| *digest == outcomes[0]), "and say the same: {outcomes:?}");
    let id = world.id_of("c", "node.key");
    let before = state.members()[&id].sealed;
    frozen.thaw();
    world.wait_for("the thawed member's next commit", |state| {
        state.members()[&id].sealed > before || state.phase() == Phase::Ended
    });
    let state = world.wait_for_the_end();
    assert!(state.members()[&id].sealed > before, "it resynchronised and went on: {}", frozen.log());
    assert_eq!(state.totals().failed, 0);
    audited(&world);
}

#[test]
fn a_commit_that_misses_the_seal_is_carried_by_the_next_one_and_replayed() {
    let world = World::new(&terms(4, 12));
    let _coordinator = world.coordinator();
    let _quick = world.member("node", "quick", &[]);
    let slow = world.member("node", "slow", &[]);
    world.wait_for("two members", |state| support::trainers(state) == 2);
    let verifier = world.member("verifier", "verifier", &[]);
    let id = world.id_of("slow", "node.key");
    let seated = |state: &RunState| state.round().is_some_and(|round| round.work_of(&id).is_some());
    let state =
        world.wait_for("a seat for the slow one", |state| state.phase() == Phase::Training && seated(state));
    let round = state.round().expect("a round").open.round;
    // asleep in mid-round; the others do not wait
    std::thread::sleep(Duration::from_millis(300));
    slow.freeze();
    world.wait_for("the seal without it", |state| {
        state.round().is_some_and(|now| now.open.round == round && now.seal.is_some())
    });
    // the verdicts wait, so that the round is still there when it wakes up
    verifier.freeze();
    slow.thaw();
    let state =
        world.wait_for("its late work", |state| state.round().is_some_and(|now| now.late.contains_key(&id)));
    let late = state.round().expect("a round").late[&id].clone();
    assert!(
        late.commit.steps >= 1
            && state.members()[&id].feedback.is_some_and(|(_, blob)| blob == late.restored)
    );
    verifier.thaw();
    world.wait_for("a commit that goes on from it", |state| {
        state.round().is_some_and(|now| now.commits.get(&id).is_some_and(|record| record.late.is_some()))
            || state.members()[&id].sealed > 0
            || state.phase() == Phase::Ended
    });
    let state = world.wait_for_the_end();
    let carried = entries(&world).iter().any(|(_, event)| match event {
        Event::Commit(commit) => commit.feedback_in == Some(late.restored),
        _ => false,
    });
    assert!(carried, "a later commit started from the restored buffer: {}", slow.log());
    assert_eq!(state.totals().failed, 0, "{}", verifier.log());
    assert!(slow.log().contains("kept for the next round"), "{}", slow.log());
    audited(&world);
}

#[test]
fn a_coordinator_that_comes_back_elsewhere_with_a_clock_behind_is_found() {
    let world = World::new(&terms(5, 4));
    let coordinator = world.coordinator();
    let _node = world.member("node", "node", &[]);
    let _verifier = world.member("verifier", "verifier", &[]);
    let before = in_the_middle_of(&world, 1);
    // the list of members is written now and then, and at a clean end
    let peers = world.path("run/peers.txt");
    world.wait_until("the list of members", || {
        std::fs::read_to_string(&peers).is_ok_and(|text| text.lines().count() >= 2)
    });
    coordinator.kill();
    std::thread::sleep(Duration::from_secs(12));
    assert!(world.state().size() >= before.size(), "nothing acknowledged is lost");
    let _coordinator = world.moved_coordinator("-10m");
    let state = world.wait_for_the_end();
    assert_eq!(state.totals().failed, 0);
    assert!(state.progress().next_round >= 5);
    let times: Vec<u64> = entries(&world).iter().map(|(time, _)| *time).collect();
    assert!(times.is_sorted(), "time never went back");
    audited(&world);
}

#[test]
fn members_with_wrong_clocks_take_part_as_everybody_else() {
    let world = World::new(&terms(3, 2));
    let _coordinator = world.coordinator();
    let ahead = world.member_with_clock("node", "ahead", "+47m");
    let behind = world.member_with_clock("node", "behind", "-3h");
    world.wait_for("two members", |state| support::trainers(state) == 2);
    let _verifier = world.member_with_clock("verifier", "verifier", "+2d");
    let state = world.wait_for_the_end();
    for (name, process) in [("ahead", ahead), ("behind", behind)] {
        let id = world.id_of(name, "node.key");
        assert!(state.members()[&id].sealed >= 2, "{name}: {}", process.log());
    }
    assert_eq!(state.totals().failed, 0);
    audited(&world);
}

#[test]
#[ignore = "takes minutes: for the night"]
fn members_finish_their_round_wait_and_rejoin_when_the_coordinator_was_away_for_minutes() {
    let world = World::new(&terms(6, 12));
    let coordinator = world.coordinator();
    let nodes: Vec<Process> = ["a", "b"].iter().map(|name| world.member("node", name, &[])).collect();
    world.wait_for("two members", |state| support::trainers(state) == 2);
    let _verifier = world.member("verifier", "verifier", &[]);
    let state = in_the_middle_of(&world, 1);
    let round = state.round().expect("a round").open.round;
    coordinator.kill();
    world.wait_until("the nodes' finished round", || {
        nodes.iter().all(|node| node.log().contains("the commit waits"))
    });
    std::thread::sleep(Duration::from_secs(150));
    let _coordinator = world.coordinator();
    let state = world.wait_for("both commits of the old round", |state| {
        state.progress().next_round > round + 1 || state.round().is_some_and(|now| now.commits.len() == 2)
    });
    assert!(state.progress().next_round > round);
    let state = world.wait_for_the_end();
    assert_eq!(state.totals().failed, 0);
    audited(&world);
}

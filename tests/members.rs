//! Members that come late, go early, or are killed: real processes on the loopback.

mod support;

use support::{TERMS, World, trainers};
use talkoot_protocol::run::Phase;

/// A run of more rounds, so that there is time for things to happen.
fn long(rounds: u32) -> String {
    TERMS.replace("rounds = 5", &format!("rounds = {rounds}"))
}

#[test]
fn a_late_member_joins_in_round_3_and_catches_up() {
    let world = World::new(&long(8));
    let coordinator = world.coordinator();
    let first = world.member("node", "first", &[]);
    let verifier = world.member("verifier", "verifier", &[]);
    world.wait_for("round 3", |state| state.progress().next_round >= 3);
    let late = world.member("node", "late", &[]);
    let state = world.wait_for_the_end();
    let id = world.id_of("late", "node.key");
    assert!(state.members()[&id].sealed >= 1, "the late member contributed: {}", late.log());
    assert_eq!(state.totals().failed, 0);
    for process in [coordinator, first, verifier, late] {
        assert!(process.wait());
    }
    let (code, report) = world.audit("all");
    assert_eq!(code, Some(0), "{report}");
}

#[test]
fn two_of_three_nodes_leave_at_once_and_the_run_ends_with_the_third() {
    let world = World::new(&long(8));
    let coordinator = world.coordinator();
    let nodes: Vec<_> = ["a", "b", "c"].iter().map(|name| world.member("node", name, &[])).collect();
    world.wait_for("three members", |state| trainers(state) == 3);
    let verifier = world.member("verifier", "verifier", &[]);
    world.wait_for("round 2", |state| state.progress().next_round >= 2);
    let mut nodes = nodes.into_iter();
    let third = nodes.next();
    // Both are told before either has gone.
    let leaving: Vec<_> = nodes.map(|node| std::thread::spawn(move || node.terminate())).collect();
    for thread in leaving {
        thread.join().expect("the node leaves cleanly");
    }
    let state = world.wait_for_the_end();
    assert_eq!(trainers(&state), 1);
    assert_eq!(state.members().values().filter(|member| member.left).count(), 2);
    assert_eq!(state.totals().failed, 0);
    for process in [Some(coordinator), third, Some(verifier)].into_iter().flatten() {
        assert!(process.wait());
    }
    let (code, report) = world.audit("5%");
    assert_eq!(code, Some(0), "{report}");
}

#[test]
fn a_killed_node_goes_on_where_it_was() {
    let world = World::new(&long(6));
    let _coordinator = world.coordinator();
    let node = world.member("node", "node", &[]);
    let _verifier = world.member("verifier", "verifier", &[]);
    world.wait_for("training in round 2", |state| {
        state.progress().next_round == 3 && state.phase() == Phase::Training
    });
    node.kill();
    let node = world.member("node", "node", &[]);
    let state = world.wait_for_the_end();
    assert_eq!(state.members().len(), 2, "the node is the same member as before");
    assert_eq!(state.totals().failed, 0, "{}", node.log());
    let (code, report) = world.audit("all");
    assert_eq!(code, Some(0), "{report}");
}

#[test]
fn a_killed_coordinator_loses_nothing_that_was_acknowledged() {
    let world = World::new(&long(6));
    let coordinator = world.coordinator();
    let _node = world.member("node", "node", &[]);
    let _verifier = world.member("verifier", "verifier", &[]);
    let before = world.wait_for("round 2", |state| state.progress().next_round >= 2);
    coordinator.kill();
    let after = world.state();
    assert!(after.size() >= before.size());
    let _coordinator = world.coordinator();
    let state = world.wait_for_the_end();
    assert_eq!(state.totals().failed, 0);
    let (code, report) = world.audit("5%");
    assert_eq!(code, Some(0), "{report}");
}

#[test]
fn a_second_coordinator_on_the_same_folder_is_told_so() {
    let world = World::new(TERMS);
    let _coordinator = world.coordinator();
    let dir = world.path("run").display().to_string();
    let error = support::run_badly(&["coordinator", "--dir", &dir, "--listen", "127.0.0.1:0"]);
    assert!(error.contains("another process"), "{error}");
    assert!(error.contains("ledger"), "it names the folder: {error}");
}

#[test]
fn a_port_in_use_is_named() {
    let world = World::new(TERMS);
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let dir = world.path("run").display().to_string();
    for flag in ["--listen", "--bulk-listen"] {
        let error = support::run_badly(&["coordinator", "--dir", &dir, flag, &address]);
        assert!(error.contains(&address) && error.contains("in use"), "{flag}: {error}");
    }
}

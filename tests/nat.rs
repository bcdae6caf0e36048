//! Members behind routers, over lines that lose packets and are cut, between real processes in network namespaces.
//!
//! The quick ones run with all other tests; those that wait for time-outs are `--ignored` and belong to the night
//! (`deploy/nightly.sh`). Without root, `ip` and `nft` they say that they skip.

mod support;

use std::path::PathBuf;

use support::{
    nat::{Internet, Router, possible},
    remote::{Remote, Start, serve},
};

/// The test that a member's process runs.
const MEMBER: &str = "helper_a_member_until_killed";
/// Where public members listen.
const PUBLIC: [[&str; 2]; 2] =
    [["198.51.100.1:4001", "198.51.100.1:4002"], ["198.51.100.2:4001", "198.51.100.2:4002"]];
/// Where members at home listen.
const HOME: [&str; 2] = ["0.0.0.0:0", "0.0.0.0:0"];
/// Long enough to be told from the chatter of the control plane.
const BLOB_BYTES: u64 = 6_000_000;

/// Not a test of its own: the process of a member.
#[test]
fn helper_a_member_until_killed() {
    serve();
}

/// Two members at home, two public seeders.
struct World {
    internet: Internet,
    folder: tempfile::TempDir,
    seeders: Vec<Remote>,
}

impl World {
    fn new(name: &str, routers: [Router; 2], loss: u32) -> Self {
        let internet = Internet::new(name, routers, loss);
        let mut world =
            Self { internet, folder: tempfile::tempdir().expect("a folder"), seeders: Vec::new() };
        for index in 0..2 {
            let meet = world.meeting_points();
            let seeder = world.start("pub", index + 1, PUBLIC[usize::from(index)], true, &meet);
            world.seeders.push(seeder);
        }
        world
    }

    fn meeting_points(&self) -> Vec<String> {
        self.seeders.iter().map(|seeder| seeder.addresses[0].clone()).collect()
    }

    fn start(&self, room: &str, seed: u8, listen: [&str; 2], seeder: bool, meet: &[String]) -> Remote {
        let dir: PathBuf = self.folder.path().join(seed.to_string());
        let program = std::env::current_exe().expect("this program");
        let start = Start { seed, dir: &dir, listen, seeder, lan: meet.is_empty() && !seeder, meet };
        Remote::start(self.internet.within(room, program.as_os_str()), MEMBER, &start)
    }

    /// The two at home, which have met everybody.
    fn homes(&self) -> (Remote, Remote) {
        let meet = self.meeting_points();
        let mut a = self.start("a", 11, HOME, false, &meet);
        let mut b = self.start("b", 12, HOME, false, &meet);
        for member in [&mut a, &mut b] {
            member.wait_until("everybody is met", |status| status[0] == "private" && status[1] == "3");
        }
        (a, b)
    }

    /// Bulk bytes that the seeders have sent.
    fn seeders_sent(&mut self) -> u64 {
        self.seeders.iter_mut().map(|seeder| seeder.bulk_bytes().0).sum()
    }
}

/// Two that are behind routers that can be punched exchange a blob, and the public host has no part in it.
fn direct(name: &str, routers: [Router; 2], loss: u32) {
    if !possible() {
        return;
    }
    let mut world = World::new(name, routers, loss);
    let (mut a, mut b) = world.homes();
    for member in [&mut a, &mut b] {
        member.wait_until("a hole is open", |status| status[3] == "1");
    }
    let (before, sent) = (world.internet.counters(), world.seeders_sent());
    let (one, two) = (a.put(BLOB_BYTES), b.put(BLOB_BYTES));
    b.fetch(&one);
    a.fetch(&two);
    let (after, sent_after) = (world.internet.counters(), world.seeders_sent());
    let (own, forwarded) = (after.own - before.own, after.forwarded - before.forwarded);
    eprintln!("{name}: {forwarded} bytes between the homes, {own} to and from the public host");
    assert!(forwarded > 2 * BLOB_BYTES, "both blobs went between the homes' lines: {forwarded}");
    assert!(own < BLOB_BYTES / 10, "none went through the public host: {own}");
    assert!(sent_after - sent < BLOB_BYTES / 10, "no seeder sent one: {sent_after} {sent}");
}

#[test]
fn two_homes_exchange_a_blob_directly() {
    direct("dir", [Router::Restricted, Router::Restricted], 0);
}

#[test]
fn a_router_that_takes_early_packets_for_its_own_is_got_through_as_well() {
    direct("opn", [Router::Open, Router::Open], 0);
}

#[test]
fn one_percent_of_lost_packets_does_not_keep_two_homes_apart() {
    direct("los", [Router::Restricted, Router::Restricted], 1);
}

#[test]
fn behind_symmetric_routers_a_seeder_passes_the_blob_on() {
    if !possible() {
        return;
    }
    let world = World::new("sym", [Router::Symmetric, Router::Symmetric], 0);
    let (mut a, mut b) = world.homes();
    let blob = a.put(BLOB_BYTES);
    b.fetch(&blob);
    let status = b.status();
    assert_eq!(status[3], "0", "there is no hole: {status:?}");
    // what went over the line of the one came over the line of the other by way of a seeder
    let counters = world.internet.counters();
    assert!(counters.own > 2 * BLOB_BYTES, "in and out again: {counters:?}");
    assert!(counters.forwarded < BLOB_BYTES / 10, "nothing between the homes: {counters:?}");
}

#[test]
fn two_on_a_local_network_meet_without_any_address() {
    if !possible() {
        return;
    }
    let internet = Internet::new("lan", [Router::Restricted, Router::Restricted], 0);
    let world = World { internet, folder: tempfile::tempdir().expect("a folder"), seeders: Vec::new() };
    let mut one = world.start("a", 21, HOME, false, &[]);
    let mut two = world.start("a", 22, HOME, false, &[]);
    for member in [&mut one, &mut two] {
        member.wait_until("the neighbour is met", |status| status[1] == "1");
    }
    let blob = one.put(100_000);
    two.fetch(&blob);
}

#[test]
#[ignore = "waits for time-outs: for the night"]
fn a_seeder_that_is_killed_is_replaced_by_the_other() {
    if !possible() {
        return;
    }
    let mut world = World::new("kil", [Router::Symmetric, Router::Symmetric], 0);
    let (mut a, mut b) = world.homes();
    let blob = a.put(BLOB_BYTES);
    drop(world.seeders.remove(0));
    b.fetch(&blob);
    for member in [&mut a, &mut b] {
        member.wait_until("the others are still met", |status| status[1] == "2");
    }
}

#[test]
#[ignore = "waits for time-outs: for the night"]
fn a_home_that_was_cut_off_finds_everybody_again() {
    if !possible() {
        return;
    }
    let world = World::new("cut", [Router::Restricted, Router::Restricted], 0);
    let (mut a, mut b) = world.homes();
    a.wait_until("a hole is open", |status| status[3] == "1");
    world.internet.cut("a", true);
    b.wait_until("the other is missed", |status| status[1] == "2");
    a.wait_until("everybody is missed", |status| status[1] == "0");
    let blob = b.put(BLOB_BYTES);
    world.internet.cut("a", false);
    for member in [&mut a, &mut b] {
        member.wait_until("everybody is met again", |status| status[1] == "3");
    }
    a.fetch(&blob);
}

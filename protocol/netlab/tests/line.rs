//! A line between two namespaces, where that is possible.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::{
    io::Read,
    net::{SocketAddr, UdpSocket},
    process::Stdio,
    time::Duration,
};

use talkoot_netlab::{Access, World};

/// Says why the test does nothing, where it cannot.
fn world(name: &str, accesses: &[Access]) -> Option<World> {
    match World::possible() {
        Ok(()) => Some(World::build(&format!("{name}{}", std::process::id()), accesses, 1).unwrap()),
        Err(error) => {
            eprintln!("SKIPPED: {error}");
            None
        }
    }
}

fn fast(delay: Duration) -> Access {
    Access { up_mbit: 100.0, down_mbit: 1e4, delay, loss: 0.0, queue_bytes: 625_000 }
}

/// Not a test of its own: the processes that the next one runs as members.
#[test]
fn helper_member() {
    let Ok(task) = std::env::var("TALKOOT_TEST_LINE") else { return };
    let words: Vec<&str> = task.split(' ').collect();
    match words[..] {
        ["echo", at] => {
            let socket = UdpSocket::bind(at).unwrap();
            println!("\nready");
            let mut packet = [0; 2000];
            loop {
                let (length, from) = socket.recv_from(&mut packet).unwrap();
                socket.send_to(&packet[..length], from).unwrap();
            }
        }
        ["ping", at] => {
            let at: SocketAddr = at.parse().unwrap();
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            let mut trips = Vec::new();
            for _ in 0..5 {
                let start = std::time::Instant::now();
                socket.send_to(&[7; 100], at).unwrap();
                socket.recv_from(&mut [0; 2000]).unwrap();
                trips.push(start.elapsed().as_micros());
            }
            println!("\ntrip {}", trips.iter().min().unwrap());
        }
        _ => panic!("{task}"),
    }
}

#[test]
fn packets_take_as_long_as_the_line_says_and_are_counted() {
    let delay = Duration::from_micros(12_500);
    let Some(world) = world("tkline", &[fast(delay), fast(delay)]) else { return };
    let helper = |member: usize, task: String| {
        let mut command = world.command(member, std::env::current_exe().unwrap());
        command.args(["--exact", "helper_member", "--nocapture"]).env("TALKOOT_TEST_LINE", task);
        command.stdout(Stdio::piped()).spawn().unwrap()
    };
    let at = SocketAddr::from((world.address(1), 4000));
    let mut echo = helper(1, format!("echo {at}"));
    let mut seen = String::new();
    let mut out = echo.stdout.take().unwrap();
    while !seen.contains("ready") {
        let mut byte = [0];
        out.read_exact(&mut byte).unwrap();
        seen.push(byte[0].into());
    }
    let output = helper(0, format!("ping {at}")).wait_with_output().unwrap();
    echo.kill().unwrap();
    echo.wait().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let trip: u64 = text
        .lines()
        .find_map(|line| line.strip_prefix("trip "))
        .unwrap_or_else(|| panic!("{text}"))
        .parse()
        .unwrap();
    assert!(trip >= 50_000, "a round trip of {trip} us is shorter than four times the delay");
    let (up, down) = world.counters(0);
    assert!(up.packets == 5 && up.dropped == 0 && up.lost == 0, "{up:?}");
    assert_eq!(down.packets, 5, "{down:?}");
}

#[test]
fn a_world_leaves_nothing_behind() {
    let Some(world) = world("tkgone", &[fast(Duration::ZERO)]) else { return };
    let listed = || {
        let output = std::process::Command::new("ip").args(["netns", "list"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let name = format!("tkgone{}-0", std::process::id());
    assert!(listed().contains(&name));
    drop(world);
    assert!(!listed().contains(&name));
}

//! A writer that is killed, really, again and again: the log goes on and every judge accepts it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/kit.rs"]
mod support;

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use support::{ORIGIN, SEED, judged, vkey};
use talkoot_ledger::{
    Folder, Log,
    reader::{replay, verify_history},
};

const DIR: &str = "TALKOOT_LEDGER_KILLED_WRITER";

/// Not a test by itself: the program that the other one starts and kills.
#[test]
fn writer() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let mut log = match Log::open_or_create(Path::new(&dir), ORIGIN, &SEED) {
        Ok(log) => log,
        Err(error) => {
            println!("refused {error}");
            return;
        }
    };
    loop {
        let from = log.size();
        let batch: Vec<Vec<u8>> = (from..from + 37).map(|i| i.to_be_bytes().to_vec()).collect();
        log.append(&batch).unwrap();
        println!("acknowledged {}", log.size());
    }
}

fn start(dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["writer", "--exact", "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn of_two_writers_at_once_one_loses() {
    for _ in 0..4 {
        let home = tempfile::tempdir().unwrap();
        let mut children = [start(home.path()), start(home.path())];
        // held to the end, as a writer that nobody listens to dies
        let mut lines = children
            .each_mut()
            .map(|child| BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap));
        // the first thing each says: who got the folder goes on acknowledging, the other ends
        let said = lines.each_mut().map(|lines| {
            lines.find(|line| line.contains("acknowledged ") || line.contains("refused ")).unwrap()
        });
        let refused: Vec<&String> = said.iter().filter(|line| line.contains("refused ")).collect();
        assert_eq!(refused.len(), 1, "{said:?}");
        assert!(refused[0].contains(".writer/lock: another process holds it"), "{said:?}");
        for child in &mut children {
            let _ = child.kill();
            child.wait().unwrap();
        }
        let signed = replay(&Folder::new(home.path()), &vkey(), |_, _| {}).unwrap();
        assert!(signed.checkpoint.size >= 37);
    }
}

#[test]
fn a_killed_writer_loses_nothing_it_acknowledged() {
    let home = tempfile::tempdir().unwrap();
    let mut acknowledged = 0_u64;
    for round in 0..12 {
        let mut child = start(home.path());
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // killed at whatever it does after some acknowledgements, which differ from round to round
        let mut seen = 0;
        for line in lines {
            let line = line.unwrap();
            if let Some(size) = line.split("acknowledged ").nth(1) {
                acknowledged = size.parse().unwrap();
                seen += 1;
                if seen > round % 4 {
                    child.kill().unwrap();
                    break;
                }
            }
        }
        child.wait().unwrap();

        let folder = Folder::new(home.path());
        let mut next = 0_u64;
        let signed = replay(&folder, &vkey(), |index, entry| {
            assert_eq!((index, entry), (next, &next.to_be_bytes()[..]));
            next += 1;
        })
        .unwrap();
        assert!(signed.checkpoint.size >= acknowledged, "round {round}");
        verify_history(&folder, &vkey(), &signed.checkpoint).unwrap();
        if let Some(verdict) = judged(home.path(), &vkey(), true) {
            verdict.unwrap_or_else(|said| panic!("round {round}: {said}"));
        }
    }
    assert!(acknowledged > 0);
}

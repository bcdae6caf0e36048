//! A fault at every system call of an append: an error, a full disk, a kill. After each, what readers find is whole, the
//! outside judge accepts it, and the writer goes on.
//!
//! `strace` puts the faults in, one a run: the n-th `fsync` fails, then the next. What it costs is a process for each; so
//! the usual run tries a sample, and `cargo test -p talkoot-ledger --test syscalls -- --ignored` all of them.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/kit.rs"]
mod support;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read as _, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use support::{ORIGIN, SEED, entries, judged, vkey};
use talkoot_ledger::{
    Folder, Log,
    reader::{replay, verify_history},
};

const DIR: &str = "TALKOOT_LEDGER_STRACED_WRITER";

/// Files that are not there; looking for them marks the trace.
const BEGIN: &str = "/talkoot-ledger-test/begin";
const END: &str = "/talkoot-ledger-test/end";

/// Across a tile's edge, so that full and partial tiles of two levels are written.
const BEFORE: u64 = 250;
const AFTER: u64 = 260;

/// Not a test by itself: the program that runs under strace.
#[test]
fn writer() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    // calls are counted for each thread: the n-th of this one must not be the n-th of the one that started it, too
    for _ in 0..32 {
        let mut null = File::options().read(true).write(true).open("/dev/null").unwrap();
        let _ = (fs::metadata("/dev/null"), null.write_all(b"x"), null.read_exact(&mut [0]));
    }
    let _ = File::open(BEGIN);
    let appended = Log::open(Path::new(&dir), &SEED).and_then(|mut log| log.append(&entries(BEFORE, AFTER)));
    let _ = File::open(END);
    match appended {
        Ok(signed) => println!("acknowledged {}", signed.checkpoint.size),
        Err(error) => println!("failed: {error}"),
    }
}

/// One way for a system call to fail.
#[derive(Debug, Clone)]
struct Fault {
    call: String,
    /// Counted from the start of the process, for the thread that writes.
    nth: usize,
    /// In strace's words.
    what: &'static str,
}

fn strace(dir: &Path, trace: &Path, calls: &str, fault: Option<&Fault>) -> String {
    let mut command = Command::new("strace");
    // openat always, as it marks the writer's thread
    command.arg("-ff").arg("-o").arg(trace).arg("-e").arg(format!("trace=openat,{calls}"));
    if let Some(Fault { call, nth, what }) = fault {
        command.arg("-e").arg(format!("inject={call}:{what}:when={nth}"));
    }
    let output = command
        .arg(std::env::current_exe().unwrap())
        .args(["writer", "--exact", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .stderr(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The lines of the thread that wrote, or nothing when it died before it began.
fn lines_of_the_writer(home: &Path) -> Option<Vec<String>> {
    let traces = fs::read_dir(home).unwrap().map(|item| item.unwrap().path());
    let of_threads = traces.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("trace."));
    of_threads
        .map(|path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned())
        .find(|text| text.contains(BEGIN))
        .map(|text| text.lines().map(str::to_owned).collect())
}

fn prepared(dir: &Path) {
    let mut log = Log::create(dir, ORIGIN, &SEED).unwrap();
    log.append(&entries(0, BEFORE)).unwrap();
}

/// Every system call between the marks, with each fault it can have. `None`, said aloud, without strace.
fn faults() -> Option<Vec<Fault>> {
    if !Command::new("strace").arg("-V").output().is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: faults at system calls, for strace does not run");
        return None;
    }
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("log");
    prepared(&dir);
    let said = strace(&dir, &home.path().join("trace"), "%file,%desc", None);
    if !said.contains("acknowledged") {
        eprintln!("SKIPPED: faults at system calls, for strace may not trace here: {said}");
        return None;
    }
    let (mut seen, mut found, mut inside) = (BTreeMap::<String, usize>::new(), Vec::new(), false);
    for line in lines_of_the_writer(home.path()).unwrap() {
        let Some((call, _)) = line.split_once('(') else { continue };
        let nth = seen.entry(call.to_owned()).or_default();
        *nth += 1;
        if line.contains(BEGIN) || line.contains(END) {
            inside = line.contains(BEGIN);
            continue;
        }
        // memory is no matter of the disk
        if inside && !call.starts_with("mmap") {
            for what in ["error=EIO", "error=ENOSPC", "signal=SIGKILL"] {
                found.push(Fault { call: call.to_owned(), nth: *nth, what });
            }
        }
    }
    Some(found)
}

/// Whether the fault hit the writer at its work. Calls are counted thread by thread, and what the test's other threads do on
/// the way there differs from run to run.
fn expect_harmless(fault: &Fault) -> bool {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("log");
    prepared(&dir);
    let said = strace(&dir, &home.path().join("trace"), &fault.call, Some(fault));
    let acknowledged = said.contains(&format!("acknowledged {AFTER}"));
    let killed = fault.what.contains("SIGKILL");
    let lines = lines_of_the_writer(home.path());
    let Some(lines) = lines else {
        eprintln!("{fault:?} hit another thread: {said}");
        return false;
    };
    let injected = lines.iter().any(|line| line.contains("(INJECTED)"));
    assert!(killed != injected && !(killed && acknowledged), "{fault:?} was not injected: {said}");
    assert!(killed || acknowledged || said.contains("failed: "), "{fault:?} ended in a panic: {said}");

    let accepted = |what: &str| {
        let folder = Folder::new(&dir);
        let mut seen = Vec::new();
        let signed = replay(&folder, &vkey(), |_, entry| seen.push(entry.to_vec()));
        let signed = signed.unwrap_or_else(|error| panic!("{fault:?}, {what}: {error}"));
        verify_history(&folder, &vkey(), &signed.checkpoint).unwrap();
        if let Some(verdict) = judged(&dir, &vkey(), true) {
            verdict.unwrap_or_else(|said| panic!("{fault:?}, {what}: the judge says {said}"));
        }
        seen
    };
    let seen = accepted("before it is opened again");
    assert!(seen == entries(0, AFTER) || (!acknowledged && seen == entries(0, BEFORE)), "{fault:?}");

    let mut log = Log::open(&dir, &SEED).unwrap_or_else(|error| panic!("{fault:?}: {error}"));
    assert!(log.size() >= seen.len() as u64, "{fault:?}: what was published is taken back");
    let mut expected = entries(0, log.size());
    let other: Vec<Vec<u8>> = (0..7).map(|i| format!("another future {i}").into_bytes()).collect();
    log.append(&other).unwrap();
    drop(log);
    expected.extend(other);
    assert_eq!(accepted("after it went on"), expected, "{fault:?}");
    true
}

fn try_each(step: usize) {
    let Some(faults) = faults() else { return };
    let calls: BTreeMap<&str, usize> = faults.iter().fold(BTreeMap::new(), |mut calls, fault| {
        *calls.entry(&fault.call).or_default() += 1;
        calls
    });
    for call in ["openat", "write", "fsync", "rename"] {
        assert!(calls.contains_key(call), "an append without {call}: {calls:?}");
    }
    let chosen = faults.iter().step_by(step);
    let wanted = chosen.len();
    let tried = chosen.filter(|fault| expect_harmless(fault)).count();
    assert!(2 * tried > wanted, "of {wanted} faults only {tried} hit the writer");
    eprintln!("{tried} of {} faults at {calls:?}", faults.len());
}

#[test]
fn a_sample_of_faults_at_system_calls_does_no_harm() {
    // coprime to the three kinds of faults, so that each kind comes at different calls
    try_each(23);
}

#[test]
#[ignore = "some hundreds of processes; for the nightly run"]
fn every_fault_at_every_system_call_does_no_harm() {
    try_each(1);
}

/// A disk of half a mebibyte, really full.
mod full_disk {
    use super::*;

    const FULL: &str = "TALKOOT_LEDGER_FULL_DISK";

    /// Not a test by itself: what happens on the small disk.
    #[test]
    fn on_the_small_disk() {
        let Some(disk) = std::env::var_os(FULL) else { return };
        let (dir, ballast) = (Path::new(&disk).join("log"), Path::new(&disk).join("ballast"));
        fs::write(&ballast, vec![0; 128 * 1024]).unwrap();
        let mut log = Log::create(&dir, ORIGIN, &SEED).unwrap();
        let batch = |log: &Log| entries(log.size(), log.size() + 37);
        let refusal = loop {
            if let Err(error) = log.append(&batch(&log)) {
                break error.to_string();
            }
        };
        assert!(refusal.contains("the disk is full; make room, then open the log again"), "{refusal}");
        let acknowledged = log.size();
        drop(log);
        let count = |what: &str| {
            let mut seen = Vec::new();
            let read = replay(&Folder::new(&dir), &vkey(), |_, entry| seen.push(entry.to_vec()));
            let size = read.unwrap_or_else(|error| panic!("{what}: {error}")).checkpoint.size;
            assert_eq!(seen, entries(0, size), "{what}");
            size
        };
        assert!(acknowledged > 0 && count("while it is full") >= acknowledged);
        fs::remove_file(ballast).unwrap();
        let mut log = Log::open(&dir, &SEED).unwrap();
        log.append(&batch(&log)).unwrap();
        let size = log.size();
        drop(log);
        assert_eq!(count("with room again"), size);
        println!("full at {acknowledged}, then {size}");
    }

    #[test]
    fn a_full_disk_is_told_and_survived() {
        let home = tempfile::tempdir().unwrap();
        let output = Command::new("unshare")
            .args(["--mount", "--", "sh", "-c", "mount -t tmpfs -o size=512k none \"$1\" && exec \"$2\" full_disk::on_the_small_disk --exact --nocapture", "sh"])
            .arg(home.path())
            .arg(std::env::current_exe().unwrap())
            .env(FULL, home.path())
            .output();
        let Ok(output) = output else {
            eprintln!("SKIPPED: a full disk, for unshare does not run");
            return;
        };
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        if !said.contains("running 1 test") {
            eprintln!("SKIPPED: a full disk, for nothing can be mounted here: {said}");
            return;
        }
        assert!(output.status.success() && said.contains("full at "), "{said}");
    }
}

//! A run by hand, for tests: the commands that a user types, as real processes on the loopback.

#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod drawn;
pub(crate) mod nat;
pub(crate) mod remote;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use talkoot_ledger::{Folder, VerifierKey, reader};
use talkoot_protocol::{
    event::Role,
    identity::MemberId,
    run::{Phase, RunState},
};

/// How often something that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// The program under test.
pub(crate) fn talkoot() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_talkoot"));
    command.env("RAYON_NUM_THREADS", "1").env_remove("RUST_LOG");
    command
}

/// The program under test with a wrong clock, by `libfaketime`; without it, with the right one, and a word about that.
pub(crate) fn talkoot_with_clock(off: &str) -> Command {
    let library = ["x86_64", "aarch64"]
        .iter()
        .map(|machine| format!("/usr/lib/{machine}-linux-gnu/faketime/libfaketimeMT.so.1"))
        .find(|path| Path::new(path).exists());
    let mut command = talkoot();
    match library {
        Some(library) => {
            command.env("LD_PRELOAD", library).env("FAKETIME", off).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        None => eprintln!("SKIPPED: no libfaketime (package faketime); the clocks of this test are right"),
    }
    command
}

/// Runs the program to its end and returns what it said.
pub(crate) fn run(arguments: &[&str]) -> Output {
    talkoot().args(arguments).stdin(Stdio::null()).output().expect("the program starts")
}

/// Runs the program, which has to succeed.
pub(crate) fn run_well(arguments: &[&str]) -> String {
    let output = run(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "talkoot {arguments:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs the program, which has to fail; returns the error line.
pub(crate) fn run_badly(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(!output.status.success(), "talkoot {arguments:?} succeeded");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!text.contains("panicked"), "talkoot {arguments:?} panicked: {text}");
    text
}

/// The terms of a run that is over in moments.
pub(crate) const TERMS: &str = r#"
protocol = 1
name = "rehearsal"
seed = 3

[[stages]]
name = "instruct"
trainable = ["merger", "language"]
rounds = 5
inner_steps = 2
packs_per_step = 1
sequence_tokens = 256
normalisation = "token"
[stages.optimizer]
peak_learning_rate = 0.003
final_learning_rate = 0.001
warmup_steps = 1
weight_decay = 0.0
beta1 = 0.9
beta2 = 0.95
epsilon = 1e-8
clip_norm = 1.0

[contribution]
chunk = 4096
k = 64
bits = 2
error_feedback = 0.95
inner_state = "public"

[aggregation]
rule = "mean"
outer_learning_rate = 1.0

[verification]
class = "exact"
probation = 1
rate = 0.5
min_verifiers = 1

[membership]
min_members = 1
max_members = 8
assignment = "equal"

[deadlines]
training_s = 120
verification_s = 120
outcome_s = 20
absence_s = 2
"#;

/// A process that is killed when the test ends.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGSTOP: the process stands still, and its connections stay open.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    /// SIGCONT.
    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill runs").success());
    }

    /// SIGTERM, and wait for the end.
    pub(crate) fn terminate(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
        assert!(self.child.wait().expect("it ends").success(), "{}", self.log());
    }

    /// Waits for the end; whether it was a success.
    pub(crate) fn wait(mut self) -> bool {
        self.child.wait().expect("it ends").success()
    }

    /// What it has said so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A run in a temporary folder.
#[derive(Debug)]
pub(crate) struct World {
    folder: tempfile::TempDir,
    port: u16,
}

impl World {
    /// Draws and packs a little data and makes a run with `terms`.
    pub(crate) fn new(terms: &str) -> Self {
        Self::within(tempfile::tempdir().expect("a temporary folder"), terms)
    }

    /// As [`World::new`], in a folder that has something in it already.
    pub(crate) fn within(folder: tempfile::TempDir, terms: &str) -> Self {
        let world = Self { folder, port: free_port() };
        let path = |name: &str| world.path(name).display().to_string();
        run_well(&[
            "dataset",
            "synth",
            "--out",
            &path("drawn"),
            "--train",
            "40",
            "--heldout",
            "5",
            "--seed",
            "3",
        ]);
        run_well(&[
            "dataset",
            "pack",
            "--records",
            &path("drawn/instruct.json"),
            "--images",
            &path("drawn"),
            "--tokenizer",
            &path("drawn/tokenizer.json"),
            "--sequence-tokens",
            "256",
            "--shard-bytes",
            "65536",
            "--name",
            "instruct",
            "--out",
            &path("packed"),
        ]);
        fs::write(world.path("terms.toml"), terms).expect("the terms are written");
        run_well(&[
            "run",
            "init",
            "--dir",
            &path("run"),
            "--terms",
            &path("terms.toml"),
            "--dataset",
            &path("packed/instruct.manifest"),
            "--tokenizer",
            &path("drawn/tokenizer.json"),
        ]);
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start_with(&self, mut program: Command, name: &str, arguments: &[String]) -> Process {
        let log = self.path(&format!("{name}.log"));
        let file = fs::OpenOptions::new().create(true).append(true).open(&log).expect("a log file");
        let child = program
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a log file"))
            .stderr(file)
            .spawn()
            .expect("the program starts");
        Process { child, log }
    }

    /// Starts the coordinator, always on the same port, and waits for its join link.
    pub(crate) fn coordinator(&self) -> Process {
        self.coordinator_from(talkoot(), self.port, &[])
    }

    /// As [`World::coordinator`], with more arguments.
    pub(crate) fn coordinator_with(&self, more: &[&str]) -> Process {
        self.coordinator_from(talkoot(), self.port, more)
    }

    /// Starts it on another port and with a clock that is off by so much.
    pub(crate) fn moved_coordinator(&self, off: &str) -> Process {
        self.coordinator_from(talkoot_with_clock(off), free_port(), &[])
    }

    fn coordinator_from(&self, program: Command, port: u16, more: &[&str]) -> Process {
        let link = self.path("run/link.txt");
        let _ = fs::remove_file(&link);
        let mut arguments = [
            "coordinator",
            "--dir",
            &self.path("run").display().to_string(),
            "--listen",
            &format!("127.0.0.1:{port}"),
            "--bulk-listen",
            "127.0.0.1:0",
        ]
        .map(str::to_owned)
        .to_vec();
        arguments.extend(more.iter().map(|&text| text.to_owned()));
        let process = self.start_with(program, "coordinator", &arguments);
        self.wait_until("the join link", || link.exists());
        process
    }

    /// Starts a member: `role` is `node` or `verifier`.
    pub(crate) fn member(&self, role: &str, name: &str, more: &[&str]) -> Process {
        self.member_from(talkoot(), role, name, more)
    }

    /// Starts a member whose clock is off by so much.
    pub(crate) fn member_with_clock(&self, role: &str, name: &str, off: &str) -> Process {
        self.member_from(talkoot_with_clock(off), role, name, &[])
    }

    fn member_from(&self, program: Command, role: &str, name: &str, more: &[&str]) -> Process {
        let mut arguments = [
            role,
            "--dir",
            &self.path(name).display().to_string(),
            "--join",
            &format!("@{}", self.path("run/link.txt").display()),
            "--listen",
            "127.0.0.1:0",
            "--bulk-listen",
            "127.0.0.1:0",
        ]
        .map(str::to_owned)
        .to_vec();
        arguments.extend(more.iter().map(|&text| text.to_owned()));
        self.start_with(program, name, &arguments)
    }

    /// Starts the witness in the folder `name`, whose key was made before, for the run's log.
    pub(crate) fn witness(&self, name: &str, port: u16) -> Process {
        let dir = self.path(name).display().to_string();
        let log = format!("@{}", self.path("run/ledger/log.vkey").display());
        let listen = format!("127.0.0.1:{port}");
        let arguments = ["witness", "serve", "--dir", &dir, "--listen", &listen, "--log", &log];
        let ready = self.path(name).join("address.txt");
        let _ = fs::remove_file(&ready);
        let process = self.start_with(talkoot(), name, &arguments.map(str::to_owned));
        self.wait_until("the witness", || ready.exists());
        process
    }

    /// The run's state, from the ledger's files.
    pub(crate) fn state(&self) -> RunState {
        let dir = self.path("run/ledger");
        let key: VerifierKey =
            fs::read_to_string(dir.join("log.vkey")).expect("a key").trim().parse().expect("a key");
        // The coordinator may be writing at this very moment: look again.
        for _ in 0..50 {
            let mut entries = Vec::new();
            if reader::replay(&Folder::new(&dir), &key, |_, entry| entries.push(entry.to_vec())).is_ok() {
                let mut state = RunState::begin(&entries[0]).expect("the manifest is valid");
                for entry in &entries[1..] {
                    state.apply(entry).expect("the ledger keeps the rules");
                }
                return state;
            }
            std::thread::sleep(LOOK);
        }
        panic!("the ledger in {} cannot be read", dir.display());
    }

    /// Waits until the run's state is as wished.
    pub(crate) fn wait_for(&self, what: &str, wish: impl Fn(&RunState) -> bool) -> RunState {
        let mut last = self.state();
        self.wait_until(what, || {
            last = self.state();
            wish(&last)
        });
        last
    }

    /// Waits for something. There is no limit but the patience of whoever runs the tests; what a process last said
    /// is printed now and then, so that a hang can be understood.
    pub(crate) fn wait_until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        for look in 1u32.. {
            if holds() {
                return;
            }
            std::thread::sleep(LOOK);
            if look % 300 == 0 {
                eprintln!("still waiting for {what} in {}", self.folder.path().display());
                for entry in fs::read_dir(self.folder.path()).into_iter().flatten().flatten() {
                    if entry.path().extension().is_some_and(|extension| extension == "log") {
                        let text = fs::read_to_string(entry.path()).unwrap_or_default();
                        eprintln!("  {}: {}", entry.path().display(), text.lines().last().unwrap_or(""));
                    }
                }
            }
        }
    }

    /// Waits for the end of the run.
    pub(crate) fn wait_for_the_end(&self) -> RunState {
        self.wait_for("the end of the run", |state| state.phase() == Phase::Ended)
    }

    /// The public key of a member's folder.
    pub(crate) fn id_of(&self, name: &str, key: &str) -> MemberId {
        talkoot_network::keyfile::load(&self.path(name).join("keys").join(key)).expect("a key").id()
    }

    /// Audits the run; returns exit code and report.
    pub(crate) fn audit(&self, replay: &str) -> (Option<i32>, String) {
        let output = run(&["audit", &self.path("run").display().to_string(), "--replay", replay]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), text + &String::from_utf8_lossy(&output.stderr))
    }
}

/// How many training members are active.
pub(crate) fn trainers(state: &RunState) -> usize {
    state.active(Role::Trainer).count()
}

/// A UDP port of the loopback that nobody uses at the moment.
pub(crate) fn free_port() -> u16 {
    std::net::UdpSocket::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port()
}

/// Reads a JSON file.
pub(crate) fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path).expect("a file")).expect("JSON")
}

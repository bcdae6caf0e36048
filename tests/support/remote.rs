//! Network members in processes of their own, spoken to line by line: what a test of routers and lines moves about.
//!
//! The process is the test binary itself, which runs [`serve`] when [`ROLE`] is set.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use talkoot_network::{BlobStore, NetworkConfig, NetworkEvent};
use talkoot_protocol::{digest::BlobRef, identity::Keypair};

/// Set in the member's process: seed, addresses to listen on, whether it is a seeder and looks around, whom to meet, folder.
const ROLE: &str = "TALKOOT_TEST_REMOTE";
/// Starts every line that the member says.
const SAYS: &str = "member-says ";
/// After this long without an answer the test fails; nothing that is tested takes so long.
const GIVE_UP: Duration = Duration::from_secs(120);

/// A member in a process of its own; killed when it is dropped.
pub(crate) struct Remote {
    child: Child,
    input: ChildStdin,
    lines: mpsc::Receiver<String>,
    /// Its control addresses.
    pub(crate) addresses: Vec<String>,
}

/// How a member is started.
pub(crate) struct Start<'a> {
    pub(crate) seed: u8,
    pub(crate) dir: &'a Path,
    /// Control and bulk.
    pub(crate) listen: [&'a str; 2],
    pub(crate) seeder: bool,
    pub(crate) lan: bool,
    pub(crate) meet: &'a [String],
}

impl Remote {
    /// Starts the process with `command`, which begins what is to be run: this very program, perhaps elsewhere. `test` is the
    /// name of the test that calls [`serve`].
    pub(crate) fn start(mut command: Command, test: &str, start: &Start<'_>) -> Self {
        let Start { seed, dir, listen: [control, bulk], seeder, lan, meet } = start;
        let role = format!("{seed} {control} {bulk} {seeder} {lan} {} {}", meet.join(","), dir.display());
        let mut child = command
            .args(["--exact", test, "--nocapture", "--test-threads", "1"])
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the member starts");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if let Some((_, said)) = line.split_once(SAYS)
                    && sender.send(said.to_owned()).is_err()
                {
                    return;
                }
            }
        });
        let input = child.stdin.take().expect("its input");
        let mut remote = Self { child, input, lines, addresses: Vec::new() };
        remote.addresses = remote.hear().split(' ').map(str::to_owned).collect();
        remote
    }

    fn hear(&self) -> String {
        self.lines.recv_timeout(GIVE_UP).expect("the member answers")
    }

    /// Asks for something and waits for the answer.
    pub(crate) fn ask(&mut self, what: &str) -> String {
        writeln!(self.input, "{what}").expect("the member listens");
        self.hear()
    }

    /// Makes a blob of so many bytes; returns its name.
    pub(crate) fn put(&mut self, bytes: u64) -> String {
        self.ask(&format!("put {bytes}"))
    }

    /// Fetches a blob, however long it takes.
    pub(crate) fn fetch(&mut self, blob: &str) {
        assert_eq!(self.ask(&format!("fetch {blob}")), "fetched");
    }

    /// How it is reached and reaches others: reachability, peers, relays, punched, unreachable.
    pub(crate) fn status(&mut self) -> Vec<String> {
        self.ask("status").split(' ').map(str::to_owned).collect()
    }

    /// Bytes sent and received on the bulk plane.
    pub(crate) fn bulk_bytes(&mut self) -> (u64, u64) {
        let said = self.ask("bytes");
        let (sent, received) = said.split_once(' ').expect("two numbers");
        (sent.parse().expect("a number"), received.parse().expect("a number"))
    }

    /// Waits until its status is as wished.
    pub(crate) fn wait_until(&mut self, what: &str, holds: impl Fn(&[String]) -> bool) {
        let begin = std::time::Instant::now();
        loop {
            let status = self.status();
            if holds(&status) {
                return;
            }
            assert!(begin.elapsed() < GIVE_UP, "{what} does not come about: {status:?}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn say(text: &str) {
    // not by `println!`, which a test's harness would catch
    let mut out = std::io::stdout();
    let _ = writeln!(out, "\n{SAYS}{text}").and_then(|()| out.flush()); // an error is a test that has gone
}

/// The member's process: returns at once unless [`ROLE`] is set.
pub(crate) fn serve() {
    let Ok(role) = std::env::var(ROLE) else { return };
    if std::env::var_os("TALKOOT_TEST_LOG").is_some() {
        tracing_subscriber::fmt()
            .with_writer(std::io::stderr)
            .with_env_filter(std::env::var("TALKOOT_TEST_LOG").unwrap_or_default())
            .init();
    }
    let mut words = role.splitn(7, ' ');
    let mut word = || words.next().expect("a word of the role").to_owned();
    let (seed, control, bulk, seeder) = (word(), word(), word(), word());
    let (lan, meet, dir) = (word(), word(), word());
    let seed: u8 = seed.parse().expect("a seed");
    let config = NetworkConfig {
        control_listen: control.parse().expect("an address"),
        bulk_listen: bulk.parse().expect("an address"),
        bootstrap: meet.split(',').filter(|text| !text.is_empty()).map(str::to_owned).collect(),
        line: talkoot_network::Line { seeder: seeder == "true", ..talkoot_network::Line::default() },
        lan: lan == "true",
        ..NetworkConfig::default()
    };
    // quiet unless RUST_LOG asks for it
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init();
    let store = BlobStore::open(Path::new(&dir)).expect("a store");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async move {
        let key = Keypair::from_seed([seed; 32]);
        let (network, mut events) =
            talkoot_network::start(config, &key, store.clone()).await.expect("a network");
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if let NetworkEvent::Request { body, reply, .. } = event {
                    reply.send(body);
                }
            }
        });
        say(&network.control_addresses().join(" "));
        let (sender, mut asked) = tokio::sync::mpsc::channel(8);
        std::thread::spawn(move || {
            for line in std::io::stdin().lines().map_while(Result::ok) {
                if sender.blocking_send(line).is_err() {
                    return;
                }
            }
        });
        while let Some(line) = asked.recv().await {
            match line.split_once(' ').unwrap_or((&line, "")) {
                ("put", bytes) => {
                    let bytes: usize = bytes.parse().expect("a number");
                    let content: Vec<u8> =
                        (0..bytes).map(|i| (i.wrapping_mul(i + usize::from(seed)) >> 7) as u8).collect();
                    say(&store.put(&content).expect("a blob").to_string());
                }
                ("fetch", blob) => {
                    let blob: BlobRef = blob.parse().expect("a blob's name");
                    network.fetch(blob).await.expect("the blob comes");
                    assert!(store.read(&blob.digest, blob.bytes).is_ok());
                    say("fetched");
                }
                ("bytes", _) => {
                    let traffic = network.bytes();
                    say(&format!("{} {}", traffic.bulk_sent, traffic.bulk_received));
                }
                ("status", _) => {
                    let (reach, ways) = (*network.reach().borrow(), network.ways().borrow().clone());
                    say(&format!(
                        "{} {} {} {} {}",
                        reach.reachability,
                        network.connected().len(),
                        reach.relays,
                        ways.punched.len(),
                        ways.unreachable.len()
                    ));
                }
                other => panic!("{other:?} is nothing that a member does"),
            }
        }
    });
}

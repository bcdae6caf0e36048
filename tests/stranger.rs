//! A stranger's audit over HTTP: a finished run behind a real web server, and servers that lie.

mod support;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use support::{TERMS, World, run};
use talkoot_ledger::{Folder, Log, reader};
use talkoot_network::keyfile;
use talkoot_protocol::run::RunState;

/// Python's own web server over a folder, in a process of its own.
struct WebServer {
    child: Child,
    url: String,
}

impl WebServer {
    /// None where there is no Python.
    fn start(dir: &Path) -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
        let child = Command::new("python3")
            .args(["-m", "http.server", "--bind", "127.0.0.1", &port.to_string(), "--directory"])
            .arg(dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(Self { child, url: format!("http://127.0.0.1:{port}") })
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that gives the same answer to everybody, whatever they ask.
fn lying_server(answer: &'static [u8], again: &'static [u8], times: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 4096];
            let _asked = stream.read(&mut request).unwrap_or(0);
            let _ = stream.write_all(answer);
            for _ in 0..times {
                if stream.write_all(again).is_err() {
                    break;
                }
            }
        }
    });
    url
}

fn audit(arguments: &[&str]) -> (Option<i32>, String) {
    let output = run(&[&["audit", "--seed", "1"], arguments].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code(), text + &String::from_utf8_lossy(&output.stderr))
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().expect("cp runs").success());
}

/// Changes a byte in the middle of a file, runs `look`, and puts the file back.
fn with_damage(path: &Path, look: impl FnOnce()) {
    let good = fs::read(path).expect("the file");
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    fs::write(path, bad).expect("the damage is done");
    look();
    fs::write(path, good).expect("the damage is mended");
}

/// What a run's operator would put behind a web server: no keys.
fn public_copy(world: &World) -> PathBuf {
    let public = world.path("public");
    fs::create_dir_all(public.join("store")).expect("a folder");
    copy(&world.path("run/ledger"), &public.join("ledger"));
    copy(&world.path("run/store/blobs"), &public.join("store/blobs"));
    public
}

#[test]
fn a_stranger_audits_a_run_over_http_and_tampering_is_refused_for_the_right_reason() {
    let world = World::new(&TERMS.replace("rounds = 5", "rounds = 3"));
    let processes =
        [world.coordinator(), world.member("node", "node", &[]), world.member("verifier", "verifier", &[])];
    let state = world.wait_for_the_end();
    for process in processes {
        assert!(process.wait());
    }
    let public = public_copy(&world);
    let Some(server) = WebServer::start(&public) else {
        return eprintln!("SKIPPED: there is no python3 here to serve files over HTTP");
    };
    let (url, key) = (server.url.clone(), format!("@{}", world.path("run/ledger/log.vkey").display()));
    let everything =
        |more: &[&str]| audit(&[&[url.as_str(), "--key", &key, "--replay", "all"], more].concat());

    let (code, report) = everything(&[]);
    assert_eq!(code, Some(0), "{report}");
    // the first of them always can be; the others only where a verifier drew them, as their buffers are archived then
    assert!(!report.contains("training  0 contributions"), "{report}");
    assert!(report.contains("contributions executed again"), "{report}");
    assert!(report.contains("3 aggregations computed again"), "{report}");
    assert!(report.contains("a web server cannot list them"), "what was not checked is said: {report}");
    assert!(report.contains("old by the operator's clock"), "the age is named: {report}");
    // the log alone, at its own address, with the blobs elsewhere, and an address with a slash at its end
    let (log, blobs) = (format!("{url}/ledger/"), format!("{url}/store/blobs"));
    let (code, report) = audit(&[&log, "--key", &key, "--blobs", &blobs, "--replay", "0"]);
    assert_eq!(code, Some(0), "{report}");

    tampered_files(&world, &public, &state, &everything);
    checkpoints_from_elsewhere(&world, &url, &key);
    drop(server);
    let (code, report) = audit(&[url.as_str(), "--key", &key]);
    assert!(code == Some(2) && report.contains("inconclusive: looking for the log"), "{report}");
}

/// An audit with more arguments: its exit code, and what it says.
type Auditing<'a> = dyn Fn(&[&str]) -> (Option<i32>, String) + 'a;

fn tampered_files(world: &World, public: &Path, state: &RunState, everything: &Auditing<'_>) {
    let file = |under: &str| -> PathBuf {
        let dir = public.join("ledger").join(under);
        let mut files: Vec<_> =
            fs::read_dir(&dir).expect("a folder").map(|item| item.expect("a file").path()).collect();
        files.sort();
        files.pop().expect("a file")
    };
    let partial = |under: &str| {
        let size = state.size();
        let path = file(under);
        // `000.p/<width>` for a small log
        let wide = path.join(size.to_string());
        if wide.exists() { wide } else { path }
    };
    with_damage(&partial("tile/entries"), || {
        let (code, report) = everything(&[]);
        assert!(code == Some(1), "{report}");
        assert!(report.contains("is not the one in the tree") || report.contains("bundle"), "{report}");
    });
    with_damage(&partial("tile/0"), || {
        let (code, report) = everything(&[]);
        assert!(
            code == Some(1) && report.contains("differs from what the signed root stands for"),
            "{report}"
        );
    });
    with_damage(&public.join("ledger/checkpoint"), || {
        let (code, report) = everything(&[]);
        assert!(code == Some(1) && report.contains("LIE       the log: checkpoint:"), "{report}");
    });
    // a blob: whoever serves it may have damaged it, so nobody is accused
    let round = state.round().expect("the last round");
    let (_, record) = round.included()[0];
    let blob = public.join("store/blobs").join(record.commit.contribution.digest.to_string());
    with_damage(&blob, || {
        let (code, report) = everything(&[]);
        let named = format!("{} is damaged", record.commit.contribution.digest);
        assert!(code == Some(2) && report.contains(&named), "{report}");
    });
    let good = fs::read(&blob).expect("the blob");
    fs::write(&blob, [good.as_slice(), b"and more"].concat()).expect("a longer blob");
    let (code, report) = everything(&[]);
    assert!(code == Some(2) && report.contains("the server offers"), "{report}");
    fs::remove_file(&blob).expect("the blob goes");
    let (code, report) = everything(&[]);
    let named = format!("{} is missing", record.commit.contribution.digest);
    assert!(code == Some(2) && report.contains(&named), "{report}");
    // another place that has it makes it whole again
    let (here, there) = (public.join("store/blobs"), world.path("run/store/blobs"));
    let both = [here, there].map(|path| path.display().to_string());
    let (code, report) = everything(&["--blobs", &both[0], "--blobs", &both[1]]);
    assert_eq!(code, Some(0), "{report}");
    fs::write(&blob, good).expect("the blob is back");
    let (code, report) = everything(&["--most-gib", "0.00000001"]);
    assert!(code == Some(2) && report.contains("more may be fetched"), "{report}");
}

/// What others were shown, and what this auditor was shown before.
fn checkpoints_from_elsewhere(world: &World, url: &str, key: &str) {
    let member = world.path("node/ledger").display().to_string();
    let trail = world.path("trail").display().to_string();
    let look =
        |more: &[&str]| audit(&[&[url, "--key", key, "--replay", "0", "--trail", &trail], more].concat());
    let (code, report) = look(&["--seen", &member]);
    assert!(code == Some(0) && report.contains("it continues 1 checkpoints from elsewhere"), "{report}");
    let (code, report) = look(&["--seen", &member]);
    assert!(
        code == Some(0) && report.contains("it continues 2 checkpoints from elsewhere"),
        "the trail: {report}"
    );

    // the operator's key under another history, small and large
    let log_key = keyfile::load(&world.path("run/keys/log.key")).expect("the log's key");
    let vkey =
        fs::read_to_string(world.path("run/ledger/log.vkey")).expect("a key").trim().parse().expect("a key");
    let shown = reader::current(&Folder::new(world.path("run/ledger")), &vkey).expect("a checkpoint");
    for (name, entries) in [("small", 3), ("large", shown.checkpoint.size + 5)] {
        let dir = world.path(name);
        let mut other =
            Log::create(&dir, &shown.checkpoint.origin, &log_key.seed()).expect("another history");
        let entries: Vec<Vec<u8>> = (0..entries).map(|n| n.to_le_bytes().to_vec()).collect();
        other.append(&entries).expect("it is signed");
        let note = world.path(&format!("{name}.note"));
        fs::write(&note, other.checkpoint_note()).expect("the note");
        let (code, report) = look(&["--seen", &note.display().to_string()]);
        if name == "small" {
            assert!(code == Some(1) && report.contains("equivocation at size 3"), "{report}");
        } else {
            assert!(
                code == Some(2) && report.contains("this is an old copy or the log is kept back"),
                "{report}"
            );
        }
    }
    let (code, report) = look(&["--seen", &world.path("terms.toml").display().to_string()]);
    assert!(code == Some(2) && report.contains("the checkpoint from"), "{report}");
}

/// The log alone, and an old copy of it, while the run goes on: its members have the rest.
#[test]
fn members_lend_an_auditor_the_blobs_that_it_lacks_and_tell_it_that_its_copy_is_old() {
    // everything is checked, so that every buffer that a replay begins with is archived
    let terms = TERMS.replace("rounds = 5", "rounds = 100000").replace("rate = 0.5", "rate = 1.0");
    let world = World::new(&terms);
    let _processes =
        [world.coordinator(), world.member("node", "node", &[]), world.member("verifier", "verifier", &[])];
    let round = |state: &RunState, at: u64| state.round().is_some_and(|round| round.open.round >= at);
    world.wait_for("some rounds", |state| round(state, 3));
    let old = world.path("old");
    fs::create_dir_all(&old).expect("a folder");
    // what is signed is there before its checkpoint, and stays: the checkpoint first is a whole copy
    let checkpoint = fs::read(world.path("run/ledger/checkpoint")).expect("a checkpoint");
    copy(&world.path("run/ledger"), &old.join("ledger"));
    fs::write(old.join("ledger/checkpoint"), checkpoint).expect("an older checkpoint");
    world.wait_for("another round", |state| round(state, 5));

    let link = format!("@{}", world.path("run/link.txt").display());
    // the log as it grows, and no blobs
    let bare = world.path("bare");
    fs::create_dir_all(bare.join("store/blobs")).expect("a folder");
    std::os::unix::fs::symlink(world.path("run/ledger"), bare.join("ledger")).expect("a link");
    let bare = bare.display().to_string();
    let (code, alone) = audit(&[&bare, "--replay", "all"]);
    assert_eq!(code, Some(2), "a log without blobs shows little: {alone}");
    assert!(alone.contains("weights   0 aggregations"), "{alone}");
    let (code, report) = audit(&[&bare, "--replay", "all", "--peers", &link]);
    assert!(report.contains("it continues") && report.contains("checkpoints from elsewhere"), "{report}");
    assert!(!report.contains("weights   0 aggregations"), "{report}");
    assert!(!report.contains("training  0 contributions"), "{report}");
    assert_ne!(code, Some(1), "nobody lied: {report}");

    let (code, report) = audit(&[&old.display().to_string(), "--replay", "0", "--peers", &link]);
    assert_eq!(code, Some(2), "{report}");
    assert!(report.contains("this is an old copy or the log is kept back"), "{report}");
    assert!(report.contains("member "), "and who was shown more: {report}");
}

#[test]
fn servers_that_misbehave_are_left_and_named() {
    let elsewhere = lying_server(
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        b"",
        0,
    );
    let (code, report) = audit(&[&elsewhere]);
    assert!(code == Some(2) && report.contains("sends us elsewhere (302)"), "{report}");
    let broken = lying_server(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", b"", 0);
    let (code, report) = audit(&[&broken]);
    assert!(code == Some(2) && report.contains("the server answers 500"), "{report}");
    // never-ending answers: no more is read than a checkpoint may have
    let endless = lying_server(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", &[b'x'; 65_536], 1_000_000);
    let (code, report) = audit(&[&endless, "--key", "logs.example.org/run+00000000+AA=="]);
    assert!(code == Some(2) || code == Some(1), "{report}");
    assert!(!report.contains("panicked"), "{report}");
    let (code, report) = audit(&["ftp://127.0.0.1/run"]);
    assert!(code == Some(2) && report.contains("http:// or https://"), "{report}");
    let (code, report) = audit(&["no-such-folder"]);
    assert!(code == Some(2) && report.contains("no-such-folder holds no run"), "{report}");
}

//! Logs and witnesses over real HTTP on the loopback.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
};

use talkoot_ledger::{
    AddCheckpoint, Folder, Log, Policy, SignerKey, VerifierKey, Witness, reader, witness::MAX_REQUEST_BYTES,
};
use talkoot_witness::{HttpLog, Limits, Panel, ServeError, Trouble, WitnessClient, serve};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const ORIGIN: &str = "logs.example.org/run/1";
const SEED: [u8; 32] = [1; 32];

fn log_key() -> VerifierKey {
    SignerKey::log(ORIGIN, &SEED).unwrap().verifier()
}

fn key(n: u8) -> SignerKey {
    SignerKey::cosigner(&format!("w{n}.example.org"), &[n; 32]).unwrap()
}

/// A witness that serves until it is dropped.
struct Serving {
    url: String,
    cancel: CancellationToken,
    thread: Option<JoinHandle<Result<(), ServeError>>>,
}

impl Serving {
    fn start(dir: &Path, n: u8, listen: &str, limits: Limits) -> Self {
        let witness = Witness::open(dir, key(n), &[log_key()]).unwrap();
        let cancel = CancellationToken::new();
        let (token, (sender, address)) = (cancel.clone(), std::sync::mpsc::channel::<SocketAddr>());
        let listen = listen.to_owned();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::bind(listen).await.unwrap();
                sender.send(listener.local_addr().unwrap()).unwrap();
                serve(listener, witness, limits, token).await
            })
        });
        let url = format!("http://{}", address.recv().unwrap());
        Self { url, cancel, thread: Some(thread) }
    }

    fn address(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }

    fn stop(mut self) -> Result<(), ServeError> {
        self.cancel.cancel();
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.cancel.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct World {
    home: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn witness(&self, n: u8) -> Serving {
        Serving::start(&self.path(&format!("w{n}")), n, "127.0.0.1:0", Limits::default())
    }

    fn log(&self, name: &str) -> Log {
        Log::open_or_create(&self.path(name), ORIGIN, &SEED).unwrap()
    }
}

fn entries(what: &str, from: u64, to: u64) -> Vec<Vec<u8>> {
    (from..to).map(|i| format!("{what} {i}").into_bytes()).collect()
}

/// Two of the witnesses 1 to 3, at these addresses.
fn two_of_three(urls: [&str; 3]) -> Policy {
    let lines: String =
        (1..=3).zip(urls).map(|(n, url)| format!("witness w{n} {} {url}\n", key(n).verifier())).collect();
    format!("{lines}group g 2 w1 w2 w3\nquorum g\n").parse().unwrap()
}

/// An answer's status, headers and body.
fn raw(address: &str, request: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    // a server that has answered already may have closed its side
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, text)
}

fn post(address: &str, body: &[u8]) -> (u16, String) {
    let head = format!(
        "POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    raw(address, &[head.as_bytes(), body].concat())
}

#[test]
fn a_quorum_is_collected_and_one_missing_witness_is_no_harm() {
    let world = World::new();
    let (one, two) = (world.witness(1), world.witness(2));
    // nobody listens there
    let policy = two_of_three([&one.url, &two.url, "http://127.0.0.1:1"]);
    let panel = Panel::new(policy.clone(), log_key()).unwrap();
    let mut log = world.log("log");
    for size in [1, 255, 257, 700] {
        let signed = log.sign(&entries("entry", log.size(), size)).unwrap().clone();
        let cosigned = panel.cosign(log.folder(), &signed).unwrap();
        log.publish(&cosigned.note).unwrap();
        assert!(cosigned.troubles.iter().all(|(name, _)| name == "w3"), "{:?}", cosigned.troubles);
        let witnessed = policy.verify(log.checkpoint_note().as_bytes(), &log.vkey()).unwrap();
        assert!(witnessed.cosignatures.len() >= 2);
        assert_eq!(witnessed.signed.checkpoint.size, size);
    }
    // asked again, the same witnesses are there once each
    let again = panel.cosign(log.folder(), log.checkpoint()).unwrap();
    log.publish(&again.note).unwrap();
    assert_eq!(again.note.matches("\n\u{2014} w1.example.org ").count(), 1, "{}", again.note);
}

#[test]
fn without_a_quorum_each_witness_is_named_with_its_trouble() {
    let world = World::new();
    let (one, stranger) = (world.witness(1), world.witness(9));
    let panel = Panel::new(two_of_three([&one.url, &stranger.url, "http://127.0.0.1:1"]), log_key()).unwrap();
    let mut log = world.log("log");
    let signed = log.sign(&entries("entry", 0, 3)).unwrap().clone();
    let refused = panel.cosign(log.folder(), &signed).unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("the policy demands `g`, and 1 of its 3 witnesses cosigned (w1)"), "{text}");
    let trouble = |name: &str| &refused.troubles.iter().find(|(of, _)| of == name).unwrap().1;
    assert!(matches!(trouble("w3"), Trouble::Unreachable { .. }), "{text}");
    assert!(
        matches!(trouble("w2"), Trouble::BadAnswer { reason } if reason.contains("no cosignature by w2")),
        "{text}"
    );
    assert_eq!(log.size(), 0, "nothing is published");
}

#[test]
fn a_restored_copy_is_told_by_its_witness() {
    let world = World::new();
    let witness = world.witness(1);
    let client = |url: &str| WitnessClient::new(key(1).verifier(), url).unwrap();
    let mut log = world.log("log");
    log.append(&entries("entry", 0, 5)).unwrap();
    let old = log.checkpoint().clone();
    log.append(&entries("entry", 5, 9)).unwrap();
    client(&witness.url).cosign(log.folder(), log.checkpoint()).unwrap();
    // the size that it tells leads to the right proof, whatever was believed before
    log.append(&entries("entry", 9, 300)).unwrap();
    client(&witness.url).cosign(log.folder(), log.checkpoint()).unwrap();
    let trouble = client(&witness.url).cosign(log.folder(), &old).unwrap_err();
    assert!(matches!(trouble, Trouble::Ahead { seen: 300, ours: 5 }), "{trouble}");
    assert!(trouble.to_string().contains("may be an old copy"), "{trouble}");
    // and another future of that copy gets no cosignature at all
    let mut fork = world.log("fork");
    fork.append(&entries("another", 0, 300)).unwrap();
    let trouble = client(&witness.url).cosign(fork.folder(), fork.checkpoint()).unwrap_err();
    assert!(matches!(&trouble, Trouble::OtherHistory { status: 409, .. }), "{trouble}");
    fork.append(&entries("another", 300, 400)).unwrap();
    let trouble = client(&witness.url).cosign(fork.folder(), fork.checkpoint()).unwrap_err();
    assert!(matches!(&trouble, Trouble::OtherHistory { status: 422, .. }), "{trouble}");
}

#[test]
fn a_witness_that_was_away_goes_on_where_it_was() {
    let world = World::new();
    let witness = world.witness(1);
    let address = witness.address().to_owned();
    let client = WitnessClient::new(key(1).verifier(), &witness.url).unwrap();
    let mut log = world.log("log");
    log.append(&entries("entry", 0, 5)).unwrap();
    client.cosign(log.folder(), log.checkpoint()).unwrap();
    witness.stop().unwrap();
    log.append(&entries("entry", 5, 9)).unwrap();
    assert!(matches!(client.cosign(log.folder(), log.checkpoint()), Err(Trouble::Unreachable { .. })));
    let witness = Serving::start(&world.path("w1"), 1, &address, Limits::default());
    client.cosign(log.folder(), log.checkpoint()).unwrap();
    let (status, said) = post(witness.address(), format!("old 3\n\n{}", log.checkpoint_note()).as_bytes());
    assert_eq!(status, 409);
    assert!(
        said.to_lowercase().contains("content-type: text/x.tlog.size") && said.ends_with("\r\n\r\n9\n"),
        "{said}"
    );
}

#[test]
fn strangers_get_the_status_that_the_protocol_names() {
    let world = World::new();
    let witness = world.witness(1);
    let mut log = world.log("log");
    log.append(&entries("entry", 0, 5)).unwrap();
    let good = AddCheckpoint { old: 0, proof: Vec::new(), note: log.checkpoint_note() }.to_string();
    let elsewhere = Log::create(&world.path("other"), "other.example.org", &[2; 32]).unwrap();
    let rows = [
        (good.replacen("old 0", "old 00", 1), 400, "plain decimal"),
        (good.replacen("\n5\n", "\n4\n", 1), 403, "does not verify"),
        (format!("old 0\n\n{}", elsewhere.checkpoint_note()), 404, "unknown here"),
        (good.replacen("old 0", "old 6", 1), 400, "above the checkpoint"),
        (good.replacen("old 0\n", &format!("old 0\n{}\n", log.root()), 1), 422, "does not hold"),
        (good.clone(), 200, "\u{2014} w1.example.org "),
    ];
    for (body, status, reason) in rows {
        let (got, said) = post(witness.address(), body.as_bytes());
        assert_eq!(got, status, "{said}");
        assert!(said.contains(reason), "{said}");
    }
    let address = witness.address();
    let get = |path: &str| {
        raw(address, format!("GET {path} HTTP/1.1\r\nHost: w\r\nConnection: close\r\n\r\n").as_bytes())
    };
    assert_eq!(get("/add-checkpoint").0, 405);
    assert_eq!(get("/elsewhere").0, 404);
    assert!(get("/").1.contains(&key(1).verifier().to_string()));
    assert_eq!(raw(address, b"nonsense\r\n\r\n").0, 400);
}

#[test]
fn a_body_without_end_is_cut_off() {
    let world = World::new();
    let witness = world.witness(1);
    let body = vec![b'x'; MAX_REQUEST_BYTES + 1];
    let (status, said) = post(witness.address(), &body);
    assert_eq!(status, 400, "{said}");
    // nor does one that never says how long it is
    let mut chunked =
        b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..=MAX_REQUEST_BYTES / 0x1000 {
        chunked.extend_from_slice(b"1000\r\n");
        chunked.extend_from_slice(&[b'x'; 0x1000]);
        chunked.extend_from_slice(b"\r\n");
    }
    assert_eq!(raw(witness.address(), &chunked).0, 400);
    let head = format!("GET / HTTP/1.1\r\nHost: w\r\n{}\r\n", "X: y\r\n".repeat(100));
    assert_eq!(raw(witness.address(), head.as_bytes()).0, 431);
    let log = world.log("log");
    let client = WitnessClient::new(key(1).verifier(), &witness.url).unwrap();
    client.cosign(log.folder(), log.checkpoint()).unwrap();
}

#[test]
fn who_asks_too_often_waits() {
    let world = World::new();
    let limits = Limits { per_second: 1, burst: 3, ..Limits::default() };
    let witness = Serving::start(&world.path("w1"), 1, "127.0.0.1:0", limits);
    let mut statuses = (0..100).map(|_| post(witness.address(), b"nonsense").0);
    assert_eq!([(); 3].map(|()| statuses.next()), [Some(400); 3]);
    assert!(statuses.any(|status| status == 429));
}

/// Requests at once, of one history: each answered cosignature is of a checkpoint that the witness had, and it ends at the
/// largest one that it answered.
#[test]
fn requests_at_once_are_answered_one_after_another() {
    let world = World::new();
    let witness = world.witness(1);
    let mut log = world.log("log");
    let mut notes = Vec::new();
    for size in 1..=12 {
        notes.push(log.append(&entries("entry", size - 1, size)).unwrap());
    }
    let (folder, url) = (Arc::new(log.folder().clone()), witness.url.clone());
    let threads: Vec<_> = notes
        .into_iter()
        .map(|signed| {
            let (folder, url) = (Arc::clone(&folder), url.clone());
            std::thread::spawn(move || {
                let client = WitnessClient::new(key(1).verifier(), &url).unwrap();
                client.cosign(&*folder, &signed).is_ok().then_some(signed.checkpoint.size)
            })
        })
        .collect();
    let answered: Vec<u64> = threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect();
    let largest = *answered.iter().max().unwrap();
    witness.stop().unwrap();
    let again = Witness::open(&world.path("w1"), key(1), &[log_key()]).unwrap();
    assert_eq!(again.seen(ORIGIN), Some(largest), "{answered:?}");
}

#[test]
fn a_log_is_read_through_a_web_server() {
    let world = World::new();
    let mut log = world.log("log");
    log.append(&entries("entry", 0, 300)).unwrap();
    let folder = log.folder().clone();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/some/prefix/", listener.local_addr().unwrap());
    // the smallest static file server: it ends with the test
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 2_048];
            let got = stream.read(&mut head).unwrap();
            let request = String::from_utf8_lossy(&head[..got]).into_owned();
            let path = request.split(' ').nth(1).unwrap_or_default();
            let file = path.strip_prefix("/some/prefix/").unwrap_or("none");
            let found = talkoot_ledger::TileSource::read(&folder, file, 1 << 20).unwrap();
            let (status, body) = found.map_or(("404 Not Found", Vec::new()), |body| ("200 OK", body));
            let head =
                format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(&[head.as_bytes(), &body].concat());
        }
    });
    let source = HttpLog::new(&url).unwrap();
    let mut seen = Vec::new();
    let signed = reader::replay(&source, &log_key(), |_, entry| seen.push(entry.to_vec())).unwrap();
    assert_eq!(signed, *log.checkpoint());
    assert_eq!(seen, entries("entry", 0, 300));
    assert_eq!(reader::inclusion_proof(&source, &signed.checkpoint, 299).unwrap().len(), 5);
    let missing =
        reader::root_at(&HttpLog::new(&url.replace("some", "other")).unwrap(), &signed.checkpoint, 5);
    assert!(missing.unwrap_err().is_inconclusive());
    let folder = Folder::new(world.path("log"));
    assert_eq!(reader::current(&folder, &log_key()).unwrap(), signed);
    for bad in ["logs.example.org", "ftp://logs.example.org", "http://", "http://logs.example.org/?q=1"] {
        assert!(HttpLog::new(bad).is_err(), "{bad}");
    }
}

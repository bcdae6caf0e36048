//! What the integration tests share: a log to read, copies to spoil, and the outside judge.

#![allow(dead_code, reason = "each test file uses a part of this")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use talkoot_ledger::{Log, SignerKey, VerifierKey};

pub(crate) const ORIGIN: &str = "logs.example.org/run/1";
pub(crate) const SEED: [u8; 32] = [1; 32];

pub(crate) fn signer() -> SignerKey {
    SignerKey::log(ORIGIN, &SEED).unwrap()
}

pub(crate) fn vkey() -> VerifierKey {
    signer().verifier()
}

pub(crate) fn entries(from: u64, to: u64) -> Vec<Vec<u8>> {
    (from..to).map(|i| format!("entry {i}").into_bytes()).collect()
}

/// A log that signed each of `sizes`.
pub(crate) fn write_log(dir: &Path, sizes: &[u64]) {
    let mut log = Log::create(dir, ORIGIN, &SEED).unwrap();
    for &size in sizes {
        log.append(&entries(log.size(), size)).unwrap();
    }
}

/// A copy to spoil. Files are linked, not copied, for there are many: spoil them by [`put`] only.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for item in fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            copy(&item.path(), &target);
        } else {
            let _ = fs::remove_file(&target);
            fs::hard_link(item.path(), target).unwrap();
        }
    }
}

/// Writes a new file in the place of an old one.
pub(crate) fn put(path: &Path, bytes: impl AsRef<[u8]>) {
    let _ = fs::remove_file(path);
    fs::write(path, bytes).unwrap();
}

/// `tlogcheck`, built from its source beside the repository: Go's own checksum-database library reads our
/// files. `None`, said aloud, where there is no Go or no source.
pub(crate) fn judge() -> Option<&'static Path> {
    static JUDGE: OnceLock<Option<PathBuf>> = OnceLock::new();
    JUDGE.get_or_init(build_judge).as_deref()
}

fn build_judge() -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/judges/tlogcheck");
    if !source.join("main.go").exists() {
        eprintln!("SKIPPED: the outside judge, for there is no {}", source.display());
        return None;
    }
    // a name of its own for each test program: they may build at the same time
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tlogcheck-{}", std::process::id()));
    // Debian's packages of golang.org/x/mod and x/crypto lie in this tree
    let gopath = std::env::var("TLOGCHECK_GOPATH").unwrap_or_else(|_| "/usr/share/gocode".to_owned());
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(&source)
        .envs([("GO111MODULE", "off"), ("GOPATH", &gopath), ("GOFLAGS", "")])
        .output();
    match built {
        Ok(output) if output.status.success() => Some(program),
        Ok(output) => {
            eprintln!(
                "SKIPPED: the outside judge does not build: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            None
        }
        Err(error) => {
            eprintln!("SKIPPED: the outside judge, for go does not run: {error}");
            None
        }
    }
}

/// The judge's verdict on a log: what it prints, and whether it accepts. `None` without a judge.
pub(crate) fn judged(dir: &Path, vkey: &VerifierKey, with_history: bool) -> Option<Result<String, String>> {
    judged_with(dir, vkey, with_history, &[], 0)
}

/// As [`judged`], and so many of these witnesses have to have cosigned.
pub(crate) fn judged_with(
    dir: &Path,
    vkey: &VerifierKey,
    with_history: bool,
    witnesses: &[VerifierKey],
    quorum: usize,
) -> Option<Result<String, String>> {
    let mut command = Command::new(judge()?);
    command.arg("-dir").arg(dir).arg("-vkey").arg(vkey.to_string());
    for witness in witnesses {
        command.arg("-witness").arg(witness.to_string());
    }
    command.arg("-quorum").arg(quorum.to_string());
    if with_history {
        command.arg("-old").arg(dir.join("checkpoints/*"));
    }
    let output = command.output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Some(if output.status.success() && said.trim_end().ends_with("OK") { Ok(said) } else { Err(said) })
}

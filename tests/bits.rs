//! The same bits on every processor: threads, vectors, caches, and another processor under emulation.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

const TALKOOT: &str = env!("CARGO_BIN_EXE_talkoot");

fn bits(command: &mut Command) -> Output {
    command.args(["bench", "bits", "--json"]).output().unwrap()
}

/// Asserts that the command printed the hashes of the exact class, which it knows by heart.
fn exact(what: &str, output: &Output) {
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("\"exact\":true"),
        "{what}: {said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn any_number_of_threads_gives_the_bits_of_the_exact_class() {
    for threads in ["1", "2", "3"] {
        exact(threads, &bits(Command::new(TALKOOT).args(["--threads", threads])));
    }
}

#[test]
fn what_is_kept_for_backward_changes_no_bit() {
    let kept = Command::new(TALKOOT).args(["bench", "bits", "--json", "--no-checkpoint"]).output().unwrap();
    exact("everything kept", &kept);
}

#[test]
fn another_processor_under_emulation_gives_the_same_bits() {
    let Ok(found) = Command::new("qemu-x86_64").arg("--version").output() else {
        eprintln!("SKIPPED: qemu-x86_64 is not installed, so no other processor was tried");
        return;
    };
    assert!(found.status.success() && cfg!(target_arch = "x86_64"), "qemu-x86_64 --version");
    // AVX2 and FMA, no AVX-512, and other caches
    exact("Haswell", &bits(Command::new("qemu-x86_64").args(["-cpu", "Haswell", TALKOOT])));
}

#[test]
fn other_caches_give_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let system = Path::new("/sys/devices/system/cpu");
    if !system.join("cpu0/cache").is_dir() {
        eprintln!("SKIPPED: the kernel shows no caches in {}", system.display());
        return;
    }
    // a copy of what the kernel shows, with a first cache half as large again and a second one of a quarter
    let (copy, cpu) = (folder.path(), folder.path().join("cpu0"));
    for index in fs::read_dir(system.join("cpu0/cache")).unwrap() {
        let index = index.unwrap();
        if !index.file_type().unwrap().is_dir() {
            continue;
        }
        let to = cpu.join("cache").join(index.file_name());
        fs::create_dir_all(&to).unwrap();
        for file in fs::read_dir(index.path()).unwrap() {
            let file = file.unwrap();
            if let Ok(text) = fs::read_to_string(file.path()) {
                fs::write(to.join(file.file_name()), text).unwrap();
            }
        }
        let level = fs::read_to_string(to.join("level")).unwrap_or_default();
        let size = if level.trim() == "1" { "48K\n" } else { "256K\n" };
        fs::write(to.join("size"), size).unwrap();
    }
    for name in ["online", "possible", "present"] {
        fs::write(copy.join(name), "0\n").unwrap();
    }
    let script =
        format!("mount --bind '{}' {} && exec \"$0\" bench bits --json", copy.display(), system.display());
    let output = Command::new("unshare").args(["-m", "sh", "-c", &script, TALKOOT]).output();
    match output {
        Ok(output) if !output.stdout.is_empty() => exact("caches of 48 and 256 KiB", &output),
        _ => eprintln!("SKIPPED: showing other caches needs the right to mount in a namespace of one's own"),
    }
}

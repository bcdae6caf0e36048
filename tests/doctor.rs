//! What `talkoot doctor` says on a machine without a GPU, and that the program needs nothing of NVIDIA's to start.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::process::Command;

const TALKOOT: &str = env!("CARGO_BIN_EXE_talkoot");

fn said(arguments: &[&str]) -> (bool, String, String) {
    let output = Command::new(TALKOOT).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

/// Whether this machine has NVIDIA's driver: then what is missing cannot be tried.
fn has_driver() -> bool {
    let found = talkoot_cuda::device::survey().is_ok();
    if found {
        eprintln!("SKIPPED: this machine has an NVIDIA driver");
    }
    found
}

#[test]
fn without_a_driver_the_doctor_says_so_and_how_to_get_one() {
    if has_driver() {
        return;
    }
    let (fine, report, _) = said(&["doctor"]);
    assert!(fine && report.contains("trains on  the processor") && report.contains("driver 525"), "{report}");
    let (fine, json, _) = said(&["doctor", "--json", "--device", "cuda:1"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(fine && json["gpus"].as_array().unwrap().is_empty() && json["cuda_version"].is_null(), "{json}");
    assert_eq!(json["trains_on"], "the processor");
    assert!(json["no_gpu_because"].as_str().unwrap().contains("NVIDIA driver"), "{json}");
    assert!(
        json["free_disk_bytes"].as_u64().unwrap() > 0 && json["processor"]["threads"].as_u64().unwrap() > 0
    );
}

#[test]
fn a_gpu_that_was_asked_for_and_is_not_there_is_an_error_that_helps() {
    if has_driver() {
        return;
    }
    for arguments in [&["bench", "bits", "--device", "cuda"][..], &["bench", "device"]] {
        let (fine, _, error) = said(arguments);
        assert!(!fine && error.contains("no NVIDIA driver was found"), "{arguments:?}: {error}");
    }
    let (fine, _, error) = said(&["bench", "bits", "--device", "gpu"]);
    assert!(!fine && error.contains("choose auto, cpu, cuda"), "{error}");
}

#[test]
fn the_program_is_linked_to_nothing_of_nvidias() {
    let Ok(output) = Command::new("ldd").arg(TALKOOT).output() else {
        eprintln!("SKIPPED: ldd is not here");
        return;
    };
    let libraries = String::from_utf8_lossy(&output.stdout).to_lowercase();
    assert!(libraries.contains("libc"), "{libraries}");
    for name in ["cuda", "nvrtc", "cublas", "nvidia"] {
        assert!(!libraries.contains(name), "{name} in {libraries}");
    }
}

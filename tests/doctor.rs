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
    assert!(json["trains_with"].as_array().unwrap().is_empty() && json["not_alike"].is_null(), "{json}");
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
    for (device, expected) in [
        ("gpu", "choose auto, cpu, cuda"),
        ("cuda:1,1", "names GPU 1 twice"),
        ("cuda:0,1", "no NVIDIA driver was found"),
        ("cuda:all", "no NVIDIA driver was found"),
    ] {
        let (fine, _, error) = said(&["bench", "bits", "--device", device]);
        assert!(!fine && error.contains(expected), "{device}: {error}");
    }
    let (fine, _, error) = said(&["bench", "device", "--device", "cuda:0,1"]);
    assert!(!fine && error.contains("say cuda:N"), "{error}");
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

/// A library that calls itself the driver, made of this C; what the doctor says where it is found first. `None` where there
/// is no C compiler.
fn with_library(source: &str) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let (file, library) = (folder.path().join("driver.c"), folder.path().join("libcuda.so"));
    std::fs::write(&file, source).unwrap();
    let made = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&file).status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: there is no C compiler to make a library with");
        return None;
    }
    let output = Command::new(TALKOOT).arg("doctor").env("LD_LIBRARY_PATH", folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    Some(said)
}

/// Every function of the driver that the program looks for, each answering with this.
fn functions(answer: &str) -> String {
    let names = [
        "cuInit",
        "cuGetErrorName",
        "cuGetErrorString",
        "cuDeviceGet",
        "cuDeviceGetCount",
        "cuDeviceGetName",
        "cuDeviceGetAttribute",
        "cuDeviceTotalMem_v2",
        "cuDevicePrimaryCtxRetain",
        "cuDevicePrimaryCtxRelease_v2",
        "cuCtxSetCurrent",
        "cuCtxSynchronize",
        "cuMemAlloc_v2",
        "cuMemFree_v2",
        "cuMemcpyHtoD_v2",
        "cuMemcpyDtoH_v2",
        "cuMemsetD8_v2",
        "cuModuleLoadData",
        "cuMemGetInfo_v2",
        "cuModuleGetFunction",
        "cuFuncSetAttribute",
        "cuLaunchKernel",
    ];
    names.map(|name| format!("int {name}(void) {{ return {answer}; }}\n")).concat()
}

#[test]
fn a_library_that_is_no_driver_is_not_called() {
    let Some(said) = with_library("int cuInit(unsigned flags) { return 0; }\n") else { return };
    assert!(said.contains("lacks cuDriverGetVersion") && said.contains("trains on  the processor"), "{said}");
}

#[test]
fn a_driver_that_is_too_old_is_told_apart_from_none() {
    let version = "int cuDriverGetVersion(int *version) { *version = 11040; return 0; }\n";
    let Some(said) = with_library(&(functions("0") + version)) else { return };
    assert!(said.contains("for CUDA 11.4") && said.contains("driver 525"), "{said}");
    assert!(said.contains("update the driver") && said.contains("trains on  the processor"), "{said}");
}

#[test]
fn a_driver_without_a_gpu_says_so_in_its_own_words() {
    // CUDA_ERROR_NO_DEVICE; names of errors fail too, which must do no harm
    let version = "int cuDriverGetVersion(int *version) { *version = 12040; return 0; }\n";
    let Some(said) = with_library(&(functions("100") + version)) else { return };
    assert!(said.contains("gives no GPU") && said.contains("CUDA_ERROR_NO_DEVICE"), "{said}");
}

/// Stands for the program where there is no GPU: bits differ, one preset does not fit, one crashes.
const STANDS_FOR_A_GPU: &str = r#"#!/bin/sh
case "$*" in
*--speed*small*) echo '{"class":"fast","median_s":0.5,"tokens_per_s":16384.0,"model_flops":1.0e14,"gpu_bytes":1048576,"peak_flops":4.0e14}' ;;
*--speed*1b*) echo '{"failed":"1b, fast","why":"no room"}'; exit 1 ;;
*--speed*) echo "a panic" >&2; exit 101 ;;
*"bench bits"*) echo "other bits"; exit 1 ;;
*) echo fine ;;
esac
"#;

#[cfg(unix)]
#[test]
fn the_script_for_a_gpu_goes_on_behind_what_fails_and_says_it_in_its_table() {
    use std::{fs, os::unix::fs::PermissionsExt};
    let folder = tempfile::tempdir().unwrap();
    let (script, program) = (folder.path().join("check.sh"), folder.path().join("talkoot"));
    // elsewhere, so that it builds nothing
    fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/gpu/check.sh"), &script).unwrap();
    fs::write(&program, STANDS_FOR_A_GPU).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let output = Command::new("bash").arg(&script).arg("--talkoot").arg(&program).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let (_, table) = said.split_once("== checks").unwrap_or_else(|| panic!("{said}"));
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    let has = |row: &str| rows.iter().any(|found| found.join(" ") == row);
    for row in [
        "what is there ok",
        "bits FAILED: other bits",
        "every operation ok",
        "small, class fast 0.5000 16384.0 1 50.0 %",
        "1b, fast did not run: no room",
        "4b did not run: a panic",
    ] {
        assert!(has(row), "{row}: {table}");
    }
    assert_eq!(output.status.code(), Some(1));
}

//! The same work in Python, in the same command: what is compared was measured on the same machine in the same minute.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Runs a peer of `benches/peers` with one thread and reads the JSON object that it prints.
pub(super) fn run(python: &Path, script: &str, arguments: &[&Path]) -> Result<Value> {
    run_on(python, script, arguments, 1)
}

/// The same with so many threads.
pub(super) fn run_on(python: &Path, script: &str, arguments: &[&Path], threads: usize) -> Result<Value> {
    let script = Path::new("benches/peers").join(script);
    ensure!(
        script.is_file(),
        "{} is not here; run the benchmark from the root of the source",
        script.display()
    );
    let output = Command::new(python)
        .arg(&script)
        .args(arguments)
        .env("OMP_NUM_THREADS", threads.to_string())
        .env("OPENBLAS_NUM_THREADS", threads.to_string())
        .env("MKL_NUM_THREADS", threads.to_string())
        .output()
        .with_context(|| format!("starting {}", python.display()))?;
    ensure!(
        output.status.success(),
        "{} failed: {}",
        script.display(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    serde_json::from_slice(&output.stdout).with_context(|| format!("reading what {} says", script.display()))
}

/// A number that the peer tells.
pub(super) fn number(told: &Value, name: &str) -> Result<f64> {
    told[name].as_f64().with_context(|| format!("the peer does not tell {name}"))
}

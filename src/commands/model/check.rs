//! `talkoot model check`

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Args;
use talkoot_conformance::{Fast, Plain, Report, Row, Subject, check};
use talkoot_cuda::device::Device;

use crate::commands::{bench::CpuChoice, device::Measured, say};

/// Compares model, training, pictures and chat text with a folder of reference numbers. Exit code 1 when one is off by
/// more than its limit.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The folder: checkpoint/, cases/, train/, preprocess/, chat/.
    #[arg(long, value_name = "DIR")]
    oracle: PathBuf,
    /// Check the plain reference model instead of the fast one.
    #[arg(long, conflicts_with = "device")]
    reference: bool,
    #[command(flatten)]
    cpu: CpuChoice,
    #[command(flatten)]
    measured: Measured,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let (subject, name): (Box<dyn Subject>, String) = match (self.reference, self.measured.gpu()?) {
            (true, _) => (Box::new(Plain), "reference model".to_owned()),
            (false, Some(gpu)) => {
                let name = gpu.device().name().to_owned();
                (Box::new(Fast(gpu)), name)
            }
            (false, None) => {
                let (cpu, device) = self.cpu.open()?;
                (Box::new(Fast(cpu)), device)
            }
        };
        let report = check(&self.oracle, subject.as_ref())?;
        if self.json {
            say(&serde_json::to_string(&report)?);
        } else {
            print(&report, &name);
        }
        Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn print(report: &Report, device: &str) {
    let mut file = "";
    for row in &report.rows {
        if row.file != file {
            file = &row.file;
            say(&format!("\n{file}"));
        }
        say(&line(row));
    }
    let (rows, failed) = (report.rows.len(), report.failed().count());
    let compared: usize = report.rows.iter().map(|row| row.compared).sum();
    say(&format!(
        "\n{compared} comparisons of {rows} kinds ({device}): {} kinds within their limits",
        rows - failed
    ));
    for row in report.failed() {
        say(&format!("OVER ITS LIMIT  {} {}: {}", row.file, row.kind, row.worst));
    }
}

fn line(row: &Row) -> String {
    let mark = if row.passed { "ok  " } else { "OVER" };
    let mut line = format!("  {mark} {:<44} {:>4}", row.kind, row.compared);
    // texts and sizes are equal or not: there is nothing to measure
    if row.max_abs_limit > 0.0 {
        line.push_str(&format!("   {:>8.1e} of {:>7.1e}", row.max_abs, row.max_abs_limit));
    }
    if let Some(limit) = row.relative_limit {
        line.push_str(&format!("   relative {:>8.1e} of {limit:>7.1e}", row.relative));
    }
    if row.compared > 1 && (row.max_abs > 0.0 || !row.passed) {
        line.push_str(&format!("   {}", row.worst));
    }
    line
}

//! `talkoot dataset review`

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Subcommand;
use talkoot_dataset::Progress;
use talkoot_filter::review::{ExportOptions, export, import};

use crate::{commands::say, progress::Bar};

/// Lets people look at samples.
#[derive(Debug, Subcommand)]
pub(crate) enum Review {
    /// Writes a page with some samples and buttons to keep or drop them.
    Export {
        /// The list of samples.
        list: PathBuf,
        /// How many samples to show, from each source as many.
        #[arg(long, default_value_t = 100)]
        sample: usize,
        /// Another seed draws other samples.
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// Most MiB of pictures in the page; pictures beyond are only named.
        #[arg(long, value_name = "MIB", default_value_t = 64)]
        picture_mib: u32,
        /// Where the page goes.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Write what was done as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Leaves out of a list what was dropped on the page.
    Import {
        /// The list that the page was made of.
        list: PathBuf,
        /// The file that the page saved.
        verdicts: PathBuf,
        /// Where the new list goes.
        #[arg(long, value_name = "LIST")]
        out: PathBuf,
        /// Where the line for each dropped sample goes; beside the new list when left out.
        #[arg(long, value_name = "FILE")]
        rejects: Option<PathBuf>,
        /// Write what was done as JSON.
        #[arg(long)]
        json: bool,
    },
}

impl Review {
    pub(super) fn run(self) -> Result<()> {
        match self {
            Self::Export { list, sample, seed, picture_mib, out, json } => {
                let picture_bytes = u64::from(picture_mib) << 20;
                run_export(&ExportOptions { list, samples: sample, seed, picture_bytes, out }, json)
            }
            Self::Import { list, verdicts, out, rejects, json } => {
                let rejects = rejects.unwrap_or_else(|| out.with_extension("rejects.jsonl"));
                run_import(&list, &verdicts, &out, &rejects, json)
            }
        }
    }
}

fn run_export(options: &ExportOptions, json: bool) -> Result<()> {
    let bar = Bar::new();
    let outcome = export(options, &bar);
    bar.end();
    let exported = outcome?;
    if json {
        say(&serde_json::to_string(&exported)?);
        return Ok(());
    }
    say(&format!("page      {} ({} bytes)", options.out.display(), exported.bytes));
    say(&format!("samples   {} of {}", exported.samples, exported.of));
    for share in &exported.sources {
        say(&format!("source    {}: {} of {}", share.source, share.samples, share.of));
    }
    if exported.missing_pictures > 0 {
        say(&format!("pictures  {} are not shown; the page says why", exported.missing_pictures));
    }
    Ok(())
}

fn run_import(list: &Path, verdicts: &Path, out: &Path, rejects: &Path, json: bool) -> Result<()> {
    let bar = Bar::new();
    let outcome = import(list, verdicts, out, rejects, &bar);
    bar.end();
    let imported = outcome?;
    if json {
        say(&serde_json::to_string(&imported)?);
        return Ok(());
    }
    say(&format!("samples   {} = {} kept + {} dropped", imported.samples, imported.kept, imported.dropped));
    let seen = imported.approved + imported.dropped;
    say(&format!("reviewed  {seen} of these: {} kept, {} dropped", imported.approved, imported.dropped));
    for id in &imported.unknown {
        say(&format!("unknown   {id} has a verdict and is not in the list"));
    }
    say(&format!("list      {}", out.display()));
    say(&format!("rejects   {}", rejects.display()));
    Ok(())
}

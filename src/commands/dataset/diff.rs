//! `talkoot dataset diff`

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use talkoot_dataset::{DatasetManifest, inspect};

use crate::commands::{read_file, say};

/// Compares two data sets by their manifests.
#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// The manifest of the first.
    first: PathBuf,
    /// The manifest of the second.
    second: PathBuf,
    /// Write the differences as JSON.
    #[arg(long)]
    json: bool,
}

impl Diff {
    pub(super) fn run(self) -> Result<()> {
        let read = |path: &Path| -> Result<DatasetManifest> {
            DatasetManifest::from_bytes(&read_file(path)?).with_context(|| path.display().to_string())
        };
        let difference = inspect::diff(&read(&self.first)?, &read(&self.second)?);
        if self.json {
            say(&serde_json::to_string(&difference)?);
            return Ok(());
        }
        if difference.same {
            say("both have the same content");
            return Ok(());
        }
        say(&format!(
            "shards    {} in both, {} only in the first, {} only in the second",
            difference.shards_in_both, difference.shards_removed, difference.shards_added
        ));
        for (what, first, second) in &difference.changes {
            let shown = |value: &str| if value.is_empty() { "-".to_owned() } else { value.to_owned() };
            say(&format!("{what}: {} -> {}", shown(first), shown(second)));
        }
        Ok(())
    }
}

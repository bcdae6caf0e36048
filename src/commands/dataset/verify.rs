//! `talkoot dataset verify`

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use talkoot_dataset::{
    DatasetManifest, Progress,
    inspect::{self, Depth},
};
use talkoot_protocol::identity::MemberId;

use super::inspect::folder_of;
use crate::{
    commands::{read_file, say},
    progress::Bar,
};

/// Checks a data set's files against its manifest.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// A data set's manifest; its shards lie beside it.
    manifest: PathBuf,
    /// How closely to look.
    #[arg(long, value_enum, default_value_t = Closeness::Files)]
    depth: Closeness,
    /// The publisher that must have signed it.
    #[arg(long, value_name = "KEY")]
    publisher: Option<MemberId>,
    /// Write what was found as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Closeness {
    /// Hash every file.
    Files,
    /// Read every pack too, and count again.
    Packs,
    /// Decode every picture too.
    Pictures,
}

impl Verify {
    pub(super) fn run(self) -> Result<()> {
        let bytes = read_file(&self.manifest)?;
        let manifest =
            DatasetManifest::from_bytes(&bytes).with_context(|| self.manifest.display().to_string())?;
        if let Some(wanted) = self.publisher {
            let signed = manifest.publisher.map_or("nobody".into(), |key| key.to_string());
            ensure!(
                manifest.publisher == Some(wanted),
                "{} is signed by {signed}, not by {wanted}",
                self.manifest.display()
            );
        }
        let depth = match self.depth {
            Closeness::Files => Depth::Files,
            Closeness::Packs => Depth::Packs,
            Closeness::Pictures => Depth::Pictures,
        };
        let bar = Bar::new();
        let found = inspect::verify(&manifest, &bytes, folder_of(&self.manifest), depth, &bar);
        bar.end();
        let found = found?;
        if self.json {
            say(&serde_json::to_string(&found)?);
            return Ok(());
        }
        say(&format!("content   {}", manifest.content));
        say(&format!("signed by {}", manifest.publisher.map_or("nobody".into(), |key| key.to_string())));
        say(&format!("shards    {} of {} bytes are what their names say", found.shards, found.bytes));
        if found.without_tree > 0 {
            say(&format!("trees     {} shards have none beside them", found.without_tree));
        }
        if depth != Depth::Files {
            say(&format!("packs     {} read", found.packs));
        }
        Ok(())
    }
}

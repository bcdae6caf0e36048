//! `talkoot dataset inspect`

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use talkoot_dataset::{DatasetManifest, PackReader, Tokenizer, inspect};

use crate::commands::{read_file, say};

/// Tells what is in a data set.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// A data set's manifest; its shards and its tokenizer lie beside it.
    manifest: PathBuf,
    /// Packs to look into.
    #[arg(long, default_value_t = 4)]
    packs: u64,
    /// Write a page with the packs' pictures, texts and maps.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Say what the manifest says and look no further.
    #[arg(long)]
    brief: bool,
}

impl Inspect {
    pub(super) fn run(self) -> Result<()> {
        let bytes = read_file(&self.manifest)?;
        let manifest =
            DatasetManifest::from_bytes(&bytes).with_context(|| self.manifest.display().to_string())?;
        say(inspect::describe_manifest(&manifest).trim_end());
        if self.brief {
            return Ok(());
        }
        let folder = folder_of(&self.manifest);
        let reader = PackReader::in_folder(&bytes, folder)?;
        let tokenizer = read_file(&folder.join(manifest.index.tokenizer.digest.to_string()))
            .context("the tokenizer, which lies beside the manifest")?;
        let tokenizer = Tokenizer::from_bytes(&tokenizer)?;
        if let Some(path) = self.html {
            let page = inspect::page(&manifest, &reader, &tokenizer, self.packs)?;
            std::fs::write(&path, page).with_context(|| format!("writing {}", path.display()))?;
            say(&format!("page             {}", path.display()));
            return Ok(());
        }
        say("");
        say(inspect::describe_packs(&reader, &tokenizer, self.packs)?.trim_end());
        Ok(())
    }
}

/// The folder that a file lies in.
pub(super) fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

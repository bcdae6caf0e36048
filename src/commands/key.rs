//! `talkoot key`

mod succession;

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use console::Term;
use talkoot_network::keyfile::{self, Passphrase};

use super::say;

/// Names a file with the passphrase of locked keys, for services without a terminal.
const PASSPHRASE_FILE: &str = "TALKOOT_PASSPHRASE_FILE";

/// Names a file with a passphrase to change to, where the old one is in [`PASSPHRASE_FILE`].
const NEW_PASSPHRASE_FILE: &str = "TALKOOT_NEW_PASSPHRASE_FILE";

/// Makes, shows, locks and replaces the keys of members.
#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Makes a fresh key, for a member or to be kept elsewhere as a recovery key; prints its member id.
    New(New),
    /// Prints the member id of a key.
    Show(Show),
    /// Puts a key under a passphrase, or under another one, or into the open.
    Passphrase(Lock),
    /// Puts a fresh key in the place of a member's in a run: the old one signs it over, and nothing more afterwards.
    Rotate(succession::Rotation),
    /// Ends a member's key in a run: with the key itself, or with the recovery key that was named when it joined.
    Revoke(succession::Revocation),
}

/// Makes a key.
#[derive(Debug, Args)]
pub(crate) struct New {
    /// The file; it must not be there yet.
    file: PathBuf,
    /// Lock it with a passphrase.
    #[arg(long)]
    passphrase: bool,
}

/// Shows a key.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The file.
    file: PathBuf,
}

/// Changes how a key is locked.
#[derive(Debug, Args)]
pub(crate) struct Lock {
    /// The file.
    file: PathBuf,
    /// Leave it without a passphrase.
    #[arg(long)]
    remove: bool,
}

impl Key {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            Self::New(new) => {
                let passphrase = new.passphrase.then(new_passphrase).transpose()?;
                let key = keyfile::create_fresh(&new.file, passphrase.as_ref().map(|text| text.as_str()))?;
                say(&key.id().to_string());
            }
            Self::Show(show) => say(&keyfile::load(&show.file)?.id().to_string()),
            Self::Passphrase(lock) => {
                let key = keyfile::load(&lock.file)?;
                let passphrase = if lock.remove { None } else { Some(new_passphrase()?) };
                keyfile::relock(&lock.file, &key, passphrase.as_ref().map(|text| text.as_str()))?;
            }
            Self::Rotate(rotation) => return rotation.run(),
            Self::Revoke(revocation) => return revocation.run(),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The passphrase of a locked file: from the file that the environment names, or from whoever sits at the terminal.
pub(crate) fn passphrase_for(path: &Path) -> io::Result<Option<Passphrase>> {
    if let Some(file) = std::env::var_os(PASSPHRASE_FILE) {
        return from_file(Path::new(&file)).map(Some);
    }
    let term = Term::stderr();
    if !term.is_term() {
        return Ok(None);
    }
    ask(&term, &format!("passphrase of {}: ", path.display())).map(Some)
}

/// A passphrase to lock with: as above, but a person types it twice.
fn new_passphrase() -> Result<Passphrase> {
    let given = match std::env::var_os(NEW_PASSPHRASE_FILE).or_else(|| std::env::var_os(PASSPHRASE_FILE)) {
        Some(file) => from_file(Path::new(&file))
            .with_context(|| format!("reading the passphrase in {}", Path::new(&file).display()))?,
        None => {
            let term = Term::stderr();
            ensure!(
                term.is_term(),
                "there is no terminal to ask for a passphrase; name a file with it in {PASSPHRASE_FILE}"
            );
            let first = ask(&term, "new passphrase: ")?;
            ensure!(
                first == ask(&term, "the same again: ")?,
                "the two passphrases differ; nothing was changed"
            );
            first
        }
    };
    ensure!(!given.is_empty(), "the passphrase is empty; a key without one is made by leaving it out");
    Ok(given)
}

/// The first line of a file.
fn from_file(path: &Path) -> io::Result<Passphrase> {
    let text = Passphrase::new(std::fs::read_to_string(path)?);
    Ok(Passphrase::new(text.lines().next().unwrap_or_default().to_owned()))
}

fn ask(term: &Term, question: &str) -> io::Result<Passphrase> {
    term.write_str(question)?;
    term.read_secure_line().map(Passphrase::new)
}

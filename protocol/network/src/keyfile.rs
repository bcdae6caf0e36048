//! Key files: one line of text with the 32 secret bytes, readable by their owner alone.

use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
};

use talkoot_protocol::identity::Keypair;

/// First word of the line; it names what the file is, so that nobody pastes it into a chat by mistake.
const PREFIX: &str = "talkoot-secret-key-v1";

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// A file operation failed.
    #[error("{operation} the key file {}: {source}", path.display())]
    Io {
        /// What was done.
        operation: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{} is not a key file; it has to hold one line `{PREFIX} <64 hex digits>`", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// Another key is there.
    #[error("{} holds another key; it is never overwritten", path.display())]
    OtherKey {
        /// The file.
        path: PathBuf,
    },
}

/// Reads a key.
///
/// # Errors
///
/// [`KeyFileError`] when there is no such file or it holds something else.
pub fn load(path: &Path) -> Result<Keypair, KeyFileError> {
    let text = fs::read_to_string(path).map_err(|source| KeyFileError::Io {
        operation: "reading",
        path: path.to_owned(),
        source,
    })?;
    let malformed = || KeyFileError::Malformed { path: path.to_owned() };
    let digits = text.trim_end().strip_prefix(PREFIX).ok_or_else(malformed)?;
    let bytes = data_encoding::HEXLOWER.decode(digits.trim().as_bytes()).map_err(|_| malformed())?;
    Ok(Keypair::from_seed(bytes.try_into().map_err(|_| malformed())?))
}

/// Writes `key` where no other key is, for the owner's eyes alone, and returns it.
///
/// # Errors
///
/// [`KeyFileError`] when another key is there or the file cannot be written.
pub fn write(path: &Path, key: &Keypair) -> Result<Keypair, KeyFileError> {
    if path.exists() {
        let there = load(path)?;
        return if there.id() == key.id() {
            Ok(there)
        } else {
            Err(KeyFileError::OtherKey { path: path.to_owned() })
        };
    }
    let io = |operation| move |source| KeyFileError::Io { operation, path: path.to_owned(), source };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(io("making the folder of"))?;
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(io("creating"))?;
    let line = format!("{PREFIX} {}\n", data_encoding::HEXLOWER.encode(&key.seed()));
    file.write_all(line.as_bytes()).and_then(|()| file.sync_all()).map_err(io("writing"))?;
    Ok(key.clone())
}

/// Reads a key, or makes a fresh one from the system's randomness when there is none.
///
/// # Errors
///
/// [`KeyFileError`] when the file holds something else or cannot be written.
pub fn load_or_create(path: &Path) -> Result<Keypair, KeyFileError> {
    if path.exists() {
        return load(path);
    }
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| KeyFileError::Io {
        operation: "drawing randomness for",
        path: path.to_owned(),
        source: io::Error::other(error.to_string()),
    })?;
    write(path, &Keypair::from_seed(seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_kept_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys/node.key");
        let key = load_or_create(&path).unwrap();
        assert_eq!(load_or_create(&path).unwrap().id(), key.id());
        let other = Keypair::from_seed([1; 32]);
        assert!(matches!(write(&path, &other), Err(KeyFileError::OtherKey { .. })));
        fs::write(&path, "nonsense").unwrap();
        assert!(matches!(load(&path), Err(KeyFileError::Malformed { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.key");
        load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

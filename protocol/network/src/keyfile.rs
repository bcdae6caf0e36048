//! Key files: one line of text with the 32 secret bytes, plain or under a passphrase, readable by their owner alone.

mod lock;

use std::{
    fs, io,
    io::{Read as _, Write},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use talkoot_protocol::identity::Keypair;
use zeroize::Zeroizing;

use lock::Unopened;

/// First word of the line; it names what the file is, so that nobody pastes it into a chat by mistake.
const PREFIX: &str = "talkoot-secret-key-v1";

/// Longest key file in bytes: a locked line has about 220.
const MAX_BYTES: u64 = 1_024;

/// A passphrase, wiped from memory when it is not needed any more.
pub type Passphrase = Zeroizing<String>;

/// How a passphrase is had for a file: from a person, or from where a person has put it.
type Ask = fn(&Path) -> io::Result<Option<Passphrase>>;

/// Set once by whoever has a person to ask.
static ASK: OnceLock<Ask> = OnceLock::new();

/// From now on [`load`] asks `ask` for the passphrase of a locked file. A program says this once, at its start; without it
/// locked files are refused.
pub fn ask_with(ask: Ask) {
    // a second word changes nothing
    let _ = ASK.set(ask);
}

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
    /// Others may read the key, or change it.
    #[error(
        "the key file {} can be read or written by others (mode {mode:03o}), so it may be no secret any more; make it yours alone with `chmod 600`, and rotate the key if others use this machine",
        path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file is locked, and nobody gave a passphrase.
    #[error(
        "the key file {} is locked with a passphrase; start this on a terminal, or name a file with the passphrase in TALKOOT_PASSPHRASE_FILE",
        path.display()
    )]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The passphrase does not open it.
    #[error("the passphrase does not open the key file {}, or the file was changed", path.display())]
    WrongPassphrase {
        /// The file.
        path: PathBuf,
    },
    /// The file holds something else.
    #[error("{} is not a key file; it has to hold one line `{PREFIX} <64 hex digits>`, or a locked one as `talkoot key` makes it", path.display())]
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

/// Reads a key. When it is locked, whoever [`ask_with`] named is asked for its passphrase.
///
/// # Errors
///
/// [`KeyFileError`] when there is no such file, it holds something else, others may read it, or it stays locked.
pub fn load(path: &Path) -> Result<Keypair, KeyFileError> {
    let text = read(path)?;
    if !text.starts_with(lock::LOCKED) {
        return plain(path, &text);
    }
    let asked = ASK.get().map_or(Ok(None), |ask| ask(path));
    let asked = asked.map_err(|source| KeyFileError::Io {
        operation: "asking for the passphrase of",
        path: path.to_owned(),
        source,
    })?;
    let passphrase = asked.ok_or_else(|| KeyFileError::Locked { path: path.to_owned() })?;
    unlock(path, &text, &passphrase)
}

/// Whether a key file is locked with a passphrase.
///
/// # Errors
///
/// [`KeyFileError`] when it cannot be read, or others may read it.
pub fn is_locked(path: &Path) -> Result<bool, KeyFileError> {
    Ok(read(path)?.starts_with(lock::LOCKED))
}

/// Puts `key`, which is in the file already, under a passphrase, or without one into the open. The file is replaced whole.
///
/// # Errors
///
/// [`KeyFileError`] when the file cannot be written.
pub fn relock(path: &Path, key: &Keypair, passphrase: Option<&str>) -> Result<(), KeyFileError> {
    let temporary = path.with_extension("new");
    let io = |operation| move |source| KeyFileError::Io { operation, path: path.to_owned(), source };
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io("replacing")(error)),
        _ => {}
    }
    create(&temporary, key, passphrase)?;
    fs::rename(&temporary, path).map_err(io("replacing"))?;
    sync_folder(path).map_err(io("keeping"))
}

/// The text of a key file that is its owner's alone.
fn read(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let io = |source| KeyFileError::Io { operation: "reading", path: path.to_owned(), source };
    let file = fs::File::open(path).map_err(io)?;
    #[cfg(unix)]
    {
        // of the open file: what is looked at is what is read
        let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().map_err(io)?.permissions());
        if mode & 0o077 != 0 {
            return Err(KeyFileError::Exposed { path: path.to_owned(), mode: mode & 0o777 });
        }
    }
    let mut text = Zeroizing::new(String::new());
    let read = file.take(MAX_BYTES).read_to_string(&mut text);
    match read {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(KeyFileError::Malformed { path: path.to_owned() })
        }
        Err(error) => Err(io(error)),
        Ok(_) => Ok(text),
    }
}

fn unlock(path: &Path, line: &str, passphrase: &str) -> Result<Keypair, KeyFileError> {
    match lock::open(line, passphrase) {
        Ok(secret) => Ok(Keypair::from_seed(*secret)),
        Err(Unopened::Malformed) => Err(KeyFileError::Malformed { path: path.to_owned() }),
        Err(Unopened::Refused) => Err(KeyFileError::WrongPassphrase { path: path.to_owned() }),
    }
}

fn plain(path: &Path, text: &str) -> Result<Keypair, KeyFileError> {
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
    create(path, key, None)?;
    Ok(key.clone())
}

/// Makes a fresh key from the system's randomness, under a passphrase if there is one, in a file that must not be there yet.
///
/// # Errors
///
/// [`KeyFileError`] when there is a file, or it cannot be written.
pub fn create_fresh(path: &Path, passphrase: Option<&str>) -> Result<Keypair, KeyFileError> {
    let seed: Zeroizing<[u8; 32]> = Zeroizing::new(random(path)?);
    let key = Keypair::from_seed(*seed);
    create(path, &key, passphrase)?;
    Ok(key)
}

fn create(path: &Path, key: &Keypair, passphrase: Option<&str>) -> Result<(), KeyFileError> {
    let io = |operation| move |source| KeyFileError::Io { operation, path: path.to_owned(), source };
    let seed = Zeroizing::new(key.seed());
    let line = Zeroizing::new(match passphrase {
        Some(passphrase) => lock::seal(&seed, passphrase, &random(path)?)
            .ok_or_else(|| io("locking")(io::Error::other("no memory for the passphrase's hash")))?,
        None => format!("{PREFIX} {}\n", data_encoding::HEXLOWER.encode(seed.as_slice())),
    });
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(io("making the folder of"))?;
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(io("creating"))?;
    file.write_all(line.as_bytes()).and_then(|()| file.sync_all()).map_err(io("writing"))?;
    sync_folder(path).map_err(io("keeping"))
}

/// Makes a new name of the file survive a power cut.
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => fs::File::open(parent)?.sync_all(),
        None => fs::File::open(".")?.sync_all(),
    }
}

fn random<const N: usize>(path: &Path) -> Result<[u8; N], KeyFileError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| KeyFileError::Io {
        operation: "drawing randomness for",
        path: path.to_owned(),
        source: io::Error::other(error.to_string()),
    })?;
    Ok(bytes)
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
    create_fresh(path, None)
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
        for mode in [0o640, 0o604, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let refused = load(&path).unwrap_err();
            assert!(matches!(refused, KeyFileError::Exposed { mode: got, .. } if got == mode), "{refused}");
            assert!(refused.to_string().contains("chmod 600"), "{refused}");
        }
    }

    #[test]
    fn a_locked_key_opens_with_its_passphrase_and_can_be_unlocked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.key");
        let key = create_fresh(&path, Some("open sesame")).unwrap();
        assert!(is_locked(&path).unwrap());
        let text = fs::read_to_string(&path).unwrap();
        let secret = data_encoding::HEXLOWER.encode(&key.seed());
        assert!(!text.contains(&secret), "the secret is in the open");
        let refused = load(&path).unwrap_err();
        assert!(matches!(refused, KeyFileError::Locked { .. }), "nobody is there to be asked: {refused}");
        assert_eq!(unlock(&path, &text, "open sesame").unwrap().id(), key.id());
        let wrong = unlock(&path, &text, "shut sesame").unwrap_err();
        assert!(matches!(wrong, KeyFileError::WrongPassphrase { .. }), "{wrong}");
        assert!(matches!(create_fresh(&path, None), Err(KeyFileError::Io { operation: "creating", .. })));
        relock(&path, &key, None).unwrap();
        assert_eq!(load(&path).unwrap().id(), key.id());
        relock(&path, &key, Some("another")).unwrap();
        assert!(is_locked(&path).unwrap());
    }
}

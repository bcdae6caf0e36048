//! Who a witness is: one key file that its owner alone may read.
//!
//! ```text
//! PRIVATE+KEY+w.example.org+1a2b3c4d+<base64(0x04 ‖ seed)>
//! ```
//!
//! The spelling follows the one that Go's `note` package uses for its signers.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use data_encoding::{BASE64, HEXLOWER};
use talkoot_ledger::{
    SignerKey,
    note::{KeyError, KeyKind},
};

const PREFIX: &str = "PRIVATE+KEY+";
const FILE: &str = "witness.key";
/// Names the algorithm: a cosigner's Ed25519 key.
const COSIGNER: u8 = 4;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// A file operation failed.
    #[error("{operation} {}: {source}", path.display())]
    Io {
        /// What was done.
        operation: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is a key already.
    #[error("{} holds a key already; it is never overwritten", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Others may read the key.
    #[error("{} can be read by others (mode {mode:03o}); make it yours alone: chmod 600", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file holds something else.
    #[error("{} is no witness's key file; `talkoot witness init` makes one", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// The name can't be a key's.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Makes a fresh key named `name` in the folder, for the owner's eyes alone.
///
/// # Errors
///
/// [`IdentityError`].
pub fn create(dir: &Path, name: &str) -> Result<SignerKey, IdentityError> {
    let path = dir.join(FILE);
    let io = |operation: &'static str| {
        let path = path.clone();
        move |source| IdentityError::Io { operation, path, source }
    };
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)
        .map_err(|error| io("drawing randomness for")(io::Error::other(error.to_string())))?;
    let signer = SignerKey::cosigner(name, &seed)?;
    fs::create_dir_all(dir).map_err(io("making the folder of"))?;
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = match options.open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(IdentityError::Exists { path });
        }
        Err(error) => return Err(io("creating")(error)),
    };
    let secret = [&[COSIGNER][..], &seed].concat();
    let id = HEXLOWER.encode(&signer.verifier().id().to_be_bytes());
    let line = format!("{PREFIX}{name}+{id}+{}\n", BASE64.encode(&secret));
    file.write_all(line.as_bytes()).and_then(|()| file.sync_all()).map_err(io("writing"))?;
    fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(io("keeping"))?;
    Ok(signer)
}

/// Reads the key in the folder.
///
/// # Errors
///
/// [`IdentityError`], also when anybody but the owner may read it.
pub fn open(dir: &Path) -> Result<SignerKey, IdentityError> {
    let path = dir.join(FILE);
    let io = |source| IdentityError::Io { operation: "reading", path: path.clone(), source };
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).map_err(io)?.permissions());
        if mode & 0o077 != 0 {
            return Err(IdentityError::Exposed { path, mode: mode & 0o777 });
        }
    }
    let text = fs::read_to_string(&path).map_err(io)?;
    read(&text).ok_or(IdentityError::Malformed { path })
}

fn read(text: &str) -> Option<SignerKey> {
    let rest = text.strip_suffix('\n').unwrap_or(text).strip_prefix(PREFIX)?;
    // base64 has plus signs of its own, so only the first two separate
    let mut parts = rest.splitn(3, '+');
    let (name, id, secret) = (parts.next()?, parts.next()?, parts.next()?);
    let secret = BASE64.decode(secret.as_bytes()).ok()?;
    let (&COSIGNER, seed) = secret.split_first()? else { return None };
    let signer = SignerKey::cosigner(name, seed.try_into().ok()?).ok()?;
    let verifier = signer.verifier();
    let expected = HEXLOWER.encode(&verifier.id().to_be_bytes());
    (verifier.kind() == KeyKind::Cosigner && id == expected).then_some(signer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_and_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let made = create(dir.path(), "w.example.org").unwrap();
        assert_eq!(open(dir.path()).unwrap().verifier(), made.verifier());
        assert!(matches!(create(dir.path(), "w.example.org"), Err(IdentityError::Exists { .. })));
        assert!(matches!(create(dir.path(), "two words"), Err(IdentityError::Key(_))));
        let path = dir.path().join(FILE);
        let good = fs::read_to_string(&path).unwrap();
        for bad in
            ["", "nonsense", &good.replace("w.example", "v.example"), &good.replace("PRIVATE", "PUBLIC")]
        {
            fs::write(&path, bad).unwrap();
            assert!(matches!(open(dir.path()), Err(IdentityError::Malformed { .. })), "{bad:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        create(dir.path(), "w.example.org").unwrap();
        let path = dir.path().join(FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let refused = open(dir.path()).unwrap_err();
        assert!(matches!(refused, IdentityError::Exposed { mode: 0o640, .. }), "{refused}");
    }
}

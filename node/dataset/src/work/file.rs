//! Files that are whole or not there.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::Path,
};

use serde::{Serialize, de::DeserializeOwned};

use super::{WorkError, read_error, write_error};

/// Bytes that are collected before they are written.
const BUFFER_BYTES: usize = 1 << 18;

/// Writes a file under another name, makes it durable and gives it its own.
///
/// # Errors
///
/// [`WorkError::Write`], also for what `write` says.
pub fn put_file(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), WorkError> {
    let put = || {
        // Two processes may do the same at the same time; they write the same.
        let mut part = path.as_os_str().to_owned();
        part.push(format!(".{}.part", std::process::id()));
        let mut file = BufWriter::with_capacity(BUFFER_BYTES, File::create(&part)?);
        write(&mut file)?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&part, path)
    };
    put().map_err(write_error(path))
}

/// [`put_file`] of a line of JSON.
///
/// # Errors
///
/// [`WorkError::Write`].
pub fn put_json(path: &Path, value: &impl Serialize) -> Result<(), WorkError> {
    put_file(path, |file| {
        serde_json::to_writer(&mut *file, value)?;
        file.write_all(b"\n")
    })
}

/// Reads a file that [`put_json`] wrote.
///
/// # Errors
///
/// [`WorkError::Read`], or [`WorkError::Damaged`] when it is no such value.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, WorkError> {
    let bytes = fs::read(path).map_err(read_error(path))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| WorkError::Damaged { path: path.to_path_buf(), reason: error.to_string() })
}

/// Removes a file, if it is there.
///
/// # Errors
///
/// [`WorkError::Write`].
pub fn remove_file(path: &Path) -> Result<(), WorkError> {
    gone(path, fs::remove_file(path))
}

/// Removes a folder with everything in it, if it is there.
///
/// # Errors
///
/// [`WorkError::Write`].
pub fn remove_folder(path: &Path) -> Result<(), WorkError> {
    gone(path, fs::remove_dir_all(path))
}

fn gone(path: &Path, removed: io::Result<()>) -> Result<(), WorkError> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(write_error(path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_whole_or_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("numbers.json");
        let stopped = put_file(&path, |file| {
            file.write_all(b"[1, 2")?;
            Err(io::Error::other("the disk is full"))
        });
        assert!(matches!(stopped, Err(WorkError::Write { .. })) && !path.exists());
        put_json(&path, &[1, 2, 3]).unwrap();
        assert_eq!(read_json::<Vec<u32>>(&path).unwrap(), [1, 2, 3]);
        fs::write(&path, "[1, 2").unwrap();
        let error = read_json::<Vec<u32>>(&path).unwrap_err();
        assert!(error.to_string().contains("numbers.json is damaged"), "{error}");
        remove_file(&path).unwrap();
        remove_file(&path).unwrap();
        assert!(matches!(read_json::<Vec<u32>>(&path), Err(WorkError::Read { .. })));
    }
}

//! The folder of unfinished work, and the job that it belongs to.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use talkoot_protocol::digest::Digest;

use super::{WorkError, put_file, put_json, read_json, remove_folder, write_error};

/// A folder of unfinished work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkFolder(PathBuf);

#[derive(Serialize, Deserialize)]
struct JobFile {
    fingerprint: Digest,
}

impl WorkFolder {
    /// Opens the folder `path`, or makes it, with a folder in it for each of `rooms`.
    ///
    /// # Errors
    ///
    /// [`WorkError::Write`] when a folder cannot be made.
    pub fn open(path: PathBuf, rooms: &[&str]) -> Result<Self, WorkError> {
        remove_folder(&going(&path))?;
        fs::create_dir_all(&path).map_err(write_error(&path))?;
        for room in rooms {
            let room = path.join(room);
            fs::create_dir_all(&room).map_err(write_error(&room))?;
        }
        Ok(Self(path))
    }

    /// Removes the folder `path`, if it is there. It gets another name first: what a kill leaves of it is nobody's work,
    /// and goes when the next work begins.
    ///
    /// # Errors
    ///
    /// [`WorkError::Write`].
    pub fn discard(path: &Path) -> Result<(), WorkError> {
        let going = going(path);
        remove_folder(&going)?;
        match fs::rename(path, &going) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(write_error(path)(error)),
            Ok(()) => remove_folder(&going),
        }
    }

    /// Claims the folder for a job: the first one that comes is the one whose work this is.
    ///
    /// # Errors
    ///
    /// [`WorkError::OtherWork`] when the folder belongs to another job.
    pub fn claim(&self, fingerprint: &Digest) -> Result<(), WorkError> {
        let path = self.file("job.json");
        if !path.exists() {
            return put_json(&path, &JobFile { fingerprint: *fingerprint });
        }
        if read_json::<JobFile>(&path)?.fingerprint == *fingerprint {
            return Ok(());
        }
        Err(WorkError::OtherWork { work: self.0.clone() })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The file `name` in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a finished file, by way of this folder: a kill leaves nothing half done among what is finished.
    ///
    /// # Errors
    ///
    /// [`WorkError::Write`].
    pub fn publish(
        &self,
        path: &Path,
        write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    ) -> Result<(), WorkError> {
        let part = self.file(&format!("publish.{}", std::process::id()));
        put_file(&part, write)?;
        fs::rename(&part, path).map_err(write_error(path))
    }

    /// [`Self::publish`] of bytes.
    ///
    /// # Errors
    ///
    /// [`WorkError::Write`].
    pub fn publish_bytes(&self, path: &Path, bytes: &[u8]) -> Result<(), WorkError> {
        self.publish(path, |file| file.write_all(bytes))
    }
}

/// What a folder is called while it is removed.
fn going(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".gone");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_belongs_to_the_job_that_came_first() {
        let out = tempfile::tempdir().unwrap();
        let folder = WorkFolder::open(out.path().join("mine.work"), &["measure"]).unwrap();
        folder.claim(&Digest::of(b"job")).unwrap();
        folder.claim(&Digest::of(b"job")).unwrap();
        let error = folder.claim(&Digest::of(b"other")).unwrap_err();
        assert!(matches!(error, WorkError::OtherWork { .. }), "{error}");
        folder.publish_bytes(&out.path().join("report"), b"done").unwrap();
        assert_eq!(fs::read(out.path().join("report")).unwrap(), b"done");
    }

    #[test]
    fn what_is_left_of_a_folder_that_was_going_is_nobodys_work() {
        let out = tempfile::tempdir().unwrap();
        let path = out.path().join("mine.work");
        let folder = WorkFolder::open(path.clone(), &["measure"]).unwrap();
        folder.claim(&Digest::of(b"job")).unwrap();
        // Killed while it was removed.
        fs::rename(&path, out.path().join("mine.work.gone")).unwrap();
        let folder = WorkFolder::open(path.clone(), &["measure"]).unwrap();
        folder.claim(&Digest::of(b"other")).unwrap();
        WorkFolder::discard(&path).unwrap();
        WorkFolder::discard(&path).unwrap();
        assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
    }
}

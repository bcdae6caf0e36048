//! One file, from its address to its place, going on where an earlier try stopped.
//!
//! ```text
//! <file>.part        the bytes that have come
//! <file>.part.json   the address and the server's mark of the version (ETag or time) that they are of
//! ```
//!
//! The rest is asked for on the condition that the version is still the same; a server that has another one, or knows no
//! parts, sends everything anew.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use talkoot_dataset::Progress;
use ureq::{Body, http::Response};

use super::{FetchError, Fetcher, RemoteFile, Trouble};

/// Which version the bytes that have come are of.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
struct Version {
    url: String,
    /// A strong `ETag`, or the time of the last change.
    mark: Option<String>,
}

/// Where a file goes, and where it is until it is whole.
struct Places {
    whole: PathBuf,
    part: PathBuf,
    version: PathBuf,
}

impl Places {
    fn of(whole: &Path) -> Self {
        let with = |ending: &str| {
            let mut path = OsString::from(whole);
            path.push(ending);
            PathBuf::from(path)
        };
        Self { whole: whole.to_path_buf(), part: with(".part"), version: with(".part.json") }
    }

    /// How many bytes have come, and of which version, if they can be gone on from.
    fn begun(&self, url: &str) -> Option<(u64, String)> {
        let version: Version = serde_json::from_slice(&fs::read(&self.version).ok()?).ok()?;
        let bytes = fs::metadata(&self.part).ok()?.len();
        (version.url == url && bytes > 0).then_some((bytes, version.mark?))
    }

    fn forget(&self) {
        // What is left behind is overwritten.
        let _ = fs::remove_file(&self.version);
        let _ = fs::remove_file(&self.part);
    }
}

impl Fetcher {
    /// Fetches `file` to `target`, unless it is there; tells its length.
    pub(crate) fn download(
        &self,
        file: &RemoteFile,
        target: &Path,
        progress: &dyn Progress,
    ) -> Result<u64, FetchError> {
        if let Ok(there) = fs::metadata(target) {
            progress.advance(file.bytes.unwrap_or(0));
            return Ok(there.len());
        }
        let write = |source| FetchError::Write { path: target.to_path_buf(), source };
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder).map_err(write)?;
        }
        if let Some(bytes) = file.bytes {
            self.within(&file.url, bytes)?;
        }
        let places = Places::of(target);
        let bytes = self.patiently(&file.url, |came| self.one_try(file, &places, came, progress))?;
        self.check_content(file, &places)?;
        fs::rename(&places.part, &places.whole).map_err(write)?;
        let _ = fs::remove_file(&places.version);
        Ok(bytes)
    }

    fn one_try(
        &self,
        file: &RemoteFile,
        places: &Places,
        came: &mut bool,
        progress: &dyn Progress,
    ) -> Result<u64, Trouble> {
        let write = |source| Trouble::from(FetchError::Write { path: places.part.clone(), source });
        let begun = places.begun(&file.url);
        let mut headers = Vec::new();
        if let Some((bytes, mark)) = &begun {
            headers.extend([("Range", format!("bytes={bytes}-")), ("If-Range", mark.clone())]);
        }
        let mut answer = self.ask(&file.url, file.token, &headers)?;
        let (from, total) = match (answer.status().as_u16(), &begun) {
            (200, _) => (0, header(&answer, "content-length").and_then(|text| text.parse().ok())),
            (206, Some((bytes, _))) => match range_of(&answer) {
                Some((from, total)) if from == *bytes => (from, Some(total)),
                _ => return Err(anew(places, "the server sent another part than was asked for")),
            },
            _ => return Err(anew(places, "the server does not have the part that was asked for")),
        };
        if let Some(encoding) = header(&answer, "content-encoding").filter(|encoding| encoding != "identity")
        {
            let reason = format!("the server sends it encoded as {encoding}, which was not asked for");
            return Err(FetchError::Mismatch { url: file.url.clone(), reason }.into());
        }
        self.announced(file, total)?;
        if from == 0 {
            let version = Version { url: file.url.clone(), mark: mark_of(&answer) };
            File::create(&places.part).map_err(write)?;
            fs::write(&places.version, serde_json::to_vec(&version).unwrap_or_default()).map_err(write)?;
        }
        if file.bytes.is_none() {
            progress.grow(total.unwrap_or(0).saturating_sub(from));
        }
        let mut part = OpenOptions::new().append(true).open(&places.part).map_err(write)?;
        let copied = self.copy(&mut answer, &mut part, (from, total), file, came, progress);
        part.sync_all().map_err(write)?;
        copied
    }

    /// Copies the body behind the `from` bytes that are there; tells the length of the whole.
    fn copy(
        &self,
        answer: &mut Response<Body>,
        part: &mut File,
        (from, total): (u64, Option<u64>),
        file: &RemoteFile,
        came: &mut bool,
        progress: &dyn Progress,
    ) -> Result<u64, Trouble> {
        let passing = |error: io::Error| Trouble::Passing { reason: error.to_string(), wait: None };
        let mut body = answer.body_mut().as_reader();
        let mut buffer = vec![0; 256 << 10];
        let mut bytes = from;
        loop {
            let got = body.read(&mut buffer).map_err(passing)?;
            if got == 0 {
                break;
            }
            *came = true;
            bytes += got as u64;
            self.within(&file.url, bytes)?;
            part.write_all(&buffer[..got])
                .map_err(|source| FetchError::Write { path: file.name.clone().into(), source })?;
            progress.advance(got as u64);
        }
        match total {
            Some(total) if total != bytes => {
                let reason = format!("the connection ended after {bytes} of {total} bytes");
                Err(Trouble::Passing { reason, wait: None })
            }
            _ => Ok(bytes),
        }
    }

    fn within(&self, url: &str, bytes: u64) -> Result<(), FetchError> {
        let limit = self.options.most_bytes;
        if bytes > limit {
            return Err(FetchError::TooLarge { url: url.to_owned(), bytes, limit });
        }
        Ok(())
    }

    /// Checks the length that the server names against the limit and the listing.
    fn announced(&self, file: &RemoteFile, total: Option<u64>) -> Result<(), FetchError> {
        let Some(total) = total else { return Ok(()) };
        self.within(&file.url, total)?;
        match file.bytes {
            Some(listed) if listed != total => {
                let reason = format!("it has {total} bytes, the listing says {listed}; list it again");
                Err(FetchError::Mismatch { url: file.url.clone(), reason })
            }
            _ => Ok(()),
        }
    }

    /// Checks what has come against the hash of the listing.
    fn check_content(&self, file: &RemoteFile, places: &Places) -> Result<(), FetchError> {
        let Some(expected) = &file.sha256 else { return Ok(()) };
        let hash = || -> io::Result<String> {
            let mut hasher = Sha256::new();
            let mut part = File::open(&places.part)?;
            let mut buffer = vec![0; 256 << 10];
            loop {
                match part.read(&mut buffer)? {
                    0 => break,
                    got => hasher.update(&buffer[..got]),
                }
            }
            Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
        };
        let got = hash().map_err(|source| FetchError::Write { path: places.part.clone(), source })?;
        if got == *expected {
            return Ok(());
        }
        places.forget();
        let reason = format!("its SHA-256 is {got}, the listing says {expected}; fetch it again");
        Err(FetchError::Mismatch { url: file.url.clone(), reason })
    }
}

fn anew(places: &Places, reason: &str) -> Trouble {
    places.forget();
    Trouble::Passing { reason: reason.to_owned(), wait: None }
}

fn header(answer: &Response<Body>, name: &str) -> Option<String> {
    Some(answer.headers().get(name)?.to_str().ok()?.to_owned())
}

/// What the rest can be asked for by: a weak `ETag` names no bytes.
fn mark_of(answer: &Response<Body>) -> Option<String> {
    header(answer, "etag").filter(|mark| !mark.starts_with("W/")).or_else(|| header(answer, "last-modified"))
}

/// First byte and length of the whole, of `bytes 5-9/10`.
fn range_of(answer: &Response<Body>) -> Option<(u64, u64)> {
    let range = header(answer, "content-range")?;
    let (range, total) = range.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()?))
}

//! What a data set on the hub holds, at one commit.

use std::io::Read;

use serde::{Deserialize, Serialize};
use ureq::Body;

use super::{
    Address, FetchError, Fetcher, Trouble,
    address::{check_web, encoded},
};

/// Most bytes of an answer of the hub's.
const MAX_ANSWER_BYTES: u64 = 64 << 20;
/// Most answers that a listing may come in.
const MAX_PAGES: usize = 10_000;

/// A file that can be fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RemoteFile {
    /// Where it is.
    pub(crate) url: String,
    /// What it is called: its path in the data set.
    pub(crate) name: String,
    /// Whether the hub's token is shown.
    pub(crate) token: bool,
    /// Its length, where it was told.
    pub(crate) bytes: Option<u64>,
    /// SHA-256 of its content in hexadecimal, likewise.
    pub(crate) sha256: Option<String>,
}

#[derive(Deserialize)]
struct Commit {
    sha: String,
}

#[derive(Deserialize)]
struct Entry {
    r#type: String,
    path: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    lfs: Option<Large>,
}

#[derive(Deserialize)]
struct Large {
    oid: String,
}

impl Fetcher {
    /// The files that an address leads to, in the order of their names.
    pub(crate) fn list(&self, address: &Address) -> Result<Vec<RemoteFile>, FetchError> {
        match address {
            Address::Web(url) => Ok(vec![RemoteFile {
                url: url.clone(),
                name: address.name(),
                token: false,
                bytes: None,
                sha256: None,
            }]),
            Address::Hub { dataset, revision, path } => self.list_dataset(dataset, revision, path),
        }
    }

    fn list_dataset(&self, dataset: &str, revision: &str, path: &str) -> Result<Vec<RemoteFile>, FetchError> {
        let endpoint = &self.options.endpoint;
        check_web(endpoint).map_err(|reason| FetchError::Address { address: endpoint.clone(), reason })?;
        let api = format!("{endpoint}/api/datasets/{dataset}");
        // One commit for all files, whatever happens to the branch meanwhile.
        let url = format!("{api}/revision/{}", encoded(revision, false));
        let (Commit { sha }, _) = self.json(&url)?;
        let sha = encoded(&sha, false);
        // A folder is listed by itself; a file is found in the listing of its folder.
        let (folder, is_file) = match path.rsplit_once('/') {
            _ if !path.rsplit('/').next().unwrap_or("").contains('.') => (path, false),
            Some((folder, _)) => (folder, true),
            None => ("", true),
        };
        let slash = if folder.is_empty() { "" } else { "/" };
        let folder = encoded(folder, true);
        let mut next = Some(format!("{api}/tree/{sha}{slash}{folder}?recursive={}", !is_file));
        let mut files = Vec::new();
        for _ in 0..MAX_PAGES {
            let Some(url) = next.take() else { break };
            let (entries, link): (Vec<Entry>, _) = self.json(&url)?;
            let wanted = |entry: &Entry| entry.r#type == "file" && (!is_file || entry.path == path);
            files.extend(entries.into_iter().filter(wanted).map(|entry| RemoteFile {
                url: format!("{endpoint}/datasets/{dataset}/resolve/{sha}/{}", encoded(&entry.path, true)),
                name: entry.path,
                token: true,
                bytes: Some(entry.size),
                sha256: entry.lfs.map(|large| large.oid),
            }));
            // The hub must not send us, and its token, elsewhere.
            next = link.filter(|link| link.starts_with(&format!("{endpoint}/")));
        }
        if files.is_empty() {
            let url = format!("hf://datasets/{dataset}@{revision}/{path}");
            return Err(FetchError::Mismatch { url, reason: "there is no such file or folder".into() });
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(files)
    }

    /// An answer in JSON, and the address of the next part, if there is one.
    fn json<T: for<'a> Deserialize<'a>>(&self, url: &str) -> Result<(T, Option<String>), FetchError> {
        self.patiently(url, |_| {
            let mut answer = self.ask(url, true, &[])?;
            let link = answer.headers().get("link").and_then(|link| next_of(link.to_str().ok()?));
            let bytes = read_all(url, answer.body_mut())?;
            let value = serde_json::from_slice(&bytes).map_err(|error| FetchError::Mismatch {
                url: url.to_owned(),
                reason: format!("the answer is not what a hub says: {error}"),
            })?;
            Ok((value, link))
        })
    }
}

fn read_all(url: &str, body: &mut Body) -> Result<Vec<u8>, Trouble> {
    let mut bytes = Vec::new();
    body.as_reader()
        .take(MAX_ANSWER_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Trouble::Passing { reason: error.to_string(), wait: None })?;
    if bytes.len() as u64 > MAX_ANSWER_BYTES {
        let (url, bytes) = (url.to_owned(), bytes.len() as u64);
        return Err(FetchError::TooLarge { url, bytes, limit: MAX_ANSWER_BYTES }.into());
    }
    Ok(bytes)
}

/// The address in `<address>; rel="next"`.
fn next_of(link: &str) -> Option<String> {
    let link = link.split(',').find(|link| link.contains("rel=\"next\""))?;
    Some(link.split_once('<')?.1.split_once('>')?.0.to_owned())
}

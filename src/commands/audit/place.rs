//! Where an audit reads: folders and addresses, told apart and looked into.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use talkoot_ledger::{Folder, TileSource, note::MAX_NOTE_BYTES};
use talkoot_network::keyfile;
use talkoot_verifier::audit::{self, BlobSource, Blobs, LogPlace, Peers, Seen, WebBlobs};
use talkoot_witness::HttpLog;

use crate::commands::{read_file, read_link};

/// Where the files of a run are.
pub(super) struct Places {
    pub(super) ledger: LogPlace,
    /// Folders and addresses of blobs, in the order in which they are asked.
    pub(super) blobs: Vec<String>,
}

fn is_address(text: &str) -> bool {
    text.contains("://")
}

fn web(url: &str) -> Result<HttpLog> {
    HttpLog::new(url).map_err(|reason| anyhow::anyhow!("the address {url:?}: {reason}"))
}

/// The log and the blobs of `run`, unless they were said to be elsewhere.
pub(super) fn find(run: &str, ledger: Option<&str>, blobs: &[String]) -> Result<Places> {
    let (beside_ledger, beside_blobs) = match ledger {
        Some(ledger) => (log_at(ledger)?, join(run, "store/blobs")),
        None if is_address(run) => in_the_web(run)?,
        None => {
            let (ledger, blobs) = audit::folders_of(Path::new(run));
            if !ledger.is_dir() {
                bail!("{run} holds no run: there is no folder {}", ledger.display());
            }
            (LogPlace::Folder(ledger), blobs.display().to_string())
        }
    };
    let blobs = if blobs.is_empty() { vec![beside_blobs] } else { blobs.to_vec() };
    Ok(Places { ledger: beside_ledger, blobs })
}

fn join(place: &str, path: &str) -> String {
    format!("{}/{path}", place.trim_end_matches('/'))
}

fn log_at(text: &str) -> Result<LogPlace> {
    if is_address(text) {
        return Ok(LogPlace::Web(web(text)?));
    }
    if !Path::new(text).is_dir() {
        bail!("{text} is no folder, and no address of http or https");
    }
    Ok(LogPlace::Folder(PathBuf::from(text)))
}

/// An address may be that of a run's folder or that of its log: whichever has a checkpoint.
fn in_the_web(url: &str) -> Result<(LogPlace, String)> {
    for (log, blobs) in
        [(join(url, "ledger"), join(url, "store/blobs")), (url.to_owned(), join(url, "blobs"))]
    {
        let source = web(&log)?;
        let there = source.read("checkpoint", MAX_NOTE_BYTES as u64 + 1).context("looking for the log")?;
        if there.is_some() {
            return Ok((LogPlace::Web(source), blobs));
        }
    }
    bail!("there is no log at {url}: neither `ledger/checkpoint` nor `checkpoint` is there")
}

/// Members of the run that `link` names, met under a key of this audit alone.
pub(super) fn peers(link: &str, scratch: &Path) -> Result<Arc<Peers>> {
    let key = keyfile::load_or_create(&scratch.join("auditor.key"))?;
    Ok(Arc::new(Peers::meet(&read_link(link)?, &key, scratch)?))
}

/// The blobs in these places, and last of all from members. What is fetched is kept in `cache`.
pub(super) fn blobs(
    places: &[String],
    peers: Option<Arc<Peers>>,
    cache: &Path,
    most_bytes: u64,
) -> Result<Blobs> {
    if let ([folder], None) = (places, &peers)
        && !is_address(folder)
    {
        return Ok(Blobs::in_folder(Path::new(folder)));
    }
    let sources = places.iter().map(|place| {
        Ok::<Box<dyn BlobSource>, anyhow::Error>(if is_address(place) {
            Box::new(
                WebBlobs::new(place).map_err(|reason| anyhow::anyhow!("the address {place:?}: {reason}"))?,
            )
        } else {
            Box::new(audit::FolderBlobs::new(Path::new(place)))
        })
    });
    let mut sources: Vec<Box<dyn BlobSource>> = sources.collect::<Result<_>>()?;
    sources.extend(peers.map(|peers| Box::new(peers) as Box<dyn BlobSource>));
    Ok(Blobs::in_folder(cache).with_sources(sources, most_bytes))
}

/// A checkpoint from elsewhere: a file, or the newest one of another copy of the log.
pub(super) fn seen(text: &str) -> Result<Seen> {
    let newest = |source: &dyn TileSource| {
        source
            .read("checkpoint", MAX_NOTE_BYTES as u64 + 1)
            .with_context(|| format!("reading the checkpoint of {text}"))?
            .with_context(|| format!("there is no checkpoint at {text}"))
    };
    let note = if is_address(text) {
        newest(&web(text)?)?
    } else if Path::new(text).is_dir() {
        newest(&Folder::new(text))?
    } else {
        read_file(Path::new(text))?
    };
    Ok(Seen { from: text.to_owned(), note })
}

//! A log on a web server.

use std::io::{self, Read as _};

use talkoot_ledger::TileSource;
use ureq::Agent;

use crate::http;

/// A log's files behind an address: a [`TileSource`] like any folder.
#[derive(Debug, Clone)]
pub struct HttpLog {
    agent: Agent,
    prefix: String,
}

impl HttpLog {
    /// The log whose `checkpoint` and `tile/` are below `url`.
    ///
    /// # Errors
    ///
    /// Says what is wrong when `url` is no address of `http` or `https`.
    pub fn new(url: &str) -> Result<Self, String> {
        Ok(Self { agent: http::agent(), prefix: http::prefix(url)? })
    }
}

impl HttpLog {
    /// Copies the file at `path`, which has `bytes` bytes, to `into`; `false` where there is no such file. However little the
    /// server sends at a time, it is waited for no longer than a slow line needs for that many bytes.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached, sends another number of bytes or stops sending, or when `into` cannot be written.
    pub fn download(&self, path: &str, bytes: u64, into: &mut dyn io::Write) -> io::Result<bool> {
        let url = format!("{}/{path}", self.prefix);
        let failed = |error: &dyn std::fmt::Display| io::Error::other(format!("{url}: {error}"));
        let patience = http::patience(bytes);
        let request = self.agent.get(&url).config().timeout_global(Some(patience)).build();
        let mut response = request.call().map_err(|error| failed(&error))?;
        if !found(&url, response.status().as_u16())? {
            return Ok(false);
        }
        if let Some(offered) = response.body().content_length().filter(|offered| *offered != bytes) {
            return Err(failed(&format!("the server offers {offered} bytes instead of {bytes}")));
        }
        // one byte more than there should be is enough to know
        let mut body = response.body_mut().as_reader().take(bytes.saturating_add(1));
        match io::copy(&mut body, into).map_err(|error| failed(&error))? {
            copied if copied == bytes => Ok(true),
            copied if copied > bytes => Err(failed(&format!("the server sends more than {bytes} bytes"))),
            copied => Err(failed(&format!("the server sends {copied} bytes instead of {bytes}"))),
        }
    }
}

impl TileSource for HttpLog {
    fn read(&self, path: &str, max_bytes: u64) -> io::Result<Option<Vec<u8>>> {
        let url = format!("{}/{path}", self.prefix);
        let failed = |error: &dyn std::fmt::Display| io::Error::other(format!("{url}: {error}"));
        let mut response = self.agent.get(&url).call().map_err(|error| failed(&error))?;
        if found(&url, response.status().as_u16())? {
            http::body(&mut response, max_bytes).map(Some).map_err(|error| failed(&error))
        } else {
            Ok(None)
        }
    }
}

/// Whether a status says that the file is there.
fn found(url: &str, status: u16) -> io::Result<bool> {
    match status {
        200 => Ok(true),
        404 | 410 => Ok(false),
        300..400 => Err(io::Error::other(format!(
            "{url}: the server sends us elsewhere ({status}), and redirects are not followed; give the address where the files are"
        ))),
        _ => Err(io::Error::other(format!("{url}: the server answers {status}"))),
    }
}

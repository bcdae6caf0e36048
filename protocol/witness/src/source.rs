//! A log on a web server.

use std::io;

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

impl TileSource for HttpLog {
    fn read(&self, path: &str, max_bytes: u64) -> io::Result<Option<Vec<u8>>> {
        let url = format!("{}/{path}", self.prefix);
        let mut response =
            self.agent.get(&url).call().map_err(|error| io::Error::other(format!("{url}: {error}")))?;
        match response.status().as_u16() {
            200 => http::body(&mut response, max_bytes).map(Some),
            404 | 410 => Ok(None),
            status => Err(io::Error::other(format!("{url}: the server answers {status}"))),
        }
    }
}

//! Blobs behind a web server.

use std::io;

use talkoot_protocol::digest::BlobRef;
use talkoot_witness::HttpLog;

use super::BlobSource;

/// A folder of blobs on a web server, each under its name.
#[derive(Debug)]
pub struct WebBlobs(HttpLog);

impl WebBlobs {
    /// The blobs whose names are below `url`.
    ///
    /// # Errors
    ///
    /// Says what is wrong when `url` is no address of `http` or `https`.
    pub fn new(url: &str) -> Result<Self, String> {
        HttpLog::new(url).map(Self)
    }
}

impl BlobSource for WebBlobs {
    fn copy(&self, blob: &BlobRef, into: &mut dyn io::Write) -> io::Result<bool> {
        self.0.download(&blob.digest.to_string(), blob.bytes, into)
    }
}

//! One careful way to speak HTTP as a client: no redirects, bounded answers, bounded patience.

use std::time::Duration;

use ureq::{
    Agent,
    http::{Response, Uri},
};

/// How long opening a connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// How long a question and its answer may take together: a witness has one small file to write.
const ANSWER: Duration = Duration::from_secs(20);

/// The slowest line that is waited for when a file is large, in bytes a second.
const SLOWEST: u64 = 32 * 1024;

/// The longest header of an answer, in bytes.
const MAX_HEADER_BYTES: usize = 16 * 1024;

pub(crate) fn agent() -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("talkoot/", env!("CARGO_PKG_VERSION")))
        .max_response_header_size(MAX_HEADER_BYTES)
        .timeout_connect(Some(CONNECT))
        .timeout_global(Some(ANSWER))
        .build()
        .new_agent()
}

/// How long a file of so many bytes may take.
pub(crate) const fn patience(bytes: u64) -> Duration {
    ANSWER.saturating_add(Duration::from_secs(bytes / SLOWEST))
}

/// An `http` or `https` address without query, as a prefix without slash at its end.
pub(crate) fn prefix(url: &str) -> Result<String, String> {
    let uri: Uri = url.parse().map_err(|error| format!("{error}"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
        return Err("it has to start with http:// or https:// and a host".to_owned());
    }
    if uri.query().is_some() {
        return Err("it has a query".to_owned());
    }
    Ok(url.trim_end_matches('/').to_owned())
}

/// The first `limit` bytes of an answer's body.
pub(crate) fn body(response: &mut Response<ureq::Body>, limit: u64) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    response.body_mut().as_reader().take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

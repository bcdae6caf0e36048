//! Addresses to files that are here: bounded, resumable, tried again with patience.
//!
//! `https://` addresses are taken as they are; `hf://datasets/OWNER/NAME[@REVISION][/PATH]` is a file or a folder of a
//! data set on the hub. Plain `http://` is taken from this machine only: elsewhere anybody on the way could change what
//! comes.

mod address;
mod download;
mod hub;

use std::{io, path::PathBuf, time::Duration};

use ureq::{
    Agent,
    config::{AutoHeaderValue, RedirectAuthHeaders},
};

pub(crate) use self::{address::Address, hub::RemoteFile};

/// The hub, where the environment names no other.
const HUB: &str = "https://huggingface.co";
/// Most hops from an address to what it leads to.
const MAX_REDIRECTS: u32 = 5;
/// How long a connection may take to open, or may say nothing.
const SILENCE: Duration = Duration::from_secs(60);

/// How addresses are fetched.
#[derive(Clone)]
pub struct FetchOptions {
    /// Where `hf://` leads.
    pub endpoint: String,
    /// Shown to the hub, and to nobody else, for data sets that ask for it.
    pub token: Option<String>,
    /// Most bytes of a file.
    pub most_bytes: u64,
    /// When to try again.
    pub patience: Patience,
}

/// When to try again what failed for a reason that may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How often, without a byte coming in between.
    pub attempts: u32,
    /// How long before the second try; each wait is twice as long as the one before.
    pub first_wait: Duration,
}

impl Patience {
    const LONGEST: Duration = Duration::from_secs(60);

    fn wait(self, failures: u32) -> Duration {
        self.first_wait.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(Self::LONGEST)
    }
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            endpoint: HUB.into(),
            token: None,
            most_bytes: 1 << 40,
            patience: Patience { attempts: 6, first_wait: Duration::from_secs(1) },
        }
    }
}

impl FetchOptions {
    /// As the environment says: `HF_ENDPOINT` is where the hub is, `HF_TOKEN` what it is shown.
    pub fn from_environment() -> Self {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let mut options = Self { token: variable("HF_TOKEN"), ..Self::default() };
        if let Some(endpoint) = variable("HF_ENDPOINT") {
            options.endpoint = endpoint.trim_end_matches('/').to_owned();
        }
        options
    }
}

impl std::fmt::Debug for FetchOptions {
    /// Without the token, which nobody should read in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FetchOptions")
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("most_bytes", &self.most_bytes)
            .field("patience", &self.patience)
            .finish()
    }
}

/// Why an address could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The address is none.
    #[error(
        "{address:?} is no address to fetch from: {reason}; give https://… or hf://datasets/OWNER/NAME[@REVISION][/PATH]"
    )]
    Address {
        /// The address as it came.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The server said no, and would again.
    #[error("{url}: the server says {status}; {remedy}")]
    Refused {
        /// What was asked for.
        url: String,
        /// The status of HTTP.
        status: u16,
        /// What to do.
        remedy: &'static str,
    },
    /// The file has more bytes than may be fetched.
    #[error("{url} has {bytes} bytes or more, {limit} may be fetched; raise --most-bytes")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// How many it has at least.
        bytes: u64,
        /// How many may be fetched.
        limit: u64,
    },
    /// What came is not what was announced.
    #[error("{url}: {reason}")]
    Mismatch {
        /// What was asked for.
        url: String,
        /// What is different.
        reason: String,
    },
    /// It did not work after several tries.
    #[error("{url}: given up after {attempts} tries: {reason}; go on later with --resume")]
    GivenUp {
        /// What was asked for.
        url: String,
        /// How often.
        attempts: u32,
        /// Why the last try failed.
        reason: String,
    },
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Fetches.
#[derive(Debug)]
pub(crate) struct Fetcher {
    agent: Agent,
    options: FetchOptions,
}

impl Fetcher {
    pub(crate) fn new(options: FetchOptions) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(MAX_REDIRECTS)
            // To a host that only the hub names, the token does not go.
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .user_agent(AutoHeaderValue::Provided(std::sync::Arc::new(
                concat!("talkoot/", env!("CARGO_PKG_VERSION")).to_owned(),
            )))
            .timeout_resolve(Some(SILENCE))
            .timeout_connect(Some(SILENCE))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .build();
        Self { agent: config.into(), options }
    }
}

/// Why one try failed.
enum Trouble {
    /// It may work later, after a wait that the server may name.
    Passing { reason: String, wait: Option<Duration> },
    /// It will not.
    Lasting(FetchError),
}

impl From<FetchError> for Trouble {
    fn from(error: FetchError) -> Self {
        Self::Lasting(error)
    }
}

impl Fetcher {
    /// Asks for `url`; an answer that is no success is trouble.
    fn ask(
        &self,
        url: &str,
        token: bool,
        headers: &[(&str, String)],
    ) -> Result<ureq::http::Response<ureq::Body>, Trouble> {
        // Where plain HTTP is allowed it may lead on to plain HTTP; from TLS nothing leads back.
        let secure = url.starts_with("https://");
        let mut request = self.agent.get(url).config().https_only(secure).build();
        if let Some(token) = self.options.token.as_ref().filter(|_| token) {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let answer = request.call().map_err(|error| trouble_of(url, error))?;
        match answer.status().as_u16() {
            200 | 206 | 416 => Ok(answer),
            status @ (408 | 425 | 429 | 500..=599) => {
                let wait =
                    answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
                let wait = wait.map(|seconds| Duration::from_secs(seconds).min(Patience::LONGEST));
                Err(Trouble::Passing { reason: format!("the server says {status}"), wait })
            }
            status => {
                let remedy = match status {
                    401 | 403 => "set HF_TOKEN to a token that may read it, and accept its terms on the hub",
                    404 | 410 => "correct the address",
                    _ => "look at the address in a browser",
                };
                Err(FetchError::Refused { url: url.to_owned(), status, remedy }.into())
            }
        }
    }

    /// Tries until it works, or cannot; `tried` tells whether anything came.
    fn patiently<T>(
        &self,
        url: &str,
        mut one_try: impl FnMut(&mut bool) -> Result<T, Trouble>,
    ) -> Result<T, FetchError> {
        let Patience { attempts, .. } = self.options.patience;
        let mut failures = 0;
        loop {
            let mut came = false;
            let (reason, wait) = match one_try(&mut came) {
                Ok(done) => return Ok(done),
                Err(Trouble::Lasting(error)) => return Err(error),
                Err(Trouble::Passing { reason, wait }) => (reason, wait),
            };
            failures = if came { 1 } else { failures + 1 };
            if failures >= attempts {
                return Err(FetchError::GivenUp { url: url.to_owned(), attempts, reason });
            }
            tracing::warn!(%url, %reason, failures, "trying again");
            std::thread::sleep(wait.unwrap_or_else(|| self.options.patience.wait(failures)));
        }
    }
}

fn trouble_of(url: &str, error: ureq::Error) -> Trouble {
    use ureq::Error;
    let reason = error.to_string();
    match error {
        Error::BadUri(_) | Error::Http(_) => FetchError::Address { address: url.to_owned(), reason }.into(),
        Error::TooManyRedirects | Error::RedirectFailed | Error::RequireHttpsOnly(_) => {
            FetchError::Mismatch {
                url: url.to_owned(),
                reason: format!("it does not lead to a file: {reason}"),
            }
            .into()
        }
        _ => Trouble::Passing { reason, wait: None },
    }
}

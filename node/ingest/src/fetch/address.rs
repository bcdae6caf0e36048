//! What an address says.

use ureq::http::Uri;

use super::FetchError;

/// An address of something to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// A file on the web.
    Web(String),
    /// A file or folder of a data set on the hub.
    Hub {
        /// `owner/name`.
        dataset: String,
        /// Branch, tag or commit.
        revision: String,
        /// The path in the data set; empty for all of it.
        path: String,
    },
}

impl Address {
    /// Reads an address; `None` when `text` has none of the schemes, so is a path.
    pub(crate) fn parse(text: &str) -> Option<Result<Self, FetchError>> {
        let wrong =
            |reason: String| Err(FetchError::Address { address: text.chars().take(200).collect(), reason });
        let (scheme, rest) = text.split_once("://")?;
        Some(match scheme {
            "https" | "http" => check_web(text).map(|()| Self::Web(text.to_owned())).or_else(wrong),
            "hf" => hub(rest).or_else(wrong),
            _ => wrong(format!("the scheme {scheme:?} is not known")),
        })
    }

    /// The last part of its path: what a file or folder is called.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Web(url) => {
                let path = url.parse::<Uri>().map_or_else(|_| String::new(), |uri| uri.path().to_owned());
                path.rsplit('/').find(|part| !part.is_empty()).unwrap_or("records").to_owned()
            }
            Self::Hub { dataset, .. } => dataset.rsplit('/').next().unwrap_or("records").to_owned(),
        }
    }
}

/// Whether this address may be fetched from: TLS, or this machine.
pub(super) fn check_web(url: &str) -> Result<(), String> {
    let uri: Uri = url.parse().map_err(|error: ureq::http::uri::InvalidUri| error.to_string())?;
    let authority = uri.authority().ok_or("it names no host")?;
    if authority.as_str().contains('@') {
        return Err("it has a name or password in it, which would end up in the list".into());
    }
    let local = matches!(authority.host(), "127.0.0.1" | "localhost" | "[::1]");
    if uri.scheme_str() == Some("http") && !local {
        return Err("plain http can be changed on the way".into());
    }
    Ok(())
}

fn hub(rest: &str) -> Result<Address, String> {
    let rest = rest.strip_prefix("datasets/").ok_or("only hf://datasets/… is known")?;
    let mut parts = rest.trim_end_matches('/').splitn(3, '/');
    let (owner, name) = (parts.next().unwrap_or(""), parts.next().ok_or("it needs an owner and a name")?);
    let (name, revision) = name.split_once('@').unwrap_or((name, "main"));
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    if !plain(owner) || !plain(name) {
        return Err(format!("{owner:?} and {name:?} are no owner and name"));
    }
    // A branch whose name has a slash is written with %2F.
    let revision = revision.replace("%2F", "/").replace("%2f", "/");
    if revision.is_empty() || revision.split('/').any(|part| part.is_empty() || part.starts_with('.')) {
        return Err(format!("{revision:?} is no revision"));
    }
    let path = parts.next().unwrap_or("").to_owned();
    if path.split('/').any(|part| part == ".." || part == ".") {
        return Err(format!("{path:?} leaves the data set"));
    }
    Ok(Address::Hub { dataset: format!("{owner}/{name}"), revision, path })
}

/// `text` as part of an address: everything but letters, digits and `-._~` as `%XX`, and slashes where `slashes`.
pub(super) fn encoded(text: &str, slashes: bool) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            b'/' if slashes => out.push('/'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_paths_and_taken_apart() {
        assert!(Address::parse("mine/records.jsonl").is_none());
        let hub = |text: &str| match Address::parse(text).unwrap().unwrap() {
            Address::Hub { dataset, revision, path } => (dataset, revision, path),
            other => panic!("{other:?}"),
        };
        let wanted = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        assert_eq!(hub("hf://datasets/a/b"), wanted("a/b", "main", ""));
        assert_eq!(hub("hf://datasets/a/b@v1/data/x y.parquet"), wanted("a/b", "v1", "data/x y.parquet"));
        assert_eq!(hub("hf://datasets/a/b@refs%2Fpr%2F1/"), wanted("a/b", "refs/pr/1", ""));
        assert_eq!(encoded("data/x y.parquet", true), "data/x%20y.parquet");
        assert_eq!(Address::parse("https://example.org/a/b.tar?x=1").unwrap().unwrap().name(), "b.tar");
    }

    #[test]
    fn addresses_that_are_not_safe_or_not_known_are_refused_with_the_reason() {
        for (text, reason) in [
            ("http://example.org/a.tar", "plain http"),
            ("https://user:secret@example.org/a.tar", "password"),
            ("ftp://example.org/a.tar", "scheme"),
            ("hf://models/a/b", "datasets"),
            ("hf://datasets/a", "owner and a name"),
            ("hf://datasets/../b", "no owner"),
            ("hf://datasets/a/b@/x", "no revision"),
            ("hf://datasets/a/b/../../c", "leaves"),
        ] {
            let error = Address::parse(text).unwrap().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
        assert!(Address::parse("http://127.0.0.1:8000/a.tar").unwrap().is_ok());
    }
}

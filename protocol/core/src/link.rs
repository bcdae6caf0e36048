//! The join link: all that a newcomer needs, in one line of text.
//!
//! `talkoot:<run id>@<multiaddr>,<multiaddr>...`, each address ending in `/p2p/<peer id>`, or `talkoot:<run id>@lan` for
//! whom the local network is enough. The run id is the hash of the manifest, so that the addresses need not be trusted:
//! whoever answers with another manifest is refused.

use std::{fmt, str::FromStr};

use crate::manifest::RunId;

/// Greatest number of addresses in a link.
pub const MAX_ADDRESSES: usize = 16;

/// Longest link in bytes: the run id, the addresses, and what stands between them.
pub const MAX_LINK_BYTES: usize = 128 + MAX_ADDRESSES * (MAX_ADDRESS_BYTES + 1);

/// In the place of addresses: members are looked for on the local network.
const LAN: &str = "lan";

/// Greatest length of an address in bytes.
const MAX_ADDRESS_BYTES: usize = 256;

/// A run and where somebody can be met who follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinLink {
    /// The run.
    pub run: RunId,
    /// Addresses of members, as multiaddr text; without any, members are looked for on the local network.
    pub addresses: Vec<String>,
}

/// The text is not a join link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a join link ({reason}); it is written talkoot:<run id>@<address>,<address>..., got {got:?}")]
pub struct ParseLinkError {
    reason: &'static str,
    got: String,
}

impl fmt::Display for JoinLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses = if self.addresses.is_empty() { LAN.to_owned() } else { self.addresses.join(",") };
        write!(f, "talkoot:{}@{addresses}", self.run)
    }
}

impl FromStr for JoinLink {
    type Err = ParseLinkError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let wrong = |reason| ParseLinkError { reason, got: text.chars().take(120).collect() };
        if text.len() > MAX_LINK_BYTES {
            return Err(wrong("it is too long"));
        }
        let rest = text.strip_prefix("talkoot:").ok_or_else(|| wrong("it does not start with talkoot:"))?;
        let (run, addresses) = rest.split_once('@').ok_or_else(|| wrong("it has no @"))?;
        let run = run.parse().map_err(|_| wrong("its run id is not 64 hexadecimal digits"))?;
        if addresses == LAN {
            return Ok(Self { run, addresses: Vec::new() });
        }
        let addresses: Vec<String> = addresses.split(',').map(str::to_owned).collect();
        if addresses.len() > MAX_ADDRESSES {
            return Err(wrong("it has more than 16 addresses"));
        }
        if addresses.iter().any(|address| !address.starts_with('/') || address.len() > MAX_ADDRESS_BYTES) {
            return Err(wrong("an address is not a multiaddr"));
        }
        Ok(Self { run, addresses })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::digest::Digest;

    #[test]
    fn a_link_round_trips_and_others_are_refused() {
        let link = JoinLink {
            run: Digest::of(b"run"),
            addresses: vec!["/ip4/127.0.0.1/udp/4001/quic-v1/p2p/12D3".to_owned()],
        };
        assert_eq!(link.to_string().parse::<JoinLink>(), Ok(link.clone()));
        for wrong in ["", "talkoot:", "talkoot:12@/ip4/1", &link.to_string().replace('@', "#")] {
            assert!(wrong.parse::<JoinLink>().is_err(), "{wrong}");
        }
        let run = Digest::of(b"run");
        let lan = JoinLink { run, addresses: Vec::new() };
        assert_eq!(lan.to_string(), format!("talkoot:{run}@lan"));
        assert_eq!(lan.to_string().parse::<JoinLink>(), Ok(lan));
        let many = vec!["/ip4/127.0.0.1"; MAX_ADDRESSES + 1].join(",");
        assert!(
            format!("talkoot:{run}@{many}")
                .parse::<JoinLink>()
                .unwrap_err()
                .to_string()
                .contains("more than 16")
        );
        let long = format!("talkoot:{run}@/{}", "x".repeat(MAX_LINK_BYTES));
        assert!(long.parse::<JoinLink>().unwrap_err().to_string().contains("too long"));
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_the_same(text in "talkoot:[0-9a-f]{64}@(lan|(/[a-z0-9/.]{1,40}(,/[a-z0-9/.]{1,40}){0,4}))") {
            prop_assert_eq!(text.parse::<JoinLink>().map(|link| link.to_string()), Ok(text));
        }

        #[test]
        fn no_text_makes_it_panic(text in "(talkoot:)?[0-9a-f]{0,70}@?\\PC{0,80}") {
            let _ = text.parse::<JoinLink>();
        }
    }
}

//! What a process says of itself on every connection, in identify's agent field.
//!
//! ```text
//! talkoot/0.1.0 bulk=41234 session=0f1e2d3c4b5a6978 seeder=1
//! ```
//!
//! `bulk` is the UDP port of the bulk plane. `session` is drawn at start: when a peer's session changes, its process was
//! restarted and connections of the old one are dead, however alive QUIC still thinks they are. `seeder` is left out by
//! everybody else. Identify is sent on each
//! connection by both sides at once, which a request-response exchange could not promise: that one picks a connection itself.

/// Longest agent text that is read, in bytes; ours has about 60.
const MAX_AGENT_BYTES: usize = 256;

/// The announcement of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hello {
    /// UDP port of the bulk plane, never 0.
    pub(crate) bulk_port: u16,
    /// Drawn at start.
    pub(crate) session: u64,
    /// Whether it fetches for others what they cannot reach.
    pub(crate) seeder: bool,
}

impl Hello {
    /// The agent text.
    pub(crate) fn to_agent(self) -> String {
        let Self { bulk_port, session, seeder } = self;
        let seeder = if seeder { " seeder=1" } else { "" };
        format!("talkoot/{} bulk={bulk_port} session={session:016x}{seeder}", env!("CARGO_PKG_VERSION"))
    }

    /// Reads an agent text; words it does not know are left for later versions.
    pub(crate) fn from_agent(agent: &str) -> Option<Self> {
        if agent.len() > MAX_AGENT_BYTES {
            return None;
        }
        let mut words = agent.split(' ');
        words.next()?.strip_prefix("talkoot/")?;
        let (mut bulk_port, mut session, mut seeder) = (None, None, false);
        for word in words {
            match word.split_once('=')? {
                ("bulk", port) => bulk_port = Some(port.parse().ok().filter(|port| *port != 0)?),
                ("session", digits) if digits.len() == 16 => {
                    session = Some(u64::from_str_radix(digits, 16).ok()?);
                }
                ("session", _) => return None,
                ("seeder", yes) => seeder = yes == "1",
                _ => {}
            }
        }
        Some(Self { bulk_port: bulk_port?, session: session?, seeder })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_announcement_without_port_or_session_is_refused() {
        assert!(Hello::from_agent("talkoot/0.1.0 bulk=1 session=0000000000000001 later=yes").is_some());
        for bad in [
            "",
            "rust-libp2p/0.48.0",
            "talkoot/0.1.0",
            "talkoot/0.1.0 bulk=1",
            "talkoot/0.1.0 session=0000000000000001",
            "talkoot/0.1.0 bulk=0 session=0000000000000001",
            "talkoot/0.1.0 bulk=65536 session=0000000000000001",
            "talkoot/0.1.0 bulk=1 session=1",
        ] {
            assert_eq!(Hello::from_agent(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_said_is_heard(bulk_port in 1u16.., session: u64, seeder: bool) {
            let hello = Hello { bulk_port, session, seeder };
            prop_assert_eq!(Hello::from_agent(&hello.to_agent()), Some(hello));
        }

        #[test]
        fn no_text_makes_it_panic(text in "(talkoot/)?\\PC{0,300}") {
            let _ = Hello::from_agent(&text);
        }
    }
}

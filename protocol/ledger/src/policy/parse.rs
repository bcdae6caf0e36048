//! Reading a policy, strictly: every line is understood or refused by its number.

use std::{collections::BTreeMap, str::FromStr};

use super::{Node, Policy, PolicyLog, PolicyWitness, Rule};
use crate::{
    encoding,
    note::{KeyError, KeyKind, VerifierKey},
};

/// The longest policy that is read, in bytes.
pub const MAX_POLICY_BYTES: usize = 64 * 1024;

/// The most logs, the most witnesses, and the most groups. The format asks for 32 at least; a note with all
/// of the witnesses' lines has to stay below the most signatures a note may carry.
pub const MAX_LINES_OF_A_KIND: usize = 64;

/// The name that demands nothing.
const NONE: &[u8] = b"none";

/// Why a text is no policy. Lines count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The text is longer than [`MAX_POLICY_BYTES`].
    #[error("the policy has {got} bytes, and at most {MAX_POLICY_BYTES} are read")]
    TooLong {
        /// Bytes found.
        got: usize,
    },
    /// A control character other than tab and newline.
    #[error("policy line {line}: control byte 0x{byte:02x}; only tab and newline are allowed")]
    ControlByte {
        /// The line.
        line: usize,
        /// The byte.
        byte: u8,
    },
    /// The first word is none of the four.
    #[error("policy line {line} starts with {got:?}, not with log, witness, group or quorum")]
    UnknownLine {
        /// The line.
        line: usize,
        /// Its first word.
        got: String,
    },
    /// There are too few or too many words.
    #[error("policy line {line} has to read `{form}`")]
    Form {
        /// The line.
        line: usize,
        /// How such a line reads.
        form: &'static str,
    },
    /// A key can't be read.
    #[error("policy line {line}: {source}")]
    Key {
        /// The line.
        line: usize,
        /// What is wrong with the key.
        source: KeyError,
    },
    /// A witness's key stands on a log's line, or the other way round.
    #[error("policy line {line}: the key of {name} is of the wrong type for this line")]
    WrongKind {
        /// The line.
        line: usize,
        /// The key's name.
        name: String,
    },
    /// The same public key stands on two lines of a kind.
    #[error("policy line {line} repeats the public key of line {first}: one key is one voice")]
    DuplicateKey {
        /// The line.
        line: usize,
        /// Where the key stood first.
        first: usize,
    },
    /// An address isn't UTF-8 and can't be used.
    #[error("policy line {line}: the address is not UTF-8")]
    BadUrl {
        /// The line.
        line: usize,
    },
    /// The name is taken, or is `none`.
    #[error("policy line {line} defines {name:?}, which is defined already or reserved")]
    NameTaken {
        /// The line.
        line: usize,
        /// The name.
        name: String,
    },
    /// The name isn't defined on a line before this one.
    #[error("policy line {line} names {name:?}, which no line before it defines")]
    UnknownName {
        /// The line.
        line: usize,
        /// The name.
        name: String,
    },
    /// The name is a member of a group already.
    #[error("policy line {line} uses {name:?} a second time: each counts in one group only")]
    UsedTwice {
        /// The line.
        line: usize,
        /// The name.
        name: String,
    },
    /// The threshold isn't any, all, or a number of 1 to the number of members.
    #[error("policy line {line}: the threshold {got:?} is not any, all, or a number of 1 to {members}")]
    BadThreshold {
        /// The line.
        line: usize,
        /// The word.
        got: String,
        /// Members of the group.
        members: usize,
    },
    /// More lines of a kind than are read.
    #[error("policy line {line}: more than {MAX_LINES_OF_A_KIND} lines of this kind")]
    TooMany {
        /// The line.
        line: usize,
    },
    /// There is no quorum line.
    #[error("the policy has no quorum line; `quorum none` demands nothing")]
    NoQuorum,
    /// There is a second quorum line.
    #[error("policy line {line} is a second quorum line")]
    SecondQuorum {
        /// The line.
        line: usize,
    },
}

impl Policy {
    /// Reads a policy. Pure, and safe on any bytes.
    ///
    /// # Errors
    ///
    /// [`PolicyError`], saying which line is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, PolicyError> {
        if bytes.len() > MAX_POLICY_BYTES {
            return Err(PolicyError::TooLong { got: bytes.len() });
        }
        let mut reader = Reader::new();
        for (at, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
            reader.line = at + 1;
            reader.read(line)?;
        }
        match reader.quorum {
            Some(quorum) => Ok(Self { quorum, ..reader.policy }),
            None => Err(PolicyError::NoQuorum),
        }
    }
}

impl FromStr for Policy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        Self::parse(text.as_bytes())
    }
}

struct Reader {
    line: usize,
    policy: Policy,
    /// The outer option: whether there was a quorum line.
    quorum: Option<Option<usize>>,
    /// Which nodes are members of a group.
    used: Vec<bool>,
    /// Lines of the public keys, logs and witnesses apart.
    seen: BTreeMap<(bool, [u8; 32]), usize>,
    groups: usize,
}

impl Reader {
    fn new() -> Self {
        Self {
            line: 0,
            policy: Policy::none(),
            quorum: None,
            used: Vec::new(),
            seen: BTreeMap::new(),
            groups: 0,
        }
    }

    fn read(&mut self, text: &[u8]) -> Result<(), PolicyError> {
        let line = self.line;
        if let Some(&byte) = text.iter().find(|&&byte| (byte < 0x20 && byte != b'\t') || byte == 0x7f) {
            return Err(PolicyError::ControlByte { line, byte });
        }
        let words: Vec<&[u8]> =
            text.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty()).collect();
        match words.as_slice() {
            [] => Ok(()),
            [first, ..] if first.starts_with(b"#") => Ok(()),
            [b"log", key] => self.log(key, None),
            [b"log", key, url] => self.log(key, Some(url)),
            [b"log", ..] => Err(PolicyError::Form { line, form: "log <vkey> [<url>]" }),
            [b"witness", name, key] => self.witness(name, key, None),
            [b"witness", name, key, url] => self.witness(name, key, Some(url)),
            [b"witness", ..] => Err(PolicyError::Form { line, form: "witness <name> <vkey> [<url>]" }),
            [b"group", name, threshold, members @ ..] if !members.is_empty() => {
                self.group(name, threshold, members)
            }
            [b"group", ..] => Err(PolicyError::Form { line, form: "group <name> <any|all|k> <name>..." }),
            [b"quorum", name] => self.set_quorum(name),
            [b"quorum", ..] => Err(PolicyError::Form { line, form: "quorum <name>" }),
            [first, ..] => Err(PolicyError::UnknownLine { line, got: shown(first) }),
        }
    }

    fn log(&mut self, key: &[u8], url: Option<&&[u8]>) -> Result<(), PolicyError> {
        let (key, url) = (self.key(key, KeyKind::Log)?, self.url(url)?);
        self.expect_room(self.policy.logs.len())?;
        self.policy.logs.push(PolicyLog { key, url });
        Ok(())
    }

    fn witness(&mut self, name: &[u8], key: &[u8], url: Option<&&[u8]>) -> Result<(), PolicyError> {
        let (key, url) = (self.key(key, KeyKind::Cosigner)?, self.url(url)?);
        let place = self.policy.witnesses.len();
        self.expect_room(place)?;
        self.define(name, Rule::Witness(place))?;
        self.policy.witnesses.push(PolicyWitness { name: shown(name), key, url });
        Ok(())
    }

    fn group(&mut self, name: &[u8], threshold: &[u8], members: &[&[u8]]) -> Result<(), PolicyError> {
        self.expect_room(self.groups)?;
        let least = match threshold {
            b"any" => Some(1),
            b"all" => Some(members.len()),
            digits => std::str::from_utf8(digits)
                .ok()
                .and_then(encoding::decimal)
                .and_then(|least| usize::try_from(least).ok())
                .filter(|least| (1..=members.len()).contains(least)),
        };
        let (line, got) = (self.line, || shown(threshold));
        let least =
            least.ok_or_else(|| PolicyError::BadThreshold { line, got: got(), members: members.len() })?;
        let mut nodes = Vec::with_capacity(members.len().min(2 * MAX_LINES_OF_A_KIND));
        for member in members {
            let node = self.find(member)?;
            if std::mem::replace(&mut self.used[node], true) {
                return Err(PolicyError::UsedTwice { line, name: shown(member) });
            }
            nodes.push(node);
        }
        self.define(name, Rule::AtLeast(least, nodes))?;
        self.groups += 1;
        Ok(())
    }

    fn set_quorum(&mut self, name: &[u8]) -> Result<(), PolicyError> {
        if self.quorum.is_some() {
            return Err(PolicyError::SecondQuorum { line: self.line });
        }
        self.quorum = Some(if name == NONE { None } else { Some(self.find(name)?) });
        Ok(())
    }

    fn define(&mut self, name: &[u8], rule: Rule) -> Result<(), PolicyError> {
        if name == NONE || self.policy.nodes.iter().any(|node| node.name == name) {
            return Err(PolicyError::NameTaken { line: self.line, name: shown(name) });
        }
        self.policy.nodes.push(Node { name: name.to_owned(), rule });
        self.used.push(false);
        Ok(())
    }

    fn find(&self, name: &[u8]) -> Result<usize, PolicyError> {
        let unknown = || PolicyError::UnknownName { line: self.line, name: shown(name) };
        self.policy.nodes.iter().position(|node| node.name == name).ok_or_else(unknown)
    }

    fn key(&mut self, text: &[u8], kind: KeyKind) -> Result<VerifierKey, PolicyError> {
        let line = self.line;
        let text =
            std::str::from_utf8(text).map_err(|_| PolicyError::Key { line, source: KeyError::Malformed })?;
        let key: VerifierKey = text.parse().map_err(|source| PolicyError::Key { line, source })?;
        if !key.signs_as(kind) {
            return Err(PolicyError::WrongKind { line, name: key.name().to_owned() });
        }
        match self.seen.insert((kind == KeyKind::Log, key.public_bytes()), line) {
            Some(first) => Err(PolicyError::DuplicateKey { line, first }),
            None => Ok(key),
        }
    }

    fn url(&self, text: Option<&&[u8]>) -> Result<Option<String>, PolicyError> {
        let Some(text) = text else { return Ok(None) };
        match std::str::from_utf8(text) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(_) => Err(PolicyError::BadUrl { line: self.line }),
        }
    }

    const fn expect_room(&self, there: usize) -> Result<(), PolicyError> {
        if there >= MAX_LINES_OF_A_KIND {
            return Err(PolicyError::TooMany { line: self.line });
        }
        Ok(())
    }
}

/// A word for people, cut short.
fn shown(word: &[u8]) -> String {
    String::from_utf8_lossy(word).chars().take(80).collect()
}

//! A lying verifier for rehearsals: a run has to withstand it, so tests need somebody who tries.

use std::str::FromStr;

use talkoot_execution::Executed;
use talkoot_protocol::digest::Digest;

/// A way for a verifier to lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cheat {
    /// Says of honest work that its middle step is another one.
    Accuse,
    /// Says of everything that it passes, without looking.
    Stamp,
}

/// The text names no lie.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no such lie: {0:?}; there are accuse and stamp")]
pub struct ParseCheatError(String);

impl FromStr for Cheat {
    type Err = ParseCheatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "accuse" => Ok(Self::Accuse),
            "stamp" => Ok(Self::Stamp),
            other => Err(ParseCheatError(other.to_owned())),
        }
    }
}

impl Cheat {
    /// Makes the verifier's own account of a replay a false one: from the middle step on, with other states, too.
    pub(crate) fn falsify(self, executed: &mut Executed) {
        match self {
            Self::Stamp => {}
            Self::Accuse => {
                let middle = executed.trace.steps.len() / 2;
                let points: Vec<usize> = executed.trace.points().collect();
                for step in &mut executed.trace.steps[middle..] {
                    step.loss += 0.5;
                }
                for (point, digest) in points.into_iter().zip(&mut executed.trace.digests) {
                    if point > middle {
                        *digest = Digest::of(&[digest.as_bytes().as_slice(), b"made up"].concat());
                    }
                }
            }
        }
    }
}

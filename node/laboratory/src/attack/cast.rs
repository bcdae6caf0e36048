//! The attackers of a scenario, and how they decide.

use std::str::FromStr;

use rand::{Rng, RngExt as _};
use serde::{Deserialize, Serialize};

/// How a member cheats. What is sent is a lie that a replay finds: half of the steps, other data, an old or a copied
/// contribution, poison. The rules treat them alike, so that only *when* they lie matters here.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attacker {
    /// Lies in every round from its first.
    Lazy,
    /// Lies in one round of so many, drawn for each round.
    Sometimes {
        /// One in so many.
        one_in: u32,
    },
    /// Is honest for so many rounds and lies in every one after that.
    Sleeper {
        /// Honest rounds.
        honest: u64,
    },
    /// Lies in every round, and joins under a new name whenever it is excluded.
    Whitewasher,
}

impl Attacker {
    /// Its name in tables.
    pub fn name(self) -> String {
        match self {
            Self::Lazy => "lazy".to_owned(),
            Self::Sometimes { one_in } => format!("sometimes-{one_in}"),
            Self::Sleeper { honest } => format!("sleeper-{honest}"),
            Self::Whitewasher => "whitewasher".to_owned(),
        }
    }

    /// Whether it lies in the round that is its `age`th, counted from 0.
    pub(super) fn lies(self, age: u64, dice: &mut impl Rng) -> bool {
        match self {
            Self::Lazy | Self::Whitewasher => true,
            Self::Sometimes { one_in } => dice.random_range(0..one_in.max(1)) == 0,
            Self::Sleeper { honest } => age >= honest,
        }
    }
}

impl FromStr for Attacker {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |digits: &str| digits.parse().map_err(|_| format!("`{digits}` is no number"));
        match text.split_once('-') {
            Some(("sometimes", one_in)) => {
                let one_in = number(one_in)?;
                Ok(Self::Sometimes { one_in: u32::try_from(one_in).unwrap_or(u32::MAX).max(1) })
            }
            Some(("sleeper", honest)) => Ok(Self::Sleeper { honest: number(honest)? }),
            None if text == "lazy" => Ok(Self::Lazy),
            None if text == "whitewasher" => Ok(Self::Whitewasher),
            _ => Err(format!("no attacker `{text}`; there are lazy, whitewasher, sometimes-N, sleeper-N")),
        }
    }
}

/// What kind of verifiers a scenario has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verifiers {
    /// Who find what there is.
    pub honest: usize,
    /// Who say that everything passes.
    pub stamping: usize,
    /// Who say of every twentieth honest contribution that they draw that it fails.
    pub accusing: usize,
}

//! `talkoot lab`: experiments before anybody lends a GPU.

mod attack;
mod converge;
mod exchange;
mod log;
mod member;
mod wan;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

pub(super) use self::member::program;

/// What can be tried.
#[derive(Debug, Subcommand)]
pub(crate) enum Lab {
    /// Whether members who exchange contributions learn as well as one machine would: trains small models in many ways.
    Converge(converge::Converge),
    /// Who is caught, when, and at what price: a run of a thousand members on the real rules, some of whom lie.
    Attack(attack::Attack),
    /// The ledger of a simulated run, for measuring what reads it.
    Log(log::Log),
    /// A round among emulated home lines: everybody's contribution to everybody. Needs root, as it makes network namespaces.
    Wan(wan::Wan),
    /// A process of a laboratory, told what to do line by line.
    #[command(hide = true)]
    Member(member::Member),
    /// A process of an exchange, told what to do line by line.
    #[command(hide = true)]
    Exchange(exchange::Exchange),
}

impl Lab {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            Self::Converge(converge) => converge.run(),
            Self::Attack(attack) => attack.run(),
            Self::Log(log) => log.run(),
            Self::Wan(wan) => wan.run(),
            Self::Member(member) => member.run(),
            Self::Exchange(exchange) => exchange.run(),
        }
    }
}

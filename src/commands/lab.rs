//! `talkoot lab`

mod exchange;
mod member;
mod wan;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

pub(super) use self::member::program;

/// Experiments that anybody can rerun.
#[derive(Debug, Subcommand)]
pub(crate) enum Lab {
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
            Self::Wan(wan) => wan.run(),
            Self::Member(member) => member.run(),
            Self::Exchange(exchange) => exchange.run(),
        }
    }
}

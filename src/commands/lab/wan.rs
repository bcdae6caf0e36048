//! `talkoot lab wan`

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Args;
use talkoot_netlab::{
    World,
    wan::{WanFigures, WanShape, round},
};

use super::member::program;
use crate::commands::{say, tell};

/// A round among emulated home lines.
#[derive(Debug, Args)]
pub(crate) struct Wan {
    /// Members at home.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(2..=64))]
    members: u16,
    /// Members whose lines are there for others.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(0..=16))]
    seeders: u16,
    /// Length of each contribution, in 10^6 bytes.
    #[arg(long, default_value_t = 4.0, value_name = "MB")]
    contribution_mb: f64,
    /// Mbit/s up of the slowest member.
    #[arg(long, default_value_t = 20.0, value_name = "MBIT")]
    up_from: f64,
    /// Mbit/s up of the fastest member.
    #[arg(long, default_value_t = 100.0, value_name = "MBIT")]
    up_to: f64,
    /// How much faster the way down is.
    #[arg(long, default_value_t = 3.0)]
    down_factor: f64,
    /// Mbit/s of a seeder.
    #[arg(long, default_value_t = 1000.0, value_name = "MBIT")]
    seeder_mbit: f64,
    /// Round trip between any two, in milliseconds.
    #[arg(long, default_value_t = 50.0)]
    trip_ms: f64,
    /// Share of packets that chance takes, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    loss: f64,
    /// Says which packets are lost, and what the contributions hold.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl Wan {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let numbers = [self.contribution_mb, self.up_from, self.up_to, self.down_factor, self.seeder_mbit];
        ensure!(numbers.iter().all(|number| *number > 0.0), "rates and sizes have to be above zero");
        ensure!(self.up_from <= self.up_to, "--up-from has to be at most --up-to");
        ensure!((0.0..1.0).contains(&self.loss), "--loss is a share: 0 or more, below 1");
        if let Err(error) = World::possible() {
            tell(&format!("talkoot: {error}; nothing was measured"));
            return Ok(ExitCode::SUCCESS);
        }
        let shape = WanShape {
            members: self.members.into(),
            seeders: self.seeders.into(),
            contribution_bytes: (self.contribution_mb * 1e6) as u64,
            up_mbit: (self.up_from, self.up_to),
            down_factor: self.down_factor,
            seeder_mbit: self.seeder_mbit,
            trip_ms: self.trip_ms,
            loss: self.loss,
            seed: self.seed,
        };
        let figures = round(&program("member")?, shape)?;
        if self.json {
            say(&serde_json::to_string(&figures)?);
        } else {
            print(&figures);
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn print(figures: &WanFigures) {
    let shape = &figures.shape;
    say(&format!(
        "{} members, {} seeders, {:.1} MB each: {:.1} s ({:.2} times the bound of {:.1} s)",
        shape.members,
        shape.seeders,
        shape.contribution_bytes as f64 / 1e6,
        figures.seconds,
        figures.over_bound,
        figures.bound_seconds
    ));
    for member in &figures.each {
        say(&format!(
            "  {:5.0} Mbit/s up   {:6.1} s   sent {:5.2} contributions, received {:6.1} MB, {} packets dropped in its queue",
            member.up_mbit,
            member.seconds,
            member.contributions_sent,
            member.down_bytes as f64 / 1e6,
            member.queue_dropped
        ));
    }
}

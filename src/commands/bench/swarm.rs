//! `talkoot bench swarm`

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Args;
use talkoot_netlab::{
    World,
    flows::{LineFigures, LineShape, LoopbackFigures, line, loopback},
    member::Flow,
};

use talkoot_replica::exchange::{Encoding, ExchangeFigures, ExchangeShape, measure};

use super::emit;
use crate::commands::{lab::program, say, tell};

/// The flows that are set beside one another.
const FLOWS: [Flow; 3] = [Flow::Tcp, Flow::Quic, Flow::Swarm];

/// The blob swarm beside plain TCP and one plain QUIC stream of CUBIC.
#[derive(Debug, Args)]
pub(crate) struct Swarm {
    /// Over an emulated line instead of loopback. Needs root, as it makes network namespaces.
    #[arg(long)]
    line: bool,
    /// The exchange of a round among processes on loopback instead: encode, fetch from one another, aggregate.
    #[arg(long, conflicts_with = "line")]
    round: bool,
    /// Processes of the exchange.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(2..=32))]
    peers: u8,
    /// Parameters of the exchange.
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    parameters: u64,
    /// Mbit/s of the line.
    #[arg(long, default_value_t = 100.0, value_name = "MBIT")]
    mbit: f64,
    /// Round trip of the line, in milliseconds.
    #[arg(long, default_value_t = 50.0)]
    trip_ms: f64,
    /// Shares of packets that chance takes, 0 to 1, each measured.
    #[arg(long, value_delimiter = ',', default_values_t = [0.0, 0.001, 0.01])]
    loss: Vec<f64>,
    /// Queue of the line in bytes; one bandwidth-delay product when left out.
    #[arg(long)]
    queue_bytes: Option<u64>,
    /// Seconds of each flow over the line.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// MiB of each flow over loopback.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    mib: u64,
    /// How often each is measured, in turn.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    times: u64,
    /// Only this flow: tcp, quic or swarm.
    #[arg(long, value_parser = flow)]
    only: Option<Flow>,
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
}

fn flow(name: &str) -> Result<Flow, String> {
    serde_json::from_value(name.into()).map_err(|_| "choose tcp, quic or swarm".to_owned())
}

impl Swarm {
    pub(crate) fn run(self) -> Result<ExitCode> {
        ensure!(
            self.mbit > 0.0 && self.trip_ms >= 0.0 && self.seconds > 0.0,
            "rates and times have to be above zero"
        );
        ensure!(
            self.loss.iter().all(|loss| (0.0..1.0).contains(loss)),
            "--loss is a share: 0 or more, below 1"
        );
        let flows: Vec<Flow> =
            FLOWS.into_iter().filter(|flow| self.only.is_none_or(|only| only == *flow)).collect();
        match (self.line, self.round) {
            (true, _) => self.lines(&flows),
            (_, true) => self.exchange(),
            _ => self.loopback(&flows),
        }
    }

    fn exchange(&self) -> Result<ExitCode> {
        let rounds = u32::try_from(self.times)?;
        for encoding in Encoding::ALL {
            let shape = ExchangeShape { peers: self.peers, parameters: self.parameters, encoding, rounds };
            let mut written = Ok(());
            measure(program("exchange")?, shape, |figures| {
                if self.json {
                    written = emit(figures);
                } else {
                    print_exchange(figures);
                }
            })?;
            written?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn loopback(&self, flows: &[Flow]) -> Result<ExitCode> {
        let program = program("member")?;
        for _ in 0..self.times {
            for flow in flows {
                let figures = loopback(&program, *flow, self.mib << 20)?;
                if self.json { emit(&figures)? } else { print_loopback(&figures) }
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    fn lines(&self, flows: &[Flow]) -> Result<ExitCode> {
        if let Err(error) = World::possible() {
            tell(&format!("talkoot: {error}; nothing was measured"));
            return Ok(ExitCode::SUCCESS);
        }
        let program = program("member")?;
        for loss in &self.loss {
            for seed in 1..=self.times {
                let shape = LineShape {
                    mbit: self.mbit,
                    trip_ms: self.trip_ms,
                    loss: *loss,
                    queue_bytes: self.queue_bytes,
                    seed,
                };
                for flow in flows {
                    let figures = line(&program, *flow, shape, self.seconds)?;
                    if self.json { emit(&figures)? } else { print_line(&figures) }
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn print_loopback(figures: &LoopbackFigures) {
    let cpu = figures.cpu_s_per_gib.map(|cpu| format!(", {cpu:.2} s of processor a GiB")).unwrap_or_default();
    say(&format!("{:5}  {:7.1} MB/s{cpu}", format!("{:?}", figures.flow), figures.mb_per_s));
}

fn print_exchange(figures: &ExchangeFigures) {
    let cpu = figures.cpu_s.map(|cpu| format!(", {cpu:.2} s of processor")).unwrap_or_default();
    say(&format!(
        "{:7} round {}: {:.3} s{cpu}, {:.3} bytes a parameter and peer, {}, {:.1e} from the true mean",
        format!("{:?}", figures.shape.encoding),
        figures.round,
        figures.seconds,
        figures.bytes_per_parameter,
        if figures.equal { "all the same bits" } else { "NOT THE SAME BITS" },
        figures.relative_error
    ));
}

fn print_line(figures: &LineFigures) {
    say(&format!(
        "{:5}  {:4.1} % lost by chance: {:6.1} Mbit/s, {:5.1} % of the line; {:.2} % of {} packets dropped by the queue",
        format!("{:?}", figures.flow),
        figures.line.loss * 100.0,
        figures.goodput_mbit,
        figures.share * 100.0,
        figures.queue_dropped_share * 100.0,
        figures.packets
    ));
}

//! `talkoot lab converge`

use std::{fs, io::Write as _, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::Args;
use talkoot_laboratory::{
    Material,
    converge::{Curve, Method, Size, Trial, summarise, table, write_plots},
};
use talkoot_trainer::moments::MomentFormat;

use crate::commands::say;

/// Trains the same small model from the same start on the same data in several ways, and compares what they reach.
///
/// All combinations of the lists are tried. A trial is a function of its options and seed: the same numbers everywhere.
#[derive(Debug, Args)]
pub(crate) struct Converge {
    /// Ways to train together: synchronous, diloco, carried, fresh, public, public-second.
    #[arg(long, value_delimiter = ',', default_value = "synchronous,diloco,carried,fresh,public")]
    methods: Vec<Method>,
    /// Models: tiny (a quarter of a million parameters), demo (a million).
    #[arg(long, value_delimiter = ',', default_value = "tiny")]
    sizes: Vec<Size>,
    /// Members.
    #[arg(long, value_delimiter = ',', value_name = "N", default_value = "4")]
    members: Vec<usize>,
    /// Inner steps of a round.
    #[arg(long = "inner-steps", short = 'H', value_delimiter = ',', value_name = "H", default_value = "30")]
    inner_steps: Vec<usize>,
    /// Inner steps of one member over all rounds; a multiple of every H.
    #[arg(long, value_name = "N", default_value_t = 480)]
    steps: usize,
    /// Packs of a member's inner step.
    #[arg(long, value_name = "N", default_value_t = 2)]
    packs: usize,
    /// Seeds.
    #[arg(long, value_delimiter = ',', value_name = "N", default_value = "1,2,3")]
    seeds: Vec<u64>,
    /// One member's work is lost in every round.
    #[arg(long)]
    lossy: bool,
    /// Members take 1, 3/4, 1/2 and 1/4 of H, in turn.
    #[arg(long)]
    uneven: bool,
    /// Entries kept of every chunk.
    #[arg(long, value_name = "K", default_value_t = 64)]
    k: u32,
    /// Parameters that are compressed together.
    #[arg(long, value_name = "N", default_value_t = 4096)]
    chunk: u32,
    /// Bits of a kept value.
    #[arg(long, value_name = "BITS", default_value_t = 2)]
    bits: u8,
    /// How the inner optimiser's moments are held: f32, 8bit.
    #[arg(long, value_delimiter = ',', value_name = "FORMAT", default_value = "f32")]
    moments: Vec<MomentFormat>,
    /// Training pictures that are drawn.
    #[arg(long, value_name = "N", default_value_t = 1500)]
    pictures: usize,
    /// Folder for `trials.jsonl`, one trial a line, the table and the plots. Trials that are there already are not
    /// tried again.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Print one JSON object for each summary instead of the table.
    #[arg(long)]
    json: bool,
}

impl Converge {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let material = Material::make(self.pictures, 1)?;
        let trials = self.trials();
        let mut curves = self.earlier()?;
        let bar = indicatif::ProgressBar::new(trials.len() as u64).with_message("trials");
        for trial in trials {
            if !curves.iter().any(|curve| curve.trial == trial) {
                let curve = trial.run(&material, |_| ()).with_context(|| format!("{trial:?}"))?;
                self.keep(&curve)?;
                curves.push(curve);
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        let summaries = summarise(&curves);
        if let Some(folder) = &self.out {
            fs::write(folder.join("table.md"), table(&summaries))?;
            write_plots(&curves, folder)?;
        }
        if self.json {
            for summary in &summaries {
                say(&serde_json::to_string(summary)?);
            }
        } else {
            say(table(&summaries).trim_end());
        }
        Ok(ExitCode::SUCCESS)
    }

    fn trials(&self) -> Vec<Trial> {
        let mut trials = Vec::new();
        for &seed in &self.seeds {
            for &size in &self.sizes {
                for &members in &self.members {
                    for &inner_steps in &self.inner_steps {
                        let ways = self
                            .methods
                            .iter()
                            .flat_map(|&method| self.moments.iter().map(move |&moments| (method, moments)));
                        trials.extend(ways.map(|(method, moments)| Trial {
                            method,
                            size,
                            members,
                            inner_steps,
                            total_steps: self.steps,
                            packs_per_step: self.packs,
                            seed,
                            lossy: self.lossy,
                            uneven: self.uneven,
                            chunk: self.chunk,
                            k: self.k,
                            bits: self.bits,
                            moments,
                        }));
                    }
                }
            }
        }
        trials
    }

    /// Trials that an earlier call has written.
    fn earlier(&self) -> Result<Vec<Curve>> {
        let Some(folder) = &self.out else { return Ok(Vec::new()) };
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let path = folder.join("trials.jsonl");
        if !path.exists() {
            return Ok(Vec::new());
        }
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let lines = text.lines().enumerate().map(|(number, line)| {
            serde_json::from_str(line).with_context(|| {
                format!("line {} of {} is no trial: remove it, or the file", number + 1, path.display())
            })
        });
        lines.collect()
    }

    fn keep(&self, curve: &Curve) -> Result<()> {
        let Some(folder) = &self.out else { return Ok(()) };
        let path = folder.join("trials.jsonl");
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&path)?;
        writeln!(file, "{}", serde_json::to_string(curve)?)
            .with_context(|| format!("writing {}", path.display()))
    }
}

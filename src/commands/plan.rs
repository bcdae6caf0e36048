//! `talkoot plan`

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;
use talkoot_cuda::plan::{on_gpu, slab_of};
use talkoot_execution::{codec_settings, modules_of, parse_config};
use talkoot_protocol::manifest::{self, Manifest, Stage, Terms};
use talkoot_trainer::{
    config::ModelConfig,
    contribution::CodecSettings,
    modules::Module,
    moments::MomentFormat,
    plan::{self, Answer, Budget, Class, Device, Load, MODELS, OnHost, Rates, Task, Values, Wishes},
};

use super::{positive, read_file, say};

/// Says what a training step needs before anybody joins: memory item by item, operations, and the cheapest setting that
/// fits. Of a GPU's memory it is what the code that trains takes there, to the byte; nothing of it was yet run on one.
///
/// Exit code 0 it fits, or nothing was asked; 1 no setting fits.
#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// A model by name: demo, mid, wide, small, 1b, 4b or 8b.
    #[arg(long, value_name = "NAME", required_unless_present = "model")]
    preset: Option<String>,
    /// A model by its config.json, or by a folder that holds one.
    #[arg(long, value_name = "PATH", conflicts_with = "preset")]
    model: Option<PathBuf>,
    /// Terms of a run as TOML, or its manifest as it is hashed: what they say of stages and codec is taken from there.
    #[arg(long, value_name = "FILE")]
    terms: Option<PathBuf>,
    /// The stage: alignment (the merger alone), mid-training or instruct (everything), or a name from the terms.
    #[arg(long, default_value = "instruct")]
    stage: String,
    /// Packs of a step; those of the terms, or 4.
    #[arg(long, value_name = "N")]
    packs: Option<u32>,
    /// Tokens of a pack; those of the terms, or 8192.
    #[arg(long, value_name = "N")]
    tokens: Option<u32>,
    /// Share of a pack's tokens that are pictures'.
    #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
    pictures: f64,
    /// What computes.
    #[arg(long, value_enum, default_value = "gpu")]
    device: DeviceName,
    /// Memory of the GPU, or of the host where there is none, as 16GiB or 24GB.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    memory: Option<u64>,
    /// Memory of the host beside a GPU.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    host_memory: Option<u64>,
    #[command(flatten)]
    wishes: WishArguments,
    #[command(flatten)]
    rates: RateArguments,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What is fixed; anything else is chosen.
#[derive(Debug, Args)]
struct WishArguments {
    /// Only this class of numbers.
    #[arg(long, value_enum)]
    class: Option<ClassName>,
    /// Only with moments of this type; what terms say unless this is given.
    #[arg(long, value_enum)]
    moments: Option<MomentName>,
    /// Only with these in the host's memory: nothing, or some of moments, gradients and values with commas between.
    #[arg(long, value_name = "LIST")]
    offload: Option<OnHost>,
    /// What the weights are that the stage does not train: bf16 numbers, as in checkpoints that were released, or any (f32).
    #[arg(long, value_enum, default_value = "bf16")]
    frozen: ValueName,
}

/// What settings of a GPU are compared with; no promise of speed.
#[derive(Debug, Args)]
struct RateArguments {
    /// TFLOP/s that the GPU sustains in bf16.
    #[arg(long, value_name = "TFLOPS", default_value_t = 80.0, value_parser = positive)]
    fast_tflops: f64,
    /// TFLOP/s that the GPU sustains in f32.
    #[arg(long, value_name = "TFLOPS", default_value_t = 40.0, value_parser = positive)]
    exact_tflops: f64,
    /// GB/s between host and GPU.
    #[arg(long, value_name = "GB/s", default_value_t = 16.0, value_parser = positive)]
    bus: f64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DeviceName {
    Cpu,
    Gpu,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ClassName {
    Exact,
    Fast,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum MomentName {
    F32,
    #[value(name = "8bit")]
    EightBit,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ValueName {
    F32,
    Bf16,
}

/// The answer with what it is about.
#[derive(Serialize)]
struct Json<'a> {
    model: &'a str,
    parameters: u64,
    trained: u64,
    load: &'a Load,
    gpu_figures_were_run: bool,
    #[serde(flatten)]
    answer: &'a Answer,
}

/// What the terms or defaults say of a stage.
struct StageLoad {
    modules: Vec<Module>,
    packs: u32,
    tokens: u32,
    codec: CodecSettings,
    /// Decided by terms, where there are some.
    moments: Option<MomentFormat>,
}

impl Plan {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let (name, config) = self.config()?;
        let stage = self.stage_load()?;
        let load = Load::new(
            &config,
            self.packs.unwrap_or(stage.packs),
            self.tokens.unwrap_or(stage.tokens),
            self.pictures,
        )?;
        let task = Task::new(&config, &stage.modules, load, stage.codec)?;
        let (device, budget) = match self.device {
            DeviceName::Gpu => (Device::Gpu, Budget { device: self.memory, host: self.host_memory }),
            DeviceName::Cpu => {
                ensure!(self.host_memory.is_none(), "without a GPU, --memory is the host's");
                let threads = rayon::current_num_threads();
                (Device::Cpu { threads }, Budget { device: None, host: self.memory })
            }
        };
        let rehearsed = task.rehearse(device)?;
        let wishes = self.wishes.wishes();
        let wishes = Wishes { moments: wishes.moments.or(stage.moments), ..wishes };
        let memory = |setting: &plan::Setting| on_gpu(&task, setting);
        let answer = plan::answer(&rehearsed, &memory, wishes, budget, self.rates.rates())?;
        if self.json {
            let (parameters, trained) = task.parameters();
            let json = Json {
                model: &name,
                parameters,
                trained,
                load: task.load(),
                gpu_figures_were_run: false,
                answer: &answer,
            };
            say(&serde_json::to_string(&json)?);
        } else {
            say(&plan::page(&name, &task, &answer));
            if let Some(cheapest) = answer.cheapest.as_ref().filter(|_| device == Device::Gpu) {
                say(&format!(
                    "What a node is to take of the GPU at the start for the cheapest: --device-memory {}",
                    gibibytes(slab_of(&cheapest.need.device))
                ));
            }
        }
        Ok(ExitCode::from(u8::from(answer.cheapest.is_none())))
    }

    fn config(&self) -> Result<(String, ModelConfig)> {
        match (&self.preset, &self.model) {
            (Some(name), _) => {
                let config = plan::model(name)
                    .with_context(|| format!("no model {name:?}: choose {}", MODELS.join(", ")))?;
                Ok((name.clone(), config))
            }
            (None, Some(path)) => {
                let file = if path.is_dir() { path.join("config.json") } else { path.clone() };
                let config = parse_config(&read_file(&file)?)
                    .with_context(|| format!("reading {}", file.display()))?;
                Ok((path.display().to_string(), config))
            }
            (None, None) => bail!("name a model with --preset or --model"),
        }
    }

    fn stage_load(&self) -> Result<StageLoad> {
        let Some(path) = &self.terms else {
            let modules = match self.stage.as_str() {
                "alignment" => vec![Module::Merger],
                "mid-training" | "instruct" => Module::ALL.to_vec(),
                other => {
                    bail!("no stage {other:?}: choose alignment, mid-training or instruct, or give --terms")
                }
            };
            return Ok(StageLoad {
                modules,
                packs: 4,
                tokens: 8192,
                codec: CodecSettings::default(),
                moments: None,
            });
        };
        let terms = read_terms(path)?;
        let named = |stage: &&Stage| stage.name == self.stage;
        let stage = terms.stages.iter().find(named).with_context(|| {
            let names: Vec<&str> = terms.stages.iter().map(|stage| stage.name.as_str()).collect();
            format!("{} has no stage {:?}: choose {}", path.display(), self.stage, names.join(", "))
        })?;
        Ok(StageLoad {
            modules: modules_of(stage),
            packs: stage.packs_per_step,
            tokens: stage.sequence_tokens,
            codec: codec_settings(&terms.contribution),
            moments: Some(match stage.optimizer.moments {
                None | Some(manifest::MomentFormat::F32) => MomentFormat::F32,
                Some(manifest::MomentFormat::EightBit) => MomentFormat::EightBit,
            }),
        })
    }
}

/// Terms as people write them, or those of a manifest.
fn read_terms(path: &std::path::Path) -> Result<Terms> {
    let bytes = read_file(path)?;
    if let Ok(manifest) = Manifest::from_bytes(&bytes) {
        return Ok(manifest.terms);
    }
    let text = String::from_utf8(bytes)
        .ok()
        .with_context(|| format!("{} is neither terms as TOML nor a manifest", path.display()))?;
    Terms::from_toml(&text).with_context(|| path.display().to_string())
}

impl WishArguments {
    fn wishes(&self) -> Wishes {
        Wishes {
            class: self.class.map(|class| match class {
                ClassName::Exact => Class::Exact,
                ClassName::Fast => Class::Fast,
            }),
            moments: self.moments.map(|moments| match moments {
                MomentName::F32 => MomentFormat::F32,
                MomentName::EightBit => MomentFormat::EightBit,
            }),
            on_host: self.offload,
            frozen: match self.frozen {
                ValueName::F32 => Values::F32,
                ValueName::Bf16 => Values::Bf16,
            },
        }
    }
}

impl RateArguments {
    fn rates(&self) -> Rates {
        Rates {
            fast_flops: self.fast_tflops * 1e12,
            exact_flops: self.exact_tflops * 1e12,
            bus_bytes: self.bus * 1e9,
        }
    }
}

/// GiB for `--device-memory`, rounded up.
fn gibibytes(bytes: u64) -> String {
    format!("{:.2}", (bytes as f64 / f64::from(1 << 30) * 100.0).ceil() / 100.0)
}

/// Bytes with a unit.
fn parse_size(text: &str) -> Result<u64, String> {
    let units =
        [("KiB", 1u64 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("MB", 1_000_000), ("GB", 1_000_000_000)];
    let found = units.iter().find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes)));
    let wrong = || format!("{text:?} is no size: write it as 16GiB or 24GB");
    let (number, unit) = found.ok_or_else(wrong)?;
    let number: f64 = number.trim().parse().map_err(|_| wrong())?;
    // a machine with more than 2^50 bytes is a slip of the keyboard
    let bytes = number * unit as f64;
    if bytes > 0.0 && bytes <= (1u64 << 50) as f64 { Ok(bytes as u64) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_unit_and_are_sane() {
        assert_eq!(parse_size("16GiB"), Ok(16 << 30));
        assert_eq!(parse_size("1.5 GB"), Ok(1_500_000_000));
        for wrong in ["16", "GiB", "-1GiB", "0GiB", "NaNGiB", "infGiB", "9999999GiB"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}

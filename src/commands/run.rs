//! `talkoot run`

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::{Args, Subcommand};
use qrcode::{EcLevel, QrCode, render::unicode};
use talkoot_coordinator::{Folder, NewRun};
use talkoot_dataset::{DatasetManifest, Tokenizer};
use talkoot_protocol::{
    digest::{BlobRef, Digest},
    link::JoinLink,
    manifest::{DatasetBinding, Manifest, RunId, Stage, Terms},
};
use talkoot_trainer::{config::ModelConfig, huggingface, presets, state::State};

use super::{read_file, read_link, say, sum};

/// Makes a run, and exports its model.
#[derive(Debug, Subcommand)]
pub(crate) enum Run {
    /// Makes a run's folder: keys, blobs, and the ledger with the manifest as its first entry.
    Init(Init),
    /// Writes the last agreed state as a Hugging Face folder.
    Export(Export),
    /// Says the join link of a run that is being served, also as a QR code.
    Link(Link),
}

/// Says a run's join link.
#[derive(Debug, Args)]
pub(crate) struct Link {
    /// The run's folder, as its coordinator keeps it.
    #[arg(long)]
    dir: PathBuf,
    /// Draw it as a QR code, for phones and posters.
    #[arg(long)]
    qr: bool,
}

/// Makes a run's folder.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The folder to make.
    #[arg(long)]
    dir: PathBuf,
    /// The terms, as TOML.
    #[arg(long)]
    terms: PathBuf,
    /// The manifest of a stage's packed data, in the order of the stages; its shards lie beside it.
    #[arg(long, required = true, value_name = "MANIFEST")]
    dataset: Vec<PathBuf>,
    /// The tokenizer.json that the data was packed with.
    #[arg(long)]
    tokenizer: PathBuf,
    /// A Hugging Face folder to start from; without it a small model is made with fresh weights.
    #[arg(long)]
    model: Option<PathBuf>,
}

/// Exports the model of a run.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The run's folder, as its coordinator keeps it.
    #[arg(long)]
    dir: PathBuf,
    /// The folder to write.
    #[arg(long)]
    out: PathBuf,
}

impl Run {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            Self::Init(init) => {
                let text = std::fs::read_to_string(&init.terms)
                    .with_context(|| format!("reading {}", init.terms.display()))?;
                let terms = Terms::from_toml(&text).with_context(|| init.terms.display().to_string())?;
                let made = create(&NewFolder {
                    dir: &init.dir,
                    terms: terms.clone(),
                    datasets: &init.dataset,
                    tokenizer: &init.tokenizer,
                    model: init.model.as_deref(),
                    operator_seed: None,
                })?;
                say(&format!("run {}", made.run));
                for (stage, data) in terms.stages.iter().zip(&made.datasets) {
                    say(&describe_data(stage, data));
                }
                say(&format!("serve it with: talkoot coordinator --dir {}", init.dir.display()));
            }
            Self::Link(link) => {
                let text = format!("@{}", link.dir.join("link.txt").display());
                let joined = read_link(&text).context("the coordinator writes it when it starts")?;
                if link.qr {
                    say(&qr_code(&joined)?);
                }
                say(&joined.to_string());
            }
            Self::Export(export) => {
                let manifest = export_model(&export.dir, &export.out)?;
                say(&format!("{}: model of run {}", export.out.display(), manifest.id()));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The link as a QR code of half blocks, black on white whatever the terminal's colours.
fn qr_code(link: &JoinLink) -> Result<String> {
    const BLACK_ON_WHITE: &str = "\x1b[30;107m";
    const AS_BEFORE: &str = "\x1b[0m";
    let code = QrCode::with_error_correction_level(link.to_string(), EcLevel::L).map_err(|error| {
        anyhow!("the link does not fit into a QR code ({error}); start the coordinator on fewer addresses")
    })?;
    let blocks = code
        .render::<unicode::Dense1x2>()
        .dark_color(unicode::Dense1x2::Dark)
        .light_color(unicode::Dense1x2::Light)
        .build();
    let lines: Vec<_> = blocks.lines().map(|line| format!("{BLACK_ON_WHITE}{line}{AS_BEFORE}")).collect();
    Ok(lines.join("\n"))
}

/// What a run's folder is made from.
pub(crate) struct NewFolder<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) terms: Terms,
    pub(crate) datasets: &'a [PathBuf],
    pub(crate) tokenizer: &'a Path,
    pub(crate) model: Option<&'a Path>,
    pub(crate) operator_seed: Option<[u8; 32]>,
}

/// A run that was made.
pub(crate) struct Made {
    pub(crate) run: RunId,
    /// What its stages' data are bound to.
    pub(crate) datasets: Vec<DatasetBinding>,
}

/// Makes a run's folder.
pub(crate) fn create(new: &NewFolder<'_>) -> Result<Made> {
    let tokenizer_bytes = read_file(new.tokenizer)?;
    let tokenizer = Tokenizer::from_bytes(&tokenizer_bytes)?;
    ensure!(
        new.datasets.len() == new.terms.stages.len(),
        "the terms have {} stages, but {} data sets are given with --dataset",
        new.terms.stages.len(),
        new.datasets.len()
    );
    let mut bindings = Vec::new();
    let mut files = Vec::new();
    for (path, stage) in new.datasets.iter().zip(&new.terms.stages) {
        let bytes = read_file(path)?;
        let index = DatasetManifest::from_bytes(&bytes).with_context(|| path.display().to_string())?.index;
        ensure!(
            index.tokenizer.digest == tokenizer.blob().digest,
            "{} was packed with another tokenizer than {}; pack it again",
            path.display(),
            new.tokenizer.display()
        );
        ensure!(
            index.sequence_tokens <= stage.sequence_tokens,
            "{} has packs of {} tokens, but stage {} allows {}; pack it again or raise sequence_tokens",
            path.display(),
            index.sequence_tokens,
            stage.name,
            stage.sequence_tokens
        );
        let folder = path.parent().unwrap_or(Path::new("."));
        let blob = BlobRef::of(&bytes);
        files.push((path.clone(), blob.digest));
        let shards = index.shards.iter().map(|shard| shard.blob.digest);
        files.extend(shards.map(|digest| (folder.join(digest.to_string()), digest)));
        let periods = (!index.periods.is_empty()).then_some(index.periods);
        bindings.push(DatasetBinding { index: blob, packs: index.totals.packs, periods });
    }
    let (config, state) = match new.model {
        Some(folder) => huggingface::read_folder(folder)?,
        None => fresh_model(&tokenizer, new.terms.seed),
    };
    ensure!(
        tokenizer.vocab_size() as usize <= config.text.vocab_size,
        "the tokenizer has {} entries, but the model's vocab_size is {}",
        tokenizer.vocab_size(),
        config.text.vocab_size
    );
    ensure!(
        config.image_token_id == tokenizer.special_ids().image_pad,
        "the model's image_token_id is {}, but <|image_pad|> of the tokenizer is {}",
        config.image_token_id,
        tokenizer.special_ids().image_pad
    );
    let run = Folder::create(
        new.dir,
        NewRun {
            terms: new.terms.clone(),
            config: config_json(&config)?.as_bytes(),
            tokenizer: &tokenizer_bytes,
            initial_state: &state.to_safetensors(),
            datasets: bindings.clone(),
            files,
            operator_seed: new.operator_seed,
        },
    )?;
    Ok(Made { run, datasets: bindings })
}

/// How much data a stage has, and how far it gets with them.
fn describe_data(stage: &Stage, data: &DatasetBinding) -> String {
    let periods = data.periods.as_deref().unwrap_or_default();
    let periods = if periods.is_empty() { String::new() } else { format!(" in periods of {}", sum(periods)) };
    let a_round = u64::from(stage.inner_steps) * u64::from(stage.packs_per_step);
    format!(
        "stage {}: {} packs{periods}; one member learns them in {} rounds, the stage has {}",
        stage.name,
        data.packs,
        data.packs.div_ceil(a_round),
        stage.rounds
    )
}

fn config_json(config: &ModelConfig) -> Result<String> {
    Ok(serde_json::to_string_pretty(config)? + "\n")
}

/// The small model that a run without `--model` starts from.
pub(super) fn fresh_model(tokenizer: &Tokenizer, seed: u64) -> (ModelConfig, State) {
    let special = tokenizer.special_ids();
    let mut config = presets::demo_model(tokenizer.vocab_size());
    config.image_token_id = special.image_pad;
    config.video_token_id = Some(special.video_pad);
    config.vision_start_token_id = Some(special.vision_start);
    config.vision_end_token_id = Some(special.vision_end);
    let state = State::initial(&config, seed);
    (config, state)
}

/// Writes the last agreed state of the run in `dir` as a Hugging Face folder; returns the run's manifest.
pub(crate) fn export_model(dir: &Path, out: &Path) -> Result<Manifest> {
    let (manifest, state) = last_state(dir)?;
    let blob = |digest: &Digest| dir.join("store/blobs").join(digest.to_string());
    let config = talkoot_execution::parse_config(&read_file(&blob(&manifest.bindings.config.digest))?)?;
    let path = blob(&state.digest);
    if !path.exists() {
        bail!(
            "the last state {} is not in {}; run the coordinator until it has fetched it",
            state.digest,
            dir.display()
        );
    }
    let weights = State::from_safetensors(&read_file(&path)?, &config)?;
    let tokenizer = read_file(&blob(&manifest.bindings.tokenizer.digest))?;
    huggingface::write_folder(out, &config, &weights, &[("tokenizer.json", &tokenizer)])?;
    Ok(manifest)
}

/// Manifest and last agreed state of the run in `dir`, from its ledger.
fn last_state(dir: &Path) -> Result<(Manifest, BlobRef)> {
    let mut watch = crate::demo::LedgerWatch::new(&dir.join("ledger"));
    watch.read_new(|_, _| ())?;
    let state = watch.state().with_context(|| format!("{} holds no run", dir.display()))?;
    Ok((state.manifest().clone(), state.state()))
}

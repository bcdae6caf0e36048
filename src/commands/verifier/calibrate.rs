//! `talkoot verifier calibrate`

use std::{
    fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use talkoot_cuda::fast::TensorCores;
use talkoot_dataset::{DatasetManifest, Tokenizer};
use talkoot_execution::{Distances, Job, Packs, chosen, execute_with, limits, open_packs};
use talkoot_protocol::{
    digest::BlobRef,
    identity::Keypair,
    manifest::{Bindings, DatasetBinding, Manifest, Terms, Tolerance},
};
use talkoot_trainer::huggingface;
use talkoot_verifier::calibrate::{Calibration, OnTensorCores, Report};
use toml_edit::{DocumentMut, Item, Table, value};

use crate::commands::{device::Trains, read_file, run::fresh_model, say};

/// Measures what a run's tolerance has to be, for members that train on tensor cores too where there are some here.
#[derive(Debug, Args)]
pub(crate) struct Calibrate {
    /// The terms, as TOML.
    #[arg(long)]
    terms: PathBuf,
    /// The manifest of each stage's packed data, in the order of the stages; its shards lie beside it.
    #[arg(long, required = true, value_name = "MANIFEST")]
    dataset: Vec<PathBuf>,
    /// The tokenizer.json that the data was packed with.
    #[arg(long)]
    tokenizer: PathBuf,
    /// A Hugging Face folder to start from; without it a small model is made with fresh weights, as `run init` does.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Measure this stage alone, by its name; all of them when left out.
    #[arg(long, value_name = "NAME")]
    stage: Option<String>,
    /// Members of each of the two rounds that are executed; each has packs of its own.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    members: u32,
    /// What the worst honest number is multiplied with, and what a lie has to be beyond a limit by.
    #[arg(long, value_name = "FACTOR", default_value_t = 2.0)]
    margin: f64,
    #[command(flatten)]
    trains: Trains,
    /// Write class and limits into the terms; comments and order stay. Without it they are only shown.
    #[arg(long)]
    write: bool,
}

impl Calibrate {
    pub(super) fn run(self) -> Result<ExitCode> {
        ensure!(
            self.margin.is_finite() && (1.0..=100.0).contains(&self.margin),
            "--margin {} is not between 1 and 100",
            self.margin
        );
        let text =
            fs::read_to_string(&self.terms).with_context(|| format!("reading {}", self.terms.display()))?;
        let terms = terms_of(&text).with_context(|| self.terms.display().to_string())?;
        ensure!(
            self.dataset.len() == terms.stages.len(),
            "the terms have {} stages, but {} data sets are given with --dataset",
            terms.stages.len(),
            self.dataset.len()
        );
        let tokenizer = Tokenizer::from_bytes(&read_file(&self.tokenizer)?)?;
        let (config, start) = match &self.model {
            Some(folder) => huggingface::read_folder(folder)?,
            None => fresh_model(&tokenizer, terms.seed),
        };
        let wanted: Vec<usize> = (0..terms.stages.len())
            .filter(|at| self.stage.as_ref().is_none_or(|name| *name == terms.stages[*at].name))
            .collect();
        ensure!(!wanted.is_empty(), "the terms have no stage `{}`", self.stage.unwrap_or_default());
        let manifest = manifest_of(terms, &self.dataset)?;
        self.trains.prepare()?;
        let tensor_cores = chosen().gpu().and_then(|gpu| {
            let class = TensorCores::of(gpu.device()).ok()?;
            Some(gpu.in_class(class))
        });
        if tensor_cores.is_none() {
            say("There are no tensor cores here: these limits are for members that train without them.");
        }
        // not by the engine, which goes on where they fail: what is called theirs has to be theirs
        let on_tensor_cores = tensor_cores.as_ref().map(|backend| {
            move |job: &Job<'_>, packs: &Packs| {
                execute_with(backend, job, packs, &mut |_, _| ControlFlow::Continue(()))
            }
        });
        let mut reports = Vec::new();
        for at in wanted {
            let packs = packs_of(&self.dataset[at])?;
            let calibration = Calibration {
                manifest: &manifest,
                config: &config,
                start: &start,
                stage: u32::try_from(at)?,
                packs: &packs,
                members: self.members,
                threads: &threads(),
                tensor_cores: on_tensor_cores.as_ref().map(|work| work as OnTensorCores<'_>),
                margin: self.margin,
            };
            let bar = indicatif::ProgressBar::new_spinner();
            let report = calibration.run(&mut |doing| bar.set_message(doing.to_owned()))?;
            bar.finish_and_clear();
            say(&report.table());
            say(&report.signal_table());
            reports.push(report);
        }
        self.conclude(&text, &reports)
    }

    fn conclude(&self, text: &str, reports: &[Report]) -> Result<ExitCode> {
        let tolerance = loosest(reports);
        let apart: Vec<String> = reports
            .iter()
            .flat_map(|report| report.unseparated().into_iter().map(move |lie| (report, lie)))
            .map(|(report, lie)| {
                format!(
                    "  stage {}, round {}: {}: {:.2} times a limit at most",
                    report.stage, lie.round, lie.lie, lie.beyond
                )
            })
            .collect();
        if !apart.is_empty() {
            bail!(
                "these limits do not tell honest members from liars by a factor of {}, so that nothing is written:\n{}\n\
                 use the class exact, fewer or larger inner steps, or another arithmetic",
                self.margin,
                apart.join("\n")
            );
        }
        say(&format!(
            "A member may push each contribution by up to {} of its length in any direction without being seen.",
            tolerance.distance
        ));
        if self.write {
            let written = with_tolerance(text, &tolerance, self.margin)?;
            replace(&self.terms, &written)?;
            say(&format!("written: class = \"fast\" and its tolerance, in {}", self.terms.display()));
        } else {
            say("nothing written; --write puts the class and these limits into the terms");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// One thread, two, and as many as there are.
fn threads() -> Vec<usize> {
    let mut numbers = vec![1, 2, rayon::current_num_threads()];
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// The largest of each limit: one tolerance holds for all stages of a run.
fn loosest(reports: &[Report]) -> Tolerance {
    let mut all = [0.0; 7];
    for report in reports {
        for (most, limit) in all.iter_mut().zip(limits(&report.tolerance())) {
            *most = f64::max(*most, limit);
        }
    }
    let [distance, angle, tensor_distance, tensor_angle, loss, gradient_norm, moments] =
        all.map(talkoot_protocol::real::Real::new);
    Tolerance { distance, angle, tensor_distance, tensor_angle, loss, gradient_norm, moments }
}

/// The terms, whatever they say of the class: who wants to calibrate has no tolerance yet, or an old one.
fn terms_of(text: &str) -> Result<Terms> {
    let mut document: DocumentMut = text.parse().context("not TOML")?;
    if let Some(verification) = document.get_mut("verification").and_then(Item::as_table_like_mut) {
        verification.insert("class", value("exact"));
        verification.remove("tolerance");
    }
    Ok(Terms::from_toml(&document.to_string())?)
}

/// The terms' text with class and tolerance put in; everything else stays as it was written.
fn with_tolerance(text: &str, tolerance: &Tolerance, margin: f64) -> Result<String> {
    let mut document: DocumentMut = text.parse().context("not TOML")?;
    let verification = document
        .get_mut("verification")
        .and_then(Item::as_table_mut)
        .context("the terms have no table [verification]")?;
    match verification.get_mut("class").and_then(Item::as_value_mut) {
        Some(class) => {
            let decor = class.decor().clone();
            *class = "fast".into();
            *class.decor_mut() = decor;
        }
        None => {
            verification.insert("class", value("fast"));
        }
    }
    let mut table = Table::new();
    for (name, limit) in Distances::NAMES.iter().zip(limits(tolerance)) {
        table.insert(name, value(limit));
    }
    let source =
        format!("\n# measured by `talkoot verifier calibrate`: the worst honest pair times {margin}\n");
    table.decor_mut().set_prefix(source);
    verification.insert("tolerance", Item::Table(table));
    let written = document.to_string();
    // What is written has to be read again by everybody.
    Terms::from_toml(&written).context("the terms with their tolerance")?;
    Ok(written)
}

/// Replaces a file so that a kill leaves the old one or the new one.
fn replace(path: &Path, text: &str) -> Result<()> {
    let temporary = path.with_extension("toml.tmp");
    let writing = || format!("writing {}", temporary.display());
    fs::write(&temporary, text).with_context(writing)?;
    fs::File::open(&temporary).and_then(|file| file.sync_all()).with_context(writing)?;
    fs::rename(&temporary, path).with_context(|| format!("replacing {}", path.display()))
}

/// A manifest of these terms and data, for assignments; keys and weights do not matter to it.
fn manifest_of(terms: Terms, datasets: &[PathBuf]) -> Result<Manifest> {
    let binding = |path: &PathBuf| -> Result<DatasetBinding> {
        let bytes = read_file(path)?;
        let index = DatasetManifest::from_bytes(&bytes).with_context(|| path.display().to_string())?.index;
        let periods = (!index.periods.is_empty()).then_some(index.periods);
        Ok(DatasetBinding { index: BlobRef::of(&bytes), packs: index.totals.packs, periods })
    };
    let nothing = BlobRef::of(b"");
    let manifest = Manifest {
        terms,
        bindings: Bindings {
            operator: Keypair::from_seed([0; 32]).id(),
            log_key: "calibration".to_owned(),
            config: nothing,
            tokenizer: nothing,
            initial_state: nothing,
            datasets: datasets.iter().map(binding).collect::<Result<_>>()?,
        },
    };
    manifest.validate()?;
    Ok(manifest)
}

fn packs_of(manifest: &Path) -> Result<talkoot_execution::Packs> {
    let folder = manifest.parent().unwrap_or(Path::new(".")).to_owned();
    let shard = move |digest: &talkoot_protocol::digest::Digest| {
        Some(folder.join(digest.to_string())).filter(|path| path.exists())
    };
    Ok(open_packs(&read_file(manifest)?, shard)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use talkoot_protocol::{manifest::VerificationClass, real::Real};

    const TERMS: &str = include_str!("../../../protocol/core/src/manifest/example.toml");

    fn tolerance(distance: f64) -> Tolerance {
        let small = Real::new(0.001);
        Tolerance {
            distance: Real::new(distance),
            angle: small,
            tensor_distance: small,
            tensor_angle: small,
            loss: small,
            gradient_norm: small,
            moments: small,
        }
    }

    #[test]
    fn class_and_limits_are_put_in_and_every_comment_stays() {
        let text = TERMS
            .replace("[verification]", "# who checks\n[verification]")
            .replace("class = \"exact\"", "class = \"exact\" # for now");
        let written = with_tolerance(&text, &tolerance(0.02), 2.0).unwrap();
        assert!(written.contains("# who checks\n[verification]"), "{written}");
        assert!(written.contains("class = \"fast\" # for now"), "{written}");
        assert!(written.contains("the worst honest pair times 2"), "{written}");
        let read = Terms::from_toml(&written).unwrap();
        assert_eq!(read.verification.class, VerificationClass::Fast);
        assert_eq!(read.verification.tolerance, Some(tolerance(0.02)));
        let again = with_tolerance(&written, &tolerance(0.03), 3.0).unwrap();
        assert_eq!(Terms::from_toml(&again).unwrap().verification.tolerance, Some(tolerance(0.03)));
        assert_eq!(again.matches("talkoot verifier calibrate").count(), 1, "{again}");
        assert_eq!(terms_of(&again).unwrap(), Terms::from_toml(TERMS).unwrap());
    }

    #[test]
    fn limits_that_no_run_can_have_are_not_written() {
        let error = with_tolerance(TERMS, &tolerance(1.5), 2.0).unwrap_err();
        assert!(format!("{error:#}").contains("verification.tolerance.distance"), "{error:#}");
    }
}

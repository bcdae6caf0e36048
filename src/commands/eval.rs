//! `talkoot eval`

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use talkoot_evaluation::{
    Assistant, ChoiceMode, Evaluation, Metric, Report, SampleResult, Tally,
    question::{self, ReadOptions},
    report::table,
    run::Options,
};
use talkoot_trainer::generate::Sampling;

use super::{choosing::Choosing, say, tell};

/// Asks a model many questions and scores its answers. docs/evaluation.md describes files and metrics.
///
/// Answers are greedy unless a setting says otherwise.
#[derive(Debug, Args)]
pub(crate) struct Eval {
    /// Folder with config.json, weights and tokenizer.json.
    #[arg(long)]
    model: PathBuf,
    /// Questions as JSONL, or held-out records in the LLaVA layout.
    #[arg(long, value_name = "FILE")]
    questions: PathBuf,
    /// Folder of the pictures; else that of the questions.
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// How answers are scored: auto leaves it to each question.
    #[arg(long, value_enum, default_value = "auto")]
    metric: MetricName,
    /// How a choice is found: in the model's words, or as the likeliest text.
    #[arg(long, value_enum, default_value = "words")]
    choice: ChoiceName,
    /// Ask only so many questions from the beginning.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Leave out questions that cannot be asked, and count them, instead of failing.
    #[arg(long)]
    skip_bad: bool,
    /// Questions that are asked together.
    #[arg(long, value_name = "N", default_value_t = 16)]
    batch: usize,
    /// Longest answer in tokens.
    #[arg(long, value_name = "N", default_value_t = 64)]
    max_tokens: usize,
    /// Write the report as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write every question with its answer and score, one a line.
    #[arg(long, value_name = "FILE")]
    samples: Option<PathBuf>,
    #[command(flatten)]
    choosing: Choosing,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum MetricName {
    Auto,
    Literal,
    Exact,
    Relaxed,
    Anls,
    Choice,
    CaptionLoss,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ChoiceName {
    Words,
    Likelihood,
}

impl MetricName {
    fn metric(self) -> Option<Metric> {
        match self {
            Self::Auto => None,
            Self::Literal => Some(Metric::Literal),
            Self::Exact => Some(Metric::Exact),
            Self::Relaxed => Some(Metric::Relaxed),
            Self::Anls => Some(Metric::Anls),
            Self::Choice => Some(Metric::Choice),
            Self::CaptionLoss => Some(Metric::CaptionLoss),
        }
    }
}

impl Eval {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let read =
            ReadOptions { pictures: self.images.clone(), metric: self.metric.metric(), limit: self.limit };
        let file = question::read(&self.questions, &read)?;
        ensure!(
            !(file.questions.is_empty() && file.bad.is_empty()),
            "there is no question in {}",
            self.questions.display()
        );
        let options = self.options();
        options.sampling.validate()?;
        let in_file = || format!("in {}", self.questions.display());
        let mut samples = self.samples.as_deref().map(Lines::create).transpose()?;
        let assistant = Assistant::open(&self.model)?;
        let mut evaluation = Evaluation::new(&assistant, file, options).with_context(in_file)?;
        let start = Instant::now();
        let bar = bar(evaluation.left());
        let mut tally = Tally::default();
        while let Some(results) = evaluation.next_batch().with_context(in_file)? {
            if let Some(samples) = &mut samples {
                samples.write(&results)?;
            }
            tally.add(&results);
            bar.set_position((bar.length().unwrap_or(0)).saturating_sub(evaluation.left() as u64));
            let rate = tally.generated_tokens() as f64 / start.elapsed().as_secs_f64().max(1e-9);
            bar.set_message(format!("{rate:.0} tokens/s"));
        }
        bar.finish_and_clear();
        let report = Report {
            model: self.model.display().to_string(),
            state: assistant.state().to_string(),
            file: self.questions.display().to_string(),
            questions: tally.questions(),
            bad: evaluation.bad().to_vec(),
            choice: options.choice,
            sampling: options.sampling,
            max_new_tokens: options.max_new_tokens,
            scores: tally.rows(),
            prompt_tokens: tally.prompt_tokens(),
            generated_tokens: tally.generated_tokens(),
            seconds: start.elapsed().as_secs_f64(),
        };
        ensure!(report.questions > 0, "none of the questions in {} can be asked", self.questions.display());
        show(&report);
        if let Some(path) = &self.json {
            std::fs::write(path, serde_json::to_vec_pretty(&report)?)
                .with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn options(&self) -> Options {
        Options {
            sampling: self.choosing.over(Sampling::default()),
            max_new_tokens: self.max_tokens,
            batch: self.batch,
            choice: match self.choice {
                ChoiceName::Words => ChoiceMode::Words,
                ChoiceName::Likelihood => ChoiceMode::Likelihood,
            },
            skip_bad: self.skip_bad,
        }
    }
}

/// The report for people; what was left out and how fast it was goes to whoever watches.
fn show(report: &Report) {
    for line in table(&report.scores) {
        say(&line);
    }
    for bad in &report.bad {
        tell(&format!("left out  {bad}"));
    }
    tell(&format!(
        "{} questions in {:.1} s ({:.1} a second), {} tokens read, {} generated",
        report.questions,
        report.seconds,
        report.questions as f64 / report.seconds.max(1e-9),
        report.prompt_tokens,
        report.generated_tokens
    ));
}

fn bar(questions: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{elapsed_precise} [{wide_bar}] {pos}/{len}, {eta} left, {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ");
    ProgressBar::new(questions as u64).with_style(style)
}

/// A file with a line of JSON for each question, written as they come.
struct Lines {
    file: BufWriter<File>,
    path: PathBuf,
}

impl Lines {
    fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("writing {}", path.display()))?;
        Ok(Self { file: BufWriter::new(file), path: path.to_owned() })
    }

    fn write(&mut self, results: &[SampleResult]) -> Result<()> {
        for result in results {
            let line = serde_json::to_string(result)?;
            writeln!(self.file, "{line}").with_context(|| format!("writing {}", self.path.display()))?;
        }
        self.file.flush().with_context(|| format!("writing {}", self.path.display()))
    }
}

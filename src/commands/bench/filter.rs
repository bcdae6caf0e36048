//! `talkoot bench filter`

use std::{path::PathBuf, process::ExitCode, time::Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::json;
use talkoot_dataset::{
    ListWriter, PackInput, Roots, Sample, chat::Message, ingest::ingest, sample::Origin, work::Part,
};
use talkoot_filter::{
    Config, FilterOptions, Step, duplicates,
    examine::Examiner,
    filter_step,
    print::{Print, Sketch},
};

use super::{corpus, emit, forget_peak, peak_bytes};

/// Looks at samples and compares prints, on one core.
#[derive(Debug, Args)]
pub(crate) struct Filter {
    /// Pictures to look at; 0 leaves this out.
    #[arg(long, default_value_t = 300)]
    pictures: usize,
    /// A folder with pictures of yours instead of made ones.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Texts without pictures to look at; 0 leaves this out.
    #[arg(long, default_value_t = 20_000)]
    texts: usize,
    /// Numbers of prints to compare, half of them of pictures; each eighth is nearly the one before.
    #[arg(long, value_delimiter = ',', default_value = "1000000")]
    prints: Vec<u64>,
    /// Print one object a line. Nothing else is printed without it, either.
    #[arg(long)]
    json: bool,
}

impl Filter {
    pub(super) fn run(self) -> Result<ExitCode> {
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
        one.install(|| {
            if self.pictures > 0 {
                self.pictures()?;
            }
            if self.texts > 0 {
                self.texts()?;
            }
            self.prints.iter().try_for_each(|&prints| compare(prints))
        })?;
        Ok(ExitCode::SUCCESS)
    }

    /// The first pass over a list whose samples have a picture each.
    fn pictures(&self) -> Result<()> {
        let folder = tempfile::tempdir().context("making a folder for scratch")?;
        let corpus = corpus::make(folder.path(), self.pictures, self.folder.as_deref())?;
        let PackInput::Records { files, pictures } = &corpus.input else { return Ok(()) };
        let ingested = ingest(files, pictures)?;
        let list = folder.path().join("samples.jsonl");
        let mut writer = ListWriter::create(&list, &ingested.roots)?;
        ingested.samples.iter().try_for_each(|sample| writer.write(sample))?;
        let samples = writer.finish()?;
        let options = FilterOptions {
            name: "bench".into(),
            lists: vec![list],
            config: Config::default(),
            out: folder.path().join("out"),
        };
        let start = Instant::now();
        filter_step(&options, Step::Examine(Part::WHOLE), true, &())?;
        let seconds = start.elapsed().as_secs_f64();
        emit(&json!({
            "bench": "filter", "pass": 1, "of": "pictures", "threads": 1, "samples": samples,
            "picture_bytes": corpus.bytes, "seconds": seconds, "samples_per_second": samples as f64 / seconds,
        }))
    }

    /// The first pass over texts in memory, with the language looked at.
    fn texts(&self) -> Result<()> {
        let mut config = Config::default();
        config.language.allowed = vec!["eng".into()];
        let examiner = Examiner::new(&config)?;
        let samples: Vec<Sample> = (0..self.texts as u64).map(text_sample).collect();
        let start = Instant::now();
        let kept = samples.iter().filter(|sample| examiner.examine(sample, &Roots::new()).broken.is_empty());
        let kept = kept.count();
        let seconds = start.elapsed().as_secs_f64();
        emit(&json!({
            "bench": "filter", "pass": 1, "of": "texts", "threads": 1, "samples": samples.len(), "kept": kept,
            "seconds": seconds, "samples_per_second": samples.len() as f64 / seconds,
        }))
    }
}

/// The second pass over prints alone.
fn compare(count: u64) -> Result<()> {
    forget_peak();
    let prints: Vec<Print> = (0..count).map(print).collect();
    let planted = (0..count).filter(|&number| is_planted(number)).count() as u64;
    let start = Instant::now();
    let found = duplicates::find(&prints, &Config::default().duplicate, &());
    let seconds = start.elapsed().as_secs_f64();
    let dropped = found.kept_for.iter().zip(0..).filter(|&(&kept, at)| kept != at).count() as u64;
    ensure!(dropped <= planted + count / 10_000, "{dropped} are dropped, {planted} were planted");
    emit(&json!({
        "bench": "filter", "pass": 2, "threads": 1, "samples": count, "planted": planted, "dropped": dropped,
        "skipped_pairs": found.skipped_pairs, "seconds": seconds, "samples_per_second": count as f64 / seconds,
        "peak_bytes": peak_bytes(),
    }))
}

fn is_planted(number: u64) -> bool {
    number % 8 == 7
}

/// A random print of a picture or, every other four, of a text. The last of eight is nearly the one before.
fn print(number: u64) -> Print {
    let base = if is_planted(number) { number - 1 } else { number };
    let word = |at: u64| corpus::scramble(base * 16 + at);
    let mut print = Print {
        id: corpus::scramble(number * 16 + 9),
        brightness: word(0),
        colour: word(1),
        sketch: Sketch([word(2), word(3), word(4), word(5)]),
        question: 7,
        pictures: 1,
        rank: number as u16,
    };
    if (number / 8).is_multiple_of(2) {
        (print.brightness, print.colour, print.pictures) = (0, 0, 0);
    }
    if is_planted(number) {
        print.sketch.0[1] ^= 0x0010_0100_0300_0000;
        if print.pictures > 0 {
            print.brightness ^= 1 << (number % 64) | 1 << (number / 64 % 64);
        }
    }
    print
}

fn text_sample(number: u64) -> Sample {
    let origin =
        Origin { source: "bench".into(), file: "made".into(), record: number, id: None, licence: None };
    let turns = vec![Message::user("Describe the picture."), Message::assistant(corpus::caption(number))];
    Sample::new(origin, turns, Vec::new())
}

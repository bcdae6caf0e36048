//! `talkoot dataset ingest`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use talkoot_dataset::Progress;
use talkoot_ingest::{FetchOptions, IngestOptions, IngestReport, VideoOptions, ingest};

use crate::{commands::say, progress::Bar};

/// Makes a list of samples of what you have.
#[derive(Debug, Args)]
pub(crate) struct Ingest {
    /// Files (.json, .jsonl, .tar, .parquet), folders of them, or addresses: `https://…`,
    /// `hf://datasets/OWNER/NAME[@REVISION][/PATH]`.
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<String>,
    /// The folder that names of pictures and videos are relative to, when it is not the input's.
    #[arg(long)]
    images: Option<PathBuf>,
    /// What the list is called in the names of its files.
    #[arg(long, default_value = "data")]
    name: String,
    /// Name of the source, which mixtures and reports count by, when it is not the input's.
    #[arg(long)]
    source: Option<String>,
    /// The licence of records that do not name theirs.
    #[arg(long)]
    licence: Option<String>,
    /// Put the pictures before the first question of conversations without any `<image>`, instead of refusing them.
    #[arg(long)]
    place_pictures: bool,
    /// Frames taken of a second of video.
    #[arg(long, default_value_t = VideoOptions::default().frames_per_second)]
    video_fps: f64,
    /// Most frames taken of a video.
    #[arg(long, default_value_t = VideoOptions::default().max_frames)]
    max_frames: u32,
    /// Most bytes of a file that is fetched.
    #[arg(long, default_value_t = FetchOptions::default().most_bytes)]
    most_bytes: u64,
    /// Where the list goes.
    #[arg(long)]
    out: PathBuf,
    /// Go on with the work that was begun there.
    #[arg(long)]
    resume: bool,
    /// Write the report as JSON.
    #[arg(long)]
    json: bool,
}

impl Ingest {
    pub(super) fn run(self) -> Result<()> {
        let (resume, as_json) = (self.resume, self.json);
        let options = self.options();
        let bar = Bar::new();
        let outcome = ingest(&options, resume, &bar);
        bar.end();
        let report = outcome?;
        if as_json {
            say(&serde_json::to_string(&report)?);
        } else {
            tell_report(&report);
        }
        Ok(())
    }

    fn options(self) -> IngestOptions {
        let video = VideoOptions {
            frames_per_second: self.video_fps,
            max_frames: self.max_frames,
            min_frames: VideoOptions::default().min_frames.min(self.max_frames),
            ..VideoOptions::default()
        };
        IngestOptions {
            pictures: self.images,
            name: self.name,
            source: self.source,
            licence: self.licence,
            place_pictures: self.place_pictures,
            video,
            fetch: FetchOptions { most_bytes: self.most_bytes, ..FetchOptions::from_environment() },
            ..IngestOptions::new(self.inputs, self.out)
        }
    }
}

fn tell_report(report: &IngestReport) {
    let rejected: u64 = report.rejects.values().sum();
    say(&format!("list      {}", report.list.display()));
    say(&format!(
        "pictures  {} in samples; {} bytes stored beside the list",
        report.pictures, report.stored_bytes
    ));
    if report.unused_members > 0 {
        say(&format!(
            "unused    {} members of archives are neither pictures nor texts",
            report.unused_members
        ));
    }
    say(&format!("records   {} = {} samples + {rejected} rejects", report.records, report.samples));
    if rejected > 0 {
        say(&format!("rejects   {}", report.rejects_path.display()));
    }
}

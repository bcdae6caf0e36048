//! What to read, and how.

use std::path::PathBuf;

use talkoot_dataset::work::{PLAIN_NAME, is_plain_name};

use crate::{FetchOptions, IngestError, Tools, VideoOptions};

/// What to read, and how.
#[derive(Debug, Clone)]
pub struct IngestOptions {
    /// Files, folders, `https://` and `hf://` addresses.
    pub inputs: Vec<String>,
    /// The folder that names of pictures and videos are relative to; where there is none, the folder of the input.
    pub pictures: Option<PathBuf>,
    /// What the list is called in the names of its files: letters, digits, `-` and `_`.
    pub name: String,
    /// Where the files go; made when it isn't there.
    pub out: PathBuf,
    /// Name of the source, which mixtures and reports count by; where there is none, that of the input.
    pub source: Option<String>,
    /// The licence of records that do not name theirs.
    pub licence: Option<String>,
    /// Put the pictures before the first question of conversations without any placeholder, instead of refusing them.
    pub place_pictures: bool,
    /// How frames are taken of videos.
    pub video: VideoOptions,
    /// The programs that read videos.
    pub tools: Tools,
    /// How addresses are fetched.
    pub fetch: FetchOptions,
}

impl IngestOptions {
    /// Reads `inputs` into the folder `out`, everything else as it is by default.
    pub fn new(inputs: Vec<String>, out: PathBuf) -> Self {
        Self {
            inputs,
            pictures: None,
            name: "data".into(),
            out,
            source: None,
            licence: None,
            place_pictures: false,
            video: VideoOptions::default(),
            tools: Tools::default(),
            fetch: FetchOptions::default(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), IngestError> {
        let wrong =
            |option, got: String, must: &str| Err(IngestError::Option { option, got, must: must.to_owned() });
        if !is_plain_name(&self.name) {
            return wrong("name", format!("{:?}", self.name), PLAIN_NAME);
        }
        if self.inputs.is_empty() {
            return wrong("inputs", "none".into(), "at least one file, folder or address");
        }
        let VideoOptions { frames_per_second, min_frames, max_frames, .. } = self.video;
        if !(frames_per_second > 0.0 && frames_per_second <= 1_000.0) {
            return wrong("frames_per_second", frames_per_second.to_string(), "above 0, at most 1000");
        }
        if min_frames == 0 || max_frames < min_frames || max_frames > VideoOptions::MOST_FRAMES {
            let must = format!("at least {min_frames} and at most {}", VideoOptions::MOST_FRAMES);
            return wrong("max_frames", max_frames.to_string(), &must);
        }
        Ok(())
    }
}

//! What a person said of samples, as the page saves it.

use std::{collections::BTreeSet, fs::File, io::Read, path::Path};

use serde::{Deserialize, Serialize};
use talkoot_dataset::SampleId;

use super::{MAX_SAMPLES, ReviewError, read_error};

/// What the file says it is.
const REVIEW: &str = "talkoot review";
const VERSION: u32 = 1;
/// Longest file: so many samples in two lists of ids, and room.
const MAX_BYTES: u64 = 4 << 20;

/// Verdicts over samples.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdicts {
    review: String,
    version: u32,
    /// Names the page that they were given on.
    pub page: String,
    /// Samples of that page.
    pub samples: u64,
    /// What is kept.
    pub keep: Vec<SampleId>,
    /// What is dropped.
    pub drop: Vec<SampleId>,
}

impl Verdicts {
    /// Reads and checks the file `path`.
    ///
    /// # Errors
    ///
    /// [`ReviewError`] when it cannot be read, is something else, or contradicts itself.
    pub fn read(path: &Path) -> Result<Self, ReviewError> {
        let wrong = |reason: String| ReviewError::Verdicts { path: path.to_path_buf(), reason };
        let mut text = Vec::new();
        let file = File::open(path).map_err(read_error(path))?;
        file.take(MAX_BYTES + 1).read_to_end(&mut text).map_err(read_error(path))?;
        if text.len() as u64 > MAX_BYTES {
            return Err(wrong(format!("it has more than {MAX_BYTES} bytes")));
        }
        let verdicts: Self = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        verdicts.check().map_err(wrong)?;
        Ok(verdicts)
    }

    fn check(&self) -> Result<(), String> {
        if self.review != REVIEW || self.version != VERSION {
            let said: String = self.review.chars().take(40).collect();
            return Err(format!("it says {said:?}, version {}", self.version));
        }
        let given = self.keep.len() + self.drop.len();
        if given > MAX_SAMPLES {
            return Err(format!("it has {given} verdicts, a page has at most {MAX_SAMPLES} samples"));
        }
        let mut seen = BTreeSet::new();
        match self.keep.iter().chain(&self.drop).find(|id| !seen.insert(**id)) {
            Some(twice) => Err(format!("sample {twice} has two verdicts")),
            None => Ok(()),
        }
    }
}

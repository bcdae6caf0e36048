//! What was left out, and why: one line each, nothing silently.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{Origin, list::PartFile};

/// What is wrong with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RejectKind {
    /// Not JSON, or not of the known layout.
    Malformed,
    /// Turns, placeholders or answers are wrong.
    Conversation,
    /// A picture's path leaves the picture folder.
    UnsafePath,
    /// A picture isn't there.
    MissingPicture,
    /// A picture cannot be decoded or resized.
    BadPicture,
    /// A filter's rule leaves it out.
    Filtered,
    /// It says nearly the same as another sample, which is kept.
    Duplicate,
    /// Somebody looked at it and said to drop it.
    Reviewed,
    /// The sample has more tokens than a sequence may have.
    TooLong,
    /// A video cannot be read, or has more or less in it than can be taken.
    BadVideo,
    /// The file of records is damaged: this record and whatever stood after it are lost.
    DamagedFile,
    /// Balancing has drawn others.
    NotDrawn,
    /// It is like none of the concepts that are balanced.
    NoConcept,
}

impl RejectKind {
    /// What the owner of the data can do.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Malformed => {
                "write {\"id\", \"image\", \"conversations\": [{\"from\", \"value\"}]} as LLaVA does"
            }
            Self::Conversation => {
                "let human and gpt alternate, end with an answer, write <image> once for each picture"
            }
            Self::UnsafePath => {
                "name pictures relative to the picture folder, without '..' or links out of it"
            }
            Self::MissingPicture => "put the file into the picture folder or correct its name",
            Self::BadPicture => "save the picture anew as PNG, JPEG or WebP, within the limits of size",
            Self::Filtered => "mend the record, or change the rule in the filter's configuration",
            Self::Duplicate => "nothing, the better one is kept; or change what counts as a duplicate",
            Self::Reviewed => "nothing, unless the verdict was a mistake: take it out of the verdicts",
            Self::TooLong => {
                "shorten the text, lower the most pixels of a picture, or raise the sequence length"
            }
            Self::BadVideo => "save the video anew as MP4, MKV or WebM, or take the record out",
            Self::DamagedFile => "copy, fetch or write the file again; what stood before the damage is taken",
            Self::NotDrawn => "nothing, others teach rarer things; or draw more, or with another seed",
            Self::NoConcept => {
                "add a concept for it, or change draw.without_concept in the balance's configuration"
            }
        }
    }
}

/// A record that was left out: one line of the rejects file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reject {
    /// Where it stands.
    #[serde(flatten)]
    pub origin: Origin,
    /// What sort of thing is wrong.
    pub kind: RejectKind,
    /// What is wrong.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

impl Reject {
    /// A reject with the remedy of its kind.
    pub fn new(origin: Origin, kind: RejectKind, reason: impl ToString) -> Self {
        Self { origin, kind, reason: reason.to_string(), remedy: kind.remedy().to_owned() }
    }
}

/// Writes rejects, one line each, and counts them by kind.
#[derive(Debug)]
pub struct RejectWriter {
    file: PartFile,
    counts: BTreeMap<RejectKind, u64>,
}

impl RejectWriter {
    /// Begins the file `path`; it appears when the writer [finishes](Self::finish).
    ///
    /// # Errors
    ///
    /// When the file cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: PartFile::create(path)?, counts: BTreeMap::new() })
    }

    /// Adds a line.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn write(&mut self, reject: &Reject) -> io::Result<()> {
        *self.counts.entry(reject.kind).or_default() += 1;
        self.file.json_line(reject)
    }

    /// Rejects so far, by kind.
    pub fn counts(&self) -> &BTreeMap<RejectKind, u64> {
        &self.counts
    }

    /// Makes the file durable under its name, and tells the name and the counts.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn finish(self) -> io::Result<(PathBuf, BTreeMap<RejectKind, u64>)> {
        Ok((self.file.finish()?, self.counts))
    }
}

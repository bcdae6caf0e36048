//! Embeddings from a model of this project's kind, for want of a better one.
//!
//! A picture's row is the mean of the rows that tower and merger make of it for the decoder; a text's is the mean of its
//! tokens' rows in the token table. Both are rows of one space, which the model has learnt to read. It is a plain choice:
//! no layer of the decoder has looked at them, so a row tells what is there and nothing of how it hangs together. Encoders
//! that were trained to compare pictures with words (CLIP and its kin) do better; their rows can be given instead.
//! Rows of pictures and of words lie apart, so set `concepts.center`.

mod samples;
mod senses;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use talkoot_dataset::{
    Progress,
    progress::Unit,
    sample::ListError,
    tokenizer::TokenizerError,
    work::{MAX_LISTS, Part, WorkError},
};
use talkoot_trainer::{cpu::Cpu, huggingface::FolderError, model::ModelError};

use self::senses::Senses;
use crate::{
    concepts::{ConceptError, Concepts},
    embedding::{EmbeddingError, EmbeddingWriter},
};

/// Concepts that are embedded together.
const CONCEPTS_AT_A_TIME: usize = 4_096;
/// Most pixels of a picture, unless more are wanted: 256 tokens. What a picture shows is to be seen at that size.
pub const DEFAULT_MAX_PIXELS: u32 = 448 * 448;

/// What to embed, and with what.
#[derive(Debug, Clone)]
pub struct EmbedOptions {
    /// A model's folder: `config.json`, weights, `tokenizer.json`.
    pub model: PathBuf,
    /// What to embed.
    pub subject: Subject,
    /// Where the rows go: a file that ends in `.safetensors` or `.npy`. With a part of several, its number is put before
    /// the ending.
    pub out: PathBuf,
    /// Which share of the samples.
    pub part: Part,
    /// Most pixels that pictures are shrunk to.
    pub max_pixels: u32,
}

/// What to embed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The samples of lists: their pictures, or their texts where they have none.
    Samples(Vec<PathBuf>),
    /// A list of concepts.
    Concepts(PathBuf),
}

/// What was embedded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmbedReport {
    /// Samples or concepts that came in.
    pub entries: u64,
    /// Rows that came out.
    pub rows: u64,
    /// Numbers of a row.
    pub width: usize,
    /// Samples without a row.
    pub rejected: u64,
    /// Where the rows are.
    pub out: PathBuf,
    /// Where the lines for samples without a row are, if there are any.
    pub rejects: Option<PathBuf>,
}

/// Why nothing was embedded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbedError {
    /// An option is out of its bounds.
    #[error("{option} is {got}: {must}")]
    Option {
        /// Which.
        option: &'static str,
        /// Its value.
        got: String,
        /// What it must be.
        must: String,
    },
    /// The model cannot be read.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The model cannot be put to work.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// There is no tokenizer.
    #[error("cannot read {}: put the tokenizer there that the model was trained with", path.display())]
    NoTokenizer {
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The tokenizer cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The tokenizer is another model's.
    #[error("the tokenizer is another model's: {reason}")]
    ForeignTokenizer {
        /// How that shows.
        reason: String,
    },
    /// A list of samples cannot be read.
    #[error(transparent)]
    List(#[from] ListError),
    /// The list of concepts cannot be used.
    #[error(transparent)]
    Concepts(#[from] ConceptError),
    /// A concept cannot be embedded.
    #[error("concept {concept:?} cannot be embedded: {reason}")]
    Concept {
        /// Which.
        concept: String,
        /// Why.
        reason: String,
    },
    /// The rows cannot be written.
    #[error(transparent)]
    Embedding(#[from] EmbeddingError),
    /// The folder of unfinished work cannot be used.
    #[error(transparent)]
    Work(#[from] WorkError),
}

impl EmbedOptions {
    fn check(&self) -> Result<(), EmbedError> {
        let wrong = |option, got: String, must: String| Err(EmbedError::Option { option, got, must });
        let end = self.out.extension().and_then(|end| end.to_str());
        if !matches!(end, Some("npy" | "safetensors")) {
            return Err(EmbeddingError::Kind { path: self.out.clone() }.into());
        }
        if !(28 * 28..=1 << 24).contains(&self.max_pixels) {
            return wrong("max_pixels", self.max_pixels.to_string(), "784 to 16777216".into());
        }
        match &self.subject {
            Subject::Samples(lists) if !(1..=MAX_LISTS).contains(&lists.len()) => {
                wrong("lists", lists.len().to_string(), format!("1 to {MAX_LISTS}"))
            }
            Subject::Concepts(_) if self.part != Part::WHOLE => {
                wrong("part", self.part.to_string(), "concepts are embedded as a whole".into())
            }
            _ => Ok(()),
        }
    }

    /// Where the rows go.
    pub fn file(&self) -> PathBuf {
        match self.out.extension().and_then(|end| end.to_str()) {
            Some(end) if self.part.of() > 1 => {
                let (index, of) = (self.part.index() + 1, self.part.of());
                self.out.with_extension(format!("{index:05}-of-{of:05}.{end}"))
            }
            _ => self.out.clone(),
        }
    }
}

/// Embeds samples or concepts. Without `resume` it begins anew.
///
/// # Errors
///
/// [`EmbedError`] when the model, a list or an option is unusable, or writing fails. Samples whose pictures cannot be
/// read get no row and a line in `<out>.rejects.jsonl`.
pub fn embed(
    options: &EmbedOptions,
    resume: bool,
    progress: &dyn Progress,
) -> Result<EmbedReport, EmbedError> {
    options.check()?;
    let cpu = Cpu::default();
    let senses = Senses::open(&cpu, &options.model, options.max_pixels)?;
    let report = match &options.subject {
        Subject::Samples(lists) => samples::embed(options, lists, &senses, resume, progress),
        Subject::Concepts(path) => embed_concepts(path, &options.file(), &senses, progress),
    };
    progress.end();
    report
}

fn embed_concepts(
    path: &Path,
    out: &Path,
    senses: &Senses<'_>,
    progress: &dyn Progress,
) -> Result<EmbedReport, EmbedError> {
    let concepts = Concepts::read(path)?;
    let (count, width) = (concepts.len() as u64, senses.width());
    progress.begin("embedding", count, Unit::Entries);
    let mut file = EmbeddingWriter::create(out, count, width, false)?;
    for some in concepts.names().chunks(CONCEPTS_AT_A_TIME) {
        let wrong =
            |(concept, reason): (&String, String)| EmbedError::Concept { concept: concept.clone(), reason };
        // Words stand within a text, behind a space.
        let prepare =
            |concept| senses.words(&format!(" {concept}")).map_err(|reason| wrong((concept, reason)));
        let prepared = some.iter().map(prepare).collect::<Result<Vec<_>, _>>()?;
        file.write(&senses.rows(&prepared)?, &[])?;
        progress.advance(some.len() as u64);
    }
    file.finish()?;
    let out = out.to_path_buf();
    Ok(EmbedReport { entries: count, rows: count, width, rejected: 0, out, rejects: None })
}

#[cfg(test)]
mod tests;

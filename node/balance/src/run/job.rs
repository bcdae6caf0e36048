//! What every step needs.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use talkoot_dataset::{
    Progress, Roots,
    work::{List, Parts, WorkFolder, fingerprint, join_roots, read_error},
};
use talkoot_protocol::digest::Digest;

use super::{BalanceError, BalanceOptions, Matching, tags::TagFormat};
use crate::{concepts::Concepts, search::Rules};

/// Bytes at the beginning and at the end of a file of embeddings that are hashed.
const HASHED_BYTES: u64 = 1 << 20;

/// What every step needs.
pub(super) struct Job<'a> {
    pub(super) options: &'a BalanceOptions,
    pub(super) progress: &'a dyn Progress,
    pub(super) lists: Vec<List>,
    /// The roots of all lists.
    pub(super) roots: Roots,
    pub(super) concepts: Concepts,
    pub(super) work: WorkFolder,
    /// How the rows of tags are laid out.
    pub(super) tags: TagFormat,
}

impl<'a> Job<'a> {
    /// Opens the work that was begun, or begins it.
    pub(super) fn open(
        options: &'a BalanceOptions,
        progress: &'a dyn Progress,
    ) -> Result<Self, BalanceError> {
        let concepts = Concepts::read(&options.concepts)?;
        let lists = options.lists.iter().map(|path| List::open(path.clone()));
        let mut lists = lists.collect::<Result<Vec<_>, _>>()?;
        let roots = join_roots(&mut lists)?;
        let settings = settings(options, &concepts)?;
        let fingerprint = fingerprint("talkoot balance job v1", &settings, &lists)?;
        let work = WorkFolder::open(options.file("work"), &["map"])?;
        work.claim(&fingerprint)?;
        let most = options.config.concepts.per_sample as usize;
        let tags = TagFormat { fingerprint, most, concepts: concepts.len() as u32 };
        Ok(Self { options, progress, lists, roots, concepts, work, tags })
    }

    /// The files of the map.
    pub(super) fn parts(&self) -> Parts<'_> {
        Parts::new(&self.work, "map", "the map")
    }

    /// Bytes of all lists.
    pub(super) fn list_bytes(&self) -> u64 {
        self.lists.iter().map(|list| list.bytes).sum()
    }

    /// How samples get their concepts.
    pub(super) fn rules(&self) -> Rules {
        let rules = &self.options.config.concepts;
        Rules { most: rules.per_sample as usize, least_score: rules.least_similarity }
    }

    /// All chunks of tags, each with its sources, of a split that is mapped.
    pub(super) fn chunks(&self) -> Result<Vec<Chunk>, BalanceError> {
        let parts = self.parts();
        let mut chunks = Vec::new();
        for part in parts.whole_split()? {
            let numbers = 0..parts.chunks(part)?;
            chunks.extend(numbers.map(|number| Chunk {
                tags: parts.chunk(part, number, TAGS),
                sources: parts.chunk(part, number, SOURCES),
            }));
        }
        Ok(chunks)
    }
}

/// How files of tags end.
pub(super) const TAGS: &str = "tags";
/// How files of names of sources end.
pub(super) const SOURCES: &str = "sources";

/// Some samples of a part, mapped.
pub(super) struct Chunk {
    pub(super) tags: PathBuf,
    pub(super) sources: PathBuf,
}

/// What decides the tags, in bytes. How they are drawn from may change.
fn settings(options: &BalanceOptions, concepts: &Concepts) -> Result<Vec<u8>, BalanceError> {
    let files = match &options.matching {
        Matching::Text => Vec::new(),
        Matching::Embeddings { samples, concepts } => samples.iter().chain([concepts]).collect(),
    };
    let ends = files.into_iter().map(|path| Ok(hash_ends(path).map_err(read_error(path))?));
    let ends: Vec<Digest> = ends.collect::<Result<_, BalanceError>>()?;
    let settings = serde_json::json!([&options.config.concepts, concepts.digest(), ends]);
    Ok(settings.to_string().into_bytes())
}

/// Digest of a file's length, its beginning and its end.
fn hash_ends(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let bytes = file.metadata()?.len();
    let mut hasher = blake3::Hasher::new();
    hasher.update(&bytes.to_le_bytes());
    for from in [0, bytes.saturating_sub(HASHED_BYTES)] {
        file.seek(SeekFrom::Start(from))?;
        hasher.update_reader((&mut file).take(HASHED_BYTES))?;
    }
    Ok(Digest::from_bytes(*hasher.finalize().as_bytes()))
}

//! Measuring: how many tokens a sample has, and how many bytes it takes.
//!
//! A picture's tokens follow from its size, which its head tells. So measuring is exact without decoding, and decodes
//! only to find out whether a picture can be.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::{
    PackError, PackOptions, Part, PixelCheck,
    job::Job,
    table::{Measured, Row, chunk_head, write_chunk},
};
use crate::{
    chat::{self, ChatError},
    preprocess::{
        decode::{decode_bytes, head_size},
        llm_tokens,
    },
    progress::Unit,
    sample::{PictureRef, Placed, Reject, RejectKind, RejectWriter, Roots, Sample},
    shard::{MAX_PACK_BYTES, PackedSample, PictureFormat, StoredPicture, fragment, sample_bytes},
    tokenizer::Tokenizer,
    work::{Place, each_chunk, write_error},
};

/// Samples of a chunk: what is measured again after a kill, at most.
const CHUNK_SAMPLES: usize = 16_384;
/// Bytes of a picture's file that hold its size; a longer head is looked for in the whole file.
const HEAD_BYTES: u64 = 32 << 10;

/// What is wrong with a sample.
pub(super) type Fault = (RejectKind, String);

/// A sample as it is stored, and the lengths of what it adds to its pack.
pub(super) struct Prepared {
    /// Its part of the pack's JSON.
    pub(super) fragment: Vec<u8>,
    pub(super) sample: PackedSample,
    /// Its tokens.
    pub(super) tokens: u32,
    /// What it adds to its pack, in bytes.
    pub(super) bytes: u32,
}

/// Prepares a sample whose pictures are stored as `pictures`.
pub(super) fn prepare(
    sample: &Sample,
    pictures: Vec<StoredPicture>,
    options: &PackOptions,
    tokenizer: &Tokenizer,
) -> Result<Prepared, Fault> {
    let sizes: Vec<usize> = pictures.iter().map(|picture| picture.tokens as usize).collect();
    let limit = options.fit.capacity as usize;
    let too_long =
        |got: usize| (RejectKind::TooLong, format!("{got} tokens or more, a sequence has {limit}"));
    // Before the tokens of a huge picture are written out.
    let least: usize = sizes.iter().sum();
    if least > limit {
        return Err(too_long(least));
    }
    let encoded =
        chat::encode_for_training(&sample.messages, &sizes, tokenizer).map_err(|error| match error {
            ChatError::Tokenizer(error) => (RejectKind::Malformed, error.to_string()),
            other => (RejectKind::Conversation, other.to_string()),
        })?;
    if encoded.tokens.len() > limit {
        return Err(too_long(encoded.tokens.len()));
    }
    let learned = PackedSample::learned_of(&encoded.labels);
    let (tokens, id) = (encoded.tokens.len() as u32, sample.id);
    let packed =
        PackedSample { id, origin: sample.origin.clone(), pictures, learned, tokens: encoded.tokens };
    let json = fragment(&packed).map_err(|error| (RejectKind::Malformed, error.to_string()))?;
    let bytes = sample_bytes(json.len() as u64, sample.pictures.iter().map(|picture| picture.bytes));
    // Room for the pack's own header and JSON.
    let Some(bytes) = u32::try_from(bytes).ok().filter(|&bytes| u64::from(bytes) + 4096 <= MAX_PACK_BYTES)
    else {
        let reason = format!("{bytes} bytes with its pictures, a pack may have {MAX_PACK_BYTES}");
        return Err((RejectKind::TooLong, reason));
    };
    Ok(Prepared { fragment: json, sample: packed, tokens, bytes })
}

/// What is stored of a picture, from its bytes or their beginning.
pub(super) fn describe(
    picture: &PictureRef,
    head: &[u8],
    options: &PackOptions,
) -> Result<StoredPicture, Fault> {
    let bad = |reason: String| (RejectKind::BadPicture, reason);
    let name = picture.name();
    let (width, height) = head_size(head, Path::new(&name), &options.preprocess.limits)
        .map_err(|error| bad(error.to_string()))?;
    let (fitted_width, fitted_height) = options
        .preprocess
        .fitted(width, height)
        .map_err(|error| bad(format!("picture {name} cannot be resized: {error}")))?;
    let format =
        PictureFormat::of(head).ok_or_else(|| bad(format!("picture {name} is of no known format")))?;
    let tokens = llm_tokens(fitted_width, fitted_height) as u32;
    Ok(StoredPicture { format, width, height, tokens })
}

fn look_at(picture: &PictureRef, roots: &Roots, options: &PackOptions) -> Result<StoredPicture, Fault> {
    let limits = &options.preprocess.limits;
    if options.pixels == PixelCheck::Head {
        let head = roots.read_head(picture, limits.file_bytes, HEAD_BYTES)?;
        if let Ok(stored) = describe(picture, &head, options) {
            return Ok(stored);
        }
    }
    let bytes = roots.read(picture, limits.file_bytes)?;
    let stored = describe(picture, &bytes, options)?;
    if options.pixels == PixelCheck::Decode {
        let bad = |reason: String| (RejectKind::BadPicture, reason);
        let name = picture.name();
        let decoded =
            decode_bytes(&bytes, Path::new(&name), limits).map_err(|error| bad(error.to_string()))?;
        if (decoded.width, decoded.height) != (stored.width, stored.height) {
            return Err(bad(format!("picture {name} has another size than its head says")));
        }
    }
    Ok(stored)
}

fn measure_one(sample: &Sample, roots: &Roots, job: &Job<'_>) -> Result<Prepared, Fault> {
    let look = |picture: &PictureRef| look_at(picture, roots, job.options);
    let pictures = sample.pictures.iter().map(look).collect::<Result<_, _>>()?;
    prepare(sample, pictures, job.options, &job.tokenizer)
}

/// The endings of a chunk's two files.
const TABLE: &str = "table";
const REJECTS: &str = "rejects";

/// Measures the samples of a part, chunk by chunk; what an earlier try has measured is left as it is.
pub(super) fn measure(job: &Job<'_>, part: Part) -> Result<(), PackError> {
    let files = job.measured();
    if files.is_done(part) {
        return Ok(());
    }
    let (mut chunk, mut skip) = (0, 0);
    while files.chunk(part, chunk, TABLE).exists() {
        skip += chunk_head(&files.chunk(part, chunk, TABLE), &job.fingerprint)?.seen;
        chunk += 1;
    }
    job.progress.begin("measuring", job.lists.iter().map(|list| list.bytes).sum(), Unit::Bytes);
    each_chunk(&job.lists, part, skip, CHUNK_SAMPLES, job.progress, |some| {
        measure_chunk(job, part, chunk, some)?;
        chunk += 1;
        Ok::<_, PackError>(())
    })?;
    Ok(files.mark_done(part, chunk)?)
}

/// Rejects first: the table's chunk says that both are there.
fn measure_chunk(job: &Job<'_>, part: Part, chunk: u32, some: &[(usize, Placed)]) -> Result<(), PackError> {
    let outcomes: Vec<Result<Row, Fault>> = some
        .par_iter()
        .map(|(list, Placed { offset, sample })| {
            let prepared = measure_one(sample, &job.lists[*list].roots, job)?;
            let place = Place::new(*list, *offset)
                .ok_or_else(|| (RejectKind::Malformed, "its list is longer than 2^48 bytes".to_owned()))?;
            let draw = sample.id.draw("pack", job.options.seed);
            Ok(Row { draw, sample: Measured { place, tokens: prepared.tokens, bytes: prepared.bytes } })
        })
        .collect();
    let path = job.measured().chunk(part, chunk, REJECTS);
    let mut rejects = RejectWriter::create(&path).map_err(write_error(&path))?;
    let mut rows = Vec::with_capacity(some.len());
    for ((_, placed), outcome) in some.iter().zip(outcomes) {
        match outcome {
            Ok(row) => rows.push(row),
            Err((kind, reason)) => {
                let reject = Reject::new(placed.sample.origin.clone(), kind, reason);
                rejects.write(&reject).map_err(write_error(&path))?;
            }
        }
    }
    rejects.finish().map_err(write_error(&path))?;
    let table = job.measured().chunk(part, chunk, TABLE);
    Ok(write_chunk(&table, &job.fingerprint, some.len() as u64, rows)?)
}

/// The chunks of tables and of rejects, when all parts of some split are measured.
pub(super) struct MeasuredFiles {
    pub(super) tables: Vec<PathBuf>,
    pub(super) rejects: Vec<PathBuf>,
}

/// Finds the measured parts.
pub(super) fn measured_files(job: &Job<'_>) -> Result<MeasuredFiles, PackError> {
    let parts = job.measured();
    let mut files = MeasuredFiles { tables: Vec::new(), rejects: Vec::new() };
    for part in parts.whole_split()? {
        for chunk in 0..parts.chunks(part)? {
            files.tables.push(parts.chunk(part, chunk, TABLE));
            files.rejects.push(parts.chunk(part, chunk, REJECTS));
        }
    }
    Ok(files)
}

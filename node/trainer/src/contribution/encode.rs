//! From a pseudo-gradient to a blob.

use rayon::prelude::*;

use super::{
    CHUNKS_PER_SEGMENT, CodecSettings, ErrorFeedback, FLUSH_BELOW, Header, Layout, MAX_DELTA, Origin,
    SettingsError,
    bits::BitWriter,
    header::count_width,
    positions::GapCode,
    quantise::{first_level, fit, from_bfloat16},
    select::Selector,
};
use crate::moments::Factors;

/// Why a pseudo-gradient is not encoded. The error feedback is then as it was.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The settings are out of bounds.
    #[error("the codec's settings are out of bounds")]
    Settings(#[from] SettingsError),
    /// The pseudo-gradient or the feedback has not the layout's shape.
    #[error("tensor {tensor} of the layout has {expected} elements; the pseudo-gradient has {got} there")]
    Shape {
        /// Which tensor of the layout.
        tensor: usize,
        /// Elements in the layout; 0 when the tensor is not in it.
        expected: u64,
        /// Elements given; 0 when the tensor is missing.
        got: u64,
    },
    /// The error feedback belongs to another layout.
    #[error("the error feedback belongs to another layout: start again from zero at a new stage")]
    Feedback,
    /// The pseudo-gradient holds a value that is no number, or absurdly large.
    #[error("tensor {tensor}, element {element} of the pseudo-gradient is {value}: training has diverged")]
    Absurd {
        /// Which tensor of the layout.
        tensor: usize,
        /// Which of its elements.
        element: usize,
        /// Its value.
        value: f32,
    },
}

/// Encodes `delta`, the pseudo-gradient `theta_start - theta_end` of each tensor of the layout.
///
/// For each element, `sum = decay x feedback + delta` (two roundings, no fused multiply-add); the largest
/// sums of each chunk are quantised and sent, and `sum - sent` becomes the new feedback. Segments are encoded
/// in parallel on rayon's current pool; the bytes don't depend on it.
///
/// # Errors
///
/// [`EncodeError`] when settings, shapes or values are out of bounds; `feedback` is unchanged then.
pub fn encode(
    settings: &CodecSettings,
    layout: &Layout,
    origin: &Origin,
    delta: &[&[f32]],
    feedback: &mut ErrorFeedback,
) -> Result<Vec<u8>, EncodeError> {
    encode_with(settings, layout, origin, delta, None, feedback)
}

/// The same, with the member's second moments in brief where the run has public moments.
///
/// # Errors
///
/// As [`encode`]'s.
pub fn encode_with(
    settings: &CodecSettings,
    layout: &Layout,
    origin: &Origin,
    delta: &[&[f32]],
    factors: Option<&Factors>,
    feedback: &mut ErrorFeedback,
) -> Result<Vec<u8>, EncodeError> {
    check_all(settings, layout, delta, feedback)?;
    let chunk = settings.chunk as usize;
    let mut chunks: Vec<(&[f32], &mut [f32])> = delta
        .iter()
        .zip(feedback.tensors_mut())
        .flat_map(|(delta, feedback)| delta.chunks(chunk).zip(feedback.chunks_mut(chunk)))
        .collect();
    let parts: Vec<Vec<u8>> = chunks
        .par_chunks_mut(CHUNKS_PER_SEGMENT)
        .map_init(Scratch::default, |scratch, chunks| {
            let mut bits = BitWriter::default();
            for (delta, feedback) in chunks {
                encode_chunk(settings, delta, feedback, scratch, &mut bits);
            }
            bits.finish()
        })
        .collect();
    Ok(blob_of(settings, layout, origin, parts, factors))
}

/// What has to hold of the arguments of [`encode`].
///
/// # Errors
///
/// As [`encode`]'s.
pub fn check_all(
    settings: &CodecSettings,
    layout: &Layout,
    delta: &[&[f32]],
    feedback: &ErrorFeedback,
) -> Result<(), EncodeError> {
    settings.validate()?;
    check_shapes(layout, delta)?;
    if feedback.layout() != layout.digest() {
        return Err(EncodeError::Feedback);
    }
    check_values(delta)
}

fn blob_of(
    settings: &CodecSettings,
    layout: &Layout,
    origin: &Origin,
    mut parts: Vec<Vec<u8>>,
    factors: Option<&Factors>,
) -> Vec<u8> {
    parts.extend(factors.map(Factors::to_bytes));
    let version = if factors.is_some() { Header::WITH_FACTORS } else { Header::PLAIN };
    let header = Header { version, settings: *settings, layout: layout.digest(), origin: *origin };
    join(&header, &parts)
}

fn join(header: &Header, parts: &[Vec<u8>]) -> Vec<u8> {
    let body: usize = parts.iter().map(Vec::len).sum();
    let mut blob = Vec::with_capacity(Header::BYTES + 4 * parts.len() + body);
    header.write(&mut blob);
    for part in parts {
        // a segment: 256 chunks of 65,536 entries of at most 26 bits, 55 MB; factors: less than a byte a mean
        blob.extend_from_slice(&(part.len() as u32).to_le_bytes());
    }
    for part in parts {
        blob.extend_from_slice(part);
    }
    blob
}

fn check_shapes(layout: &Layout, delta: &[&[f32]]) -> Result<(), EncodeError> {
    for tensor in 0..layout.tensors().len().max(delta.len()) {
        let expected = layout.tensors().get(tensor).map_or(0, |(_, elements)| *elements);
        let got = delta.get(tensor).map_or(0, |values| values.len() as u64);
        if expected != got || tensor >= layout.tensors().len() {
            return Err(EncodeError::Shape { tensor, expected, got });
        }
    }
    Ok(())
}

fn check_values(delta: &[&[f32]]) -> Result<(), EncodeError> {
    // with the sign cleared, bits compare as magnitudes do, and infinities and NaNs come last; as integers,
    // because that maximum vectorises
    let magnitude = |value: &f32| (value.to_bits() & 0x7fff_ffff).cast_signed();
    let most = magnitude(&MAX_DELTA);
    for (tensor, values) in delta.iter().enumerate() {
        let bad = values
            .par_chunks(1 << 16)
            .any(|part| part.iter().fold(0, |largest, value| largest.max(magnitude(value))) > most);
        if bad && let Some(element) = values.iter().position(|value| magnitude(value) > most) {
            return Err(EncodeError::Absurd { tensor, element, value: values[element] });
        }
    }
    Ok(())
}

/// Buffers of one thread.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    magnitudes: Vec<f32>,
    selector: Selector,
    positions: Vec<u16>,
    chosen: Vec<f32>,
    levels: Vec<u32>,
    sent: Vec<Sent>,
}

pub(super) fn encode_chunk(
    settings: &CodecSettings,
    delta: &[f32],
    feedback: &mut [f32],
    scratch: &mut Scratch,
    bits: &mut BitWriter,
) {
    let Scratch { magnitudes, selector, positions, chosen, levels, sent } = scratch;
    accumulate(settings.error_feedback, delta, feedback, magnitudes);
    let k = settings.k_of(delta.len());
    selector.largest(magnitudes, k, positions);
    chosen.clear();
    chosen.extend(positions.iter().map(|&at| magnitudes[usize::from(at)]));
    let word = fit(chosen, settings.bits, levels);
    let scale = from_bfloat16(word);
    sent.clear();
    for (&position, &level) in positions.iter().zip(levels.iter()).filter(|(_, level)| **level > 0) {
        let residual = &mut feedback[usize::from(position)];
        let negative = residual.is_sign_negative();
        let value = level as f32 * scale;
        *residual -= if negative { -value } else { value };
        sent.push(Sent { position, level, negative });
    }
    write_chunk(settings, delta.len(), word, sent, bits);
}

/// One entry of a chunk that is sent.
#[derive(Debug, Clone, Copy)]
struct Sent {
    position: u16,
    /// Never 0.
    level: u32,
    negative: bool,
}

/// The bits of a chunk of `length` elements: its scale, and what is sent of it in ascending order.
fn write_chunk(settings: &CodecSettings, length: usize, word: u16, sent: &[Sent], bits: &mut BitWriter) {
    if word == 0 {
        bits.push(0, 16);
        return;
    }
    let (k, count, first) = (settings.k_of(length), sent.len(), first_level(settings.bits));
    // a scale is positive, so its sign is free to say that fewer than k entries follow
    bits.push(u32::from(word) | u32::from(count < k) << 15, 16);
    if count < k {
        bits.push(count as u32, count_width(k));
    }
    let gaps = GapCode::new(length, count);
    let mut next = 0;
    for &Sent { position, level, negative } in sent {
        gaps.push(u32::from(position) - next, bits);
        bits.push(u32::from(negative) | (level - first) << 1, u32::from(settings.bits));
        next = u32::from(position) + 1;
    }
}

/// What another device chose of one tensor, chunk by chunk, as `kernels/codec/select.cu` leaves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// For every chunk the bfloat16 bits of its scale, 0 when nothing is sent, and how many entries were chosen.
    pub heads: Vec<[u32; 2]>,
    /// `k` places for every chunk; those that were chosen come first, in ascending order: position, level from bit 16 on (0
    /// is not sent), sign in bit 31.
    pub entries: Vec<u32>,
}

/// Puts together the blob from what another device chose: the same bytes as [`encode_with`]'s for the same numbers.
///
/// # Errors
///
/// [`EncodeError`] when settings are out of bounds, or there are not as many chunks and entries as the layout has.
pub fn assemble(
    settings: &CodecSettings,
    layout: &Layout,
    origin: &Origin,
    selections: &[Selection],
    factors: Option<&Factors>,
) -> Result<Vec<u8>, EncodeError> {
    settings.validate()?;
    let (chunk, k) = (settings.chunk as usize, settings.k as usize);
    let mut chunks = Vec::new();
    for (tensor, (_, elements)) in layout.tensors().iter().enumerate() {
        let refuse = |got: u64| EncodeError::Shape { tensor, expected: *elements, got };
        let found = selections.get(tensor).ok_or_else(|| refuse(0))?;
        let count = elements.div_ceil(chunk as u64) as usize;
        if found.heads.len() != count || found.entries.len() != count * k {
            return Err(refuse(found.heads.len() as u64 * chunk as u64));
        }
        let lengths = (0..count).map(|i| (*elements as usize - i * chunk).min(chunk));
        chunks.extend(lengths.zip(found.heads.iter().zip(found.entries.chunks_exact(k))));
    }
    let parts = chunks.par_chunks(CHUNKS_PER_SEGMENT).map(|chunks| {
        let (mut bits, mut sent) = (BitWriter::default(), Vec::new());
        for &(length, (&[word, count], entries)) in chunks {
            let entry = |&entry: &u32| Sent {
                position: entry as u16,
                level: entry >> 16 & 0x7fff,
                negative: entry >> 31 == 1,
            };
            sent.clear();
            sent.extend(entries.iter().take(count as usize).map(entry).filter(|sent| sent.level > 0));
            write_chunk(settings, length, word as u16, &sent, &mut bits);
        }
        bits.finish()
    });
    let parts: Vec<Vec<u8>> = parts.collect();
    Ok(blob_of(settings, layout, origin, parts, factors))
}

/// `feedback = decay x feedback + delta`, tiny sums flushed, and their magnitudes.
fn accumulate(decay: f32, delta: &[f32], feedback: &mut [f32], magnitudes: &mut Vec<f32>) {
    magnitudes.resize(delta.len(), 0.0);
    for ((feedback, &delta), magnitude) in feedback.iter_mut().zip(delta).zip(magnitudes.iter_mut()) {
        let sum = decay * *feedback + delta;
        let sum = if sum.abs() < FLUSH_BELOW { 0.0 } else { sum };
        *feedback = sum;
        *magnitude = sum.abs();
    }
}

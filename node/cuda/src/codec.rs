//! The contribution codec on the device: what is sent of each chunk is chosen where the numbers are, and only that comes to
//! the host, which writes the bits. The same bytes as on the processor.

use talkoot_trainer::{
    backend::{Backend, BackendError},
    contribution::{
        CodecSettings, EncodeError, ErrorFeedback, Layout, MAX_DELTA, Origin, Selection, assemble, check_all,
        first_level, last_level,
    },
    moments::Factors,
};

use crate::{
    Cuda,
    buffer::Buffer,
    class::Class,
    cuda::launch::{count, during, line},
    device::{Argument, Device},
    kernels::{CONTRIBUTION_LARGEST, CONTRIBUTION_SELECT},
};

/// Why there is no contribution.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContributionError {
    /// The device failed. The error feedback on it is lost; the one that the round began with is still on the host.
    #[error(transparent)]
    Device(#[from] BackendError),
    /// The pseudo-gradient or the settings are refused; the error feedback is as it was.
    #[error(transparent)]
    Refused(#[from] EncodeError),
}

/// Encodes `delta` with `feedback`, both in the layout's order; as [`talkoot_trainer::contribution::encode_with`] does.
///
/// # Errors
///
/// [`ContributionError`] says whether the device failed or the numbers are refused.
pub fn encode<D: Device, C: Class>(
    cuda: &Cuda<D, C>,
    settings: &CodecSettings,
    layout: &Layout,
    origin: &Origin,
    delta: &[&Buffer<D>],
    factors: Option<&Factors>,
    feedback: &mut [Buffer<D>],
) -> Result<Vec<u8>, ContributionError> {
    settings.validate().map_err(EncodeError::from)?;
    for tensor in 0..layout.tensors().len().max(delta.len()).max(feedback.len()) {
        let expected = layout.tensors().get(tensor).map_or(0, |(_, elements)| *elements);
        let lengths = [delta.get(tensor).map(|d| d.len), feedback.get(tensor).map(|f| f.len)];
        for got in lengths.map(|len| len.map_or(0, |len| len as u64)) {
            if got != expected || tensor >= layout.tensors().len() {
                return Err(EncodeError::Shape { tensor, expected, got }.into());
            }
        }
    }
    // everything is looked at before anything is changed
    for (tensor, delta) in delta.iter().enumerate() {
        check(cuda, settings, tensor, delta)?;
    }
    let choices = delta.iter().zip(&*feedback);
    let selections: Vec<Selection> =
        choices.map(|(delta, feedback)| select(cuda, settings, delta, feedback)).collect::<Result<_, _>>()?;
    Ok(assemble(settings, layout, origin, &selections, factors)?)
}

/// The same with everything on the host: one tensor at a time is on the device, so that there is room for a large model's.
///
/// # Errors
///
/// As [`encode`]; `feedback` is as it was then.
pub fn encode_from_host<D: Device, C: Class>(
    cuda: &Cuda<D, C>,
    settings: &CodecSettings,
    layout: &Layout,
    origin: &Origin,
    delta: &[&[f32]],
    factors: Option<&Factors>,
    feedback: &mut ErrorFeedback,
) -> Result<Vec<u8>, ContributionError> {
    check_all(settings, layout, delta, feedback)?;
    let (mut selections, mut left) = (Vec::new(), Vec::new());
    for (delta, before) in delta.iter().zip(feedback.tensors()) {
        let (delta, feedback) = (cuda.upload(delta)?, cuda.upload(before)?);
        selections.push(select(cuda, settings, &delta, &feedback)?);
        left.push(cuda.download(&feedback)?);
    }
    let blob = assemble(settings, layout, origin, &selections, factors)?;
    feedback.replace(left);
    Ok(blob)
}

/// Refuses numbers that are none, or absurdly large.
fn check<D: Device, C: Class>(
    cuda: &Cuda<D, C>,
    settings: &CodecSettings,
    tensor: usize,
    delta: &Buffer<D>,
) -> Result<(), ContributionError> {
    let chunks = delta.len.div_ceil(settings.chunk as usize);
    if chunks == 0 {
        return Ok(());
    }
    let largest = cuda.scratch(chunks)?;
    let arguments = [
        delta.all().holding(delta.len),
        count(delta.len),
        Argument::U32(settings.chunk),
        largest.all().holding(chunks),
    ];
    cuda.run("looking at the pseudo-gradient", CONTRIBUTION_LARGEST, line(chunks, 1, 256), &arguments)?;
    let magnitudes = words(cuda, &largest)?;
    let absurd = |bits: u32| bits > MAX_DELTA.to_bits();
    if magnitudes.into_iter().any(absurd) {
        let values = cuda.download(delta)?;
        let element = values.iter().position(|value| absurd(value.abs().to_bits())).unwrap_or_default();
        return Err(EncodeError::Absurd { tensor, element, value: values[element] }.into());
    }
    Ok(())
}

fn select<D: Device, C: Class>(
    cuda: &Cuda<D, C>,
    settings: &CodecSettings,
    delta: &Buffer<D>,
    feedback: &Buffer<D>,
) -> Result<Selection, ContributionError> {
    let (chunks, k) = (delta.len.div_ceil(settings.chunk as usize), settings.k as usize);
    if chunks == 0 {
        return Ok(Selection { heads: Vec::new(), entries: Vec::new() });
    }
    let (heads, entries) = (cuda.scratch(2 * chunks)?, cuda.scratch(chunks * k)?);
    let arguments = [
        delta.all().holding(delta.len),
        feedback.all().holding(delta.len),
        count(delta.len),
        Argument::U32(settings.chunk),
        Argument::U32(settings.k),
        Argument::U32(first_level(settings.bits)),
        Argument::U32(last_level(settings.bits)),
        Argument::F32(settings.error_feedback),
        heads.all().holding(2 * chunks),
        entries.all().holding(chunks * k),
    ];
    cuda.run("choosing what is sent", CONTRIBUTION_SELECT, line(chunks, 1, 256), &arguments)?;
    let heads = words(cuda, &heads)?.as_chunks::<2>().0.to_vec();
    Ok(Selection { heads, entries: words(cuda, &entries)? })
}

/// A buffer as words.
fn words<D: Device, C: Class>(cuda: &Cuda<D, C>, from: &Buffer<D>) -> Result<Vec<u32>, BackendError> {
    let mut words = vec![0u32; from.len];
    let bytes = bytemuck::cast_slice_mut(&mut words);
    cuda.device().download(from.memory(), 0, bytes).map_err(during("reading what is sent"))?;
    Ok(words)
}

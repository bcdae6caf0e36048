//! Size and speed of the contribution codec on drawn pseudo-gradients.

mod source;

use std::time::Instant;

use serde::Serialize;

pub use source::{Numbers, Source};

use crate::{
    aggregate::{AggregateError, Rule, Weight, outer_step},
    contribution::{CodecSettings, ErrorFeedback, Layout, Origin, encode},
};

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct CodecFigures {
    /// Entries of a chunk.
    pub chunk: u32,
    /// Entries sent of it.
    pub k: u32,
    /// Bits of a sent value.
    pub bits: u8,
    /// Parameters.
    pub parameters: usize,
    /// Threads that took part.
    pub threads: usize,
    /// Contributions that were combined.
    pub members: usize,
    /// Bits of a contribution for each parameter, all told.
    pub bits_per_parameter: f64,
    /// How many times smaller than f32 that is.
    pub ratio_f32: f64,
    /// From a pseudo-gradient with error feedback to a blob: gigabytes of f32 parameters a second.
    pub encode_gb_per_s: f64,
    /// From blobs to the next state, checked first: gigabytes of f32 parameters of each contribution a second.
    pub decode_gb_per_s: f64,
    /// Bytes of all blobs together.
    pub blobs_bytes: u64,
    /// Seconds of one encoding.
    pub encode_s: f64,
    /// Seconds of one outer step over all members' blobs.
    pub decode_s: f64,
}

/// What is being measured; said when it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Values are drawn and encoded.
    Encoding,
    /// Blobs are combined into the next state. In memory are the state, the blobs and what combining needs.
    Combining,
}

/// Measures `rounds` rounds of one member's encoding, and the outer step over `members` contributions; medians.
///
/// # Errors
///
/// [`AggregateError`] when the settings are out of bounds.
///
/// # Panics
///
/// When there are no parameters.
pub fn codec(
    settings: &CodecSettings,
    parameters: usize,
    members: usize,
    rounds: usize,
    mut on_phase: impl FnMut(Phase),
) -> Result<CodecFigures, AggregateError> {
    settings.validate()?;
    on_phase(Phase::Encoding);
    let layout = Layout::new(vec![("weight".to_owned(), parameters as u64)])
        .expect("one tensor with a short name is a layout");
    let mut feedback = ErrorFeedback::zero(&layout);
    let delta = Source::Gaussian.values(1, parameters);
    let take = |member: u8, round: usize, feedback: &mut ErrorFeedback| {
        let origin = Origin { round: round as u64, member: [member; 32], steps: 30, tokens: 1 << 20 };
        let clock = Instant::now();
        let blob = encode(settings, &layout, &origin, &[&delta], feedback)
            .expect("drawn values are within the codec's bounds");
        (blob, clock.elapsed().as_secs_f64())
    };
    // The first round is not timed: in it the system hands out the feedback's pages.
    let (first, _) = take(0, 0, &mut feedback);
    let encoding: Vec<f64> = (1..=rounds).map(|round| take(0, round, &mut feedback).1).collect();
    let mut blobs = vec![first];
    for member in 1..members {
        // One buffer for all of them: what is held back from one is sent by a later one, so that they send different entries.
        blobs.push(take(member as u8, 0, &mut feedback).0);
    }
    drop((feedback, delta));
    let list: Vec<(&[u8], Weight)> = blobs.iter().map(|blob| (blob.as_slice(), Weight(1))).collect();
    let mut theta = Source::Gaussian.values(2, parameters);
    on_phase(Phase::Combining);
    let mut decoding = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let clock = Instant::now();
        outer_step(&mut [&mut theta], &list, settings, &layout, 1.0, Rule::Mean)?;
        decoding.push(clock.elapsed().as_secs_f64());
    }
    let gigabytes = parameters as f64 * 4e-9;
    let bits_per_parameter = blobs[0].len() as f64 * 8.0 / parameters as f64;
    let (encode_s, decode_s) = (median(encoding), median(decoding));
    Ok(CodecFigures {
        chunk: settings.chunk,
        k: settings.k,
        bits: settings.bits,
        parameters,
        threads: rayon::current_num_threads(),
        members,
        bits_per_parameter,
        ratio_f32: 32.0 / bits_per_parameter,
        blobs_bytes: blobs.iter().map(|blob| blob.len() as u64).sum(),
        encode_gb_per_s: gigabytes / encode_s,
        decode_gb_per_s: gigabytes * members as f64 / decode_s,
        encode_s,
        decode_s,
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

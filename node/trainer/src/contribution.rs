//! The contribution codec: what a member sends at the end of a round, as bytes.
//!
//! ```text
//! delta + 0.95 x feedback --> chunks of 4,096 --> top 64 --> 2-bit values, one scale --> Golomb gaps --> blob
//!               ^                                                |
//!               `----------- what was not sent ------------------'
//! ```
//!
//! A blob is a pure function of the pseudo-gradient, the error feedback and the settings: the same bytes on
//! every machine, whatever the number of threads. The only arithmetic is `+ - * /` on f32 in a fixed order.
//! `docs/contribution-format.md` is the format to the last bit.
//!
//! A run with public moments (see [`crate::moments`]) appends what the member's second moments are in brief.
//!
//! The scheme is that of SparseLoCo (arXiv 2508.15706); the position code, the fitted scale and the rule that
//! an entry is only sent when sending it makes the residual smaller are ours.
//!
//! ```
//! use talkoot_trainer::contribution::{CodecSettings, ErrorFeedback, Layout, Origin, decode, encode};
//!
//! let settings = CodecSettings { chunk: 64, k: 4, bits: 2, error_feedback: 0.95 };
//! let layout = Layout::new(vec![("weight".to_owned(), 100)])?;
//! let mut feedback = ErrorFeedback::zero(&layout);
//! let delta: Vec<f32> = (0..100u8).map(|i| f32::from(i) - 50.0).collect();
//! let origin = Origin { round: 3, member: [7; 32], steps: 30, tokens: 4096 };
//! let blob = encode(&settings, &layout, &origin, &[&delta], &mut feedback)?;
//! let decoded = decode(&blob, &settings, &layout)?;
//! assert_eq!(decoded.tensors[0].positions.len(), 4 + 3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bits;
mod decode;
mod encode;
mod feedback;
mod header;
mod kept;
mod layout;
mod positions;
mod quantise;
mod restore;
mod select;
mod settings;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vector;

pub use decode::{ChunkView, Contribution, DecodeError, Decoded, SparseTensor, decode, visit};
pub use encode::{EncodeError, Selection, assemble, check_all, encode, encode_with};
pub use feedback::{ErrorFeedback, FeedbackError};
pub use header::{Header, HeaderError, Origin, decode_header};
pub use kept::{KeptChunk, KeptError, check_kept};
pub use layout::{ChunkRef, Geometry, Layout, LayoutError};
pub use quantise::{first_level, last_level};
pub use settings::{CodecSettings, SettingsError};

/// Chunks per segment: segments start at a byte and are listed in the header, so that several threads can
/// encode and decode one blob. 256 chunks of 4,096 are 1 Mi parameters and about 20 kB.
pub const CHUNKS_PER_SEGMENT: usize = 256;

/// Largest magnitude of a pseudo-gradient's entry, 2^32: no sane round moves a weight that far.
pub const MAX_DELTA: f32 = 4_294_967_296.0;

/// Largest magnitude in the error feedback, and of a chunk's scale, 2^40: twenty [`MAX_DELTA`] and room to spare.
pub const MAX_SCALE: f32 = 1_099_511_627_776.0;

/// Smallest scale, 2^-60. A chunk that would need a smaller one is not sent.
pub const MIN_SCALE: f32 = 1.0 / 1_152_921_504_606_846_976.0;

/// Accumulated values below this magnitude, 2^-100, become zero.
///
/// Feedback that nobody sends shrinks by 0.95 a round, and some 1,500 rounds later it would be subnormal: slow
/// on CPUs, and flushed to zero by some GPUs, which would break the equality of bits.
pub const FLUSH_BELOW: f32 = f32::from_bits((127 - 100) << 23);

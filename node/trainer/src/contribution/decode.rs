//! From a blob to positions and values, chunk by chunk.

use super::{
    ChunkRef, CodecSettings, Geometry, Header, HeaderError, Layout, MAX_SCALE, MIN_SCALE,
    bits::{BitReader, BitsError},
    decode_header,
    header::count_width,
    positions::GapCode,
    quantise::{first_level, from_bfloat16},
};
use talkoot_protocol::digest::Digest;

/// Why bytes are not a contribution to this round's layout and settings.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The header is damaged, or of another version.
    #[error("the contribution's header is refused")]
    Header(#[from] HeaderError),
    /// The settings are not the run's.
    #[error("the contribution was encoded with {got:?}, the run's settings are {expected:?}")]
    Settings {
        /// The run's settings.
        expected: CodecSettings,
        /// The blob's.
        got: CodecSettings,
    },
    /// The layout is not that of the stage.
    #[error("the contribution is for layout {got}, this stage trains {expected}")]
    Layout {
        /// Digest of the stage's layout.
        expected: Digest,
        /// The blob's.
        got: Digest,
    },
    /// The blob's length is not what its table of segments says.
    #[error("the contribution should have {expected} bytes, got {got}")]
    Length {
        /// Length by header, layout and table.
        expected: u64,
        /// Bytes given.
        got: u64,
    },
    /// A segment ends within a chunk.
    #[error("segment {segment} ends within chunk {chunk}")]
    Truncated {
        /// Which segment.
        segment: u64,
        /// Number of the chunk, over all tensors.
        chunk: u64,
    },
    /// Bytes follow a segment's last chunk, or its padding has set bits.
    #[error("segment {segment} goes on after its last chunk")]
    Trailing {
        /// Which segment.
        segment: u64,
    },
    /// A scale that is no positive number within the bounds, or marked as short and zero.
    #[error("chunk {chunk}: the scale word {word:#06x} is not allowed")]
    Scale {
        /// Number of the chunk, over all tensors.
        chunk: u64,
        /// The 16 bits read.
        word: u16,
    },
    /// A short chunk that holds no entries, or as many as a full one.
    #[error("chunk {chunk}: a short chunk holds 1 to {most} entries, not {got}")]
    Count {
        /// Number of the chunk, over all tensors.
        chunk: u64,
        /// Most entries a short chunk of this length holds.
        most: u32,
        /// The number read.
        got: u32,
    },
    /// Gaps that lead past the chunk's end.
    #[error("chunk {chunk}: entry {entry} stands past the chunk's end")]
    Position {
        /// Number of the chunk, over all tensors.
        chunk: u64,
        /// Which of its entries.
        entry: u32,
    },
}

/// One decoded chunk; entries ascend by position.
#[derive(Debug, Clone, Copy)]
pub struct ChunkView<'a> {
    /// Number of the chunk, over all tensors.
    pub number: u64,
    /// Which chunk of which tensor.
    pub chunk: ChunkRef,
    /// Positions within the chunk.
    pub positions: &'a [u16],
    /// What is sent there; never zero, always finite.
    pub values: &'a [f32],
}

/// What a blob says about one tensor.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SparseTensor {
    /// Positions within the tensor, ascending.
    pub positions: Vec<u64>,
    /// What is sent there.
    pub values: Vec<f32>,
}

/// A whole decoded blob.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The header.
    pub header: Header,
    /// One entry per tensor of the layout.
    pub tensors: Vec<SparseTensor>,
}

/// A blob whose header, settings, layout and length are right, and whose segments can be read one by one.
///
/// The segments' content is checked as it is read.
#[derive(Debug, Clone)]
pub struct Contribution<'a> {
    header: Header,
    geometry: Geometry,
    body: &'a [u8],
    /// Where each part starts in the body, and where the last one ends.
    starts: Vec<u64>,
}

impl<'a> Contribution<'a> {
    /// Checks everything outside the segments.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when header, settings, layout or length are not as expected.
    pub fn open(bytes: &'a [u8], settings: &CodecSettings, layout: &Layout) -> Result<Self, DecodeError> {
        let header = decode_header(bytes)?;
        if header.settings != *settings {
            return Err(DecodeError::Settings { expected: *settings, got: header.settings });
        }
        if header.layout != layout.digest() {
            return Err(DecodeError::Layout { expected: layout.digest(), got: header.layout });
        }
        let geometry = layout.geometry(settings.chunk);
        let prefix = Header::BYTES as u64 + 4 * header.parts(&geometry);
        let got = bytes.len() as u64;
        if got < prefix {
            return Err(DecodeError::Length { expected: prefix, got });
        }
        let (table, body) = bytes[Header::BYTES..].split_at(prefix as usize - Header::BYTES);
        let (table, _) = table.as_chunks::<4>();
        // the table lies in the bytes given, so this allocates at most twice their length
        let mut starts = Vec::with_capacity(table.len() + 1);
        let mut end = 0u64;
        starts.push(end);
        for length in table {
            end += u64::from(u32::from_le_bytes(*length));
            starts.push(end);
        }
        if end != body.len() as u64 {
            return Err(DecodeError::Length { expected: prefix + end, got });
        }
        Ok(Self { header, geometry, body, starts })
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// How the layout falls into chunks and segments.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn part(&self, at: usize) -> &'a [u8] {
        &self.body[self.starts[at] as usize..self.starts[at + 1] as usize]
    }

    /// The bytes of the member's second moments in brief, for [`Factors::from_bytes`](crate::moments::Factors::from_bytes);
    /// none in a blob of version 1. They are not checked here.
    pub fn factors(&self) -> Option<&'a [u8]> {
        (self.header.version == Header::WITH_FACTORS).then(|| self.part(self.geometry.segments() as usize))
    }

    /// A reader of the chunks of one segment.
    pub(crate) fn segment(&self, segment: u64) -> SegmentReader<'a> {
        debug_assert!(segment < self.geometry.segments());
        let bytes = self.part(segment as usize);
        SegmentReader {
            settings: self.header.settings,
            segment,
            bits: BitReader::new(bytes),
            positions: Vec::new(),
            values: Vec::new(),
        }
    }

    /// Calls `see` with each chunk of `segment` that holds entries, in order.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when the segment is not canonical; chunks before the damage have been seen then.
    pub fn visit_segment(&self, segment: u64, mut see: impl FnMut(ChunkView<'_>)) -> Result<(), DecodeError> {
        let mut reader = self.segment(segment);
        for number in self.geometry.segment(segment) {
            let chunk = self.geometry.chunk(number);
            reader.next(number, chunk.len)?;
            if !reader.positions.is_empty() {
                see(ChunkView { number, chunk, positions: &reader.positions, values: &reader.values });
            }
        }
        reader.finish()
    }

    /// Calls `see` with each chunk that holds entries, in order.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when a segment is not canonical; chunks before the damage have been seen then.
    pub fn visit(&self, mut see: impl FnMut(ChunkView<'_>)) -> Result<(), DecodeError> {
        (0..self.geometry.segments()).try_for_each(|segment| self.visit_segment(segment, &mut see))
    }
}

/// Reads one segment's chunks in order; the last one read lies in `positions` and `values`.
#[derive(Debug)]
pub(crate) struct SegmentReader<'a> {
    settings: CodecSettings,
    segment: u64,
    bits: BitReader<'a>,
    pub(crate) positions: Vec<u16>,
    pub(crate) values: Vec<f32>,
}

impl SegmentReader<'_> {
    /// Reads chunk `number`, of `len` elements.
    pub(crate) fn next(&mut self, number: u64, len: usize) -> Result<(), DecodeError> {
        self.positions.clear();
        self.values.clear();
        let segment = self.segment;
        let truncated = |_: BitsError| DecodeError::Truncated { segment, chunk: number };
        let word = self.bits.take(16).map_err(truncated)? as u16;
        if word == 0 {
            return Ok(());
        }
        let k = self.settings.k_of(len);
        let short = word >> 15 == 1;
        let scale = from_bfloat16(word & 0x7fff);
        // a NaN is in no range
        if !(MIN_SCALE..=MAX_SCALE).contains(&scale) || (short && k == 1) {
            return Err(DecodeError::Scale { chunk: number, word });
        }
        let mut count = k;
        if short {
            let got = self.bits.take(count_width(k)).map_err(truncated)?;
            if got == 0 || got as usize >= k {
                return Err(DecodeError::Count { chunk: number, most: k as u32 - 1, got });
            }
            count = got as usize;
        }
        self.entries(number, len, count, scale)
    }

    fn entries(&mut self, number: u64, len: usize, count: usize, scale: f32) -> Result<(), DecodeError> {
        let segment = self.segment;
        let truncated = |_: BitsError| DecodeError::Truncated { segment, chunk: number };
        let gaps = GapCode::new(len, count);
        let first = first_level(self.settings.bits);
        let width = u32::from(self.settings.bits);
        let mut next = 0u32;
        for entry in 0..count as u32 {
            // the entries that follow need a place each
            let most = (len as u32 - next) - (count as u32 - entry);
            let gap = gaps.take(most, &mut self.bits).map_err(truncated)?;
            if gap > most {
                return Err(DecodeError::Position { chunk: number, entry });
            }
            let code = self.bits.take(width).map_err(truncated)?;
            let magnitude = (first + (code >> 1)) as f32 * scale;
            self.positions.push((next + gap) as u16);
            self.values.push(if code & 1 == 1 { -magnitude } else { magnitude });
            next += gap + 1;
        }
        Ok(())
    }

    /// Checks that the segment ends here.
    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        self.bits.finish().map_err(|_| DecodeError::Trailing { segment: self.segment })
    }
}

/// Calls `see` with each chunk of a blob that holds entries, in order, and returns the header.
///
/// # Errors
///
/// [`DecodeError`] when the bytes are not a canonical blob for `settings` and `layout`; chunks before the damage
/// have been seen then.
pub fn visit(
    bytes: &[u8],
    settings: &CodecSettings,
    layout: &Layout,
    see: impl FnMut(ChunkView<'_>),
) -> Result<Header, DecodeError> {
    let contribution = Contribution::open(bytes, settings, layout)?;
    contribution.visit(see)?;
    Ok(contribution.header)
}

/// Decodes a whole blob; [`visit`] does the same without keeping it.
///
/// # Errors
///
/// [`DecodeError`] when the bytes are not a canonical blob for `settings` and `layout`.
pub fn decode(bytes: &[u8], settings: &CodecSettings, layout: &Layout) -> Result<Decoded, DecodeError> {
    let mut tensors = vec![SparseTensor::default(); layout.tensors().len()];
    let header = visit(bytes, settings, layout, |view| {
        let tensor = &mut tensors[view.chunk.tensor];
        tensor.positions.extend(view.positions.iter().map(|&at| view.chunk.start + u64::from(at)));
        tensor.values.extend_from_slice(view.values);
    })?;
    Ok(Decoded { header, tensors })
}

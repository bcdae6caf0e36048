//! One pack: its JSON, its pictures, and what they must agree on.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{
    MAX_PACK_BYTES, ShardFault, at_most,
    member::{BLOCK, PictureFormat, json_name, padded, picture_name, read_header},
};
use crate::{
    chat::NOT_LEARNED,
    preprocess::{DecodeLimits, PreprocessOptions, Rgb, decode::decode_bytes, llm_tokens},
    sample::{Origin, SampleId},
    sequence::PackedSequence,
};

/// What all packs of a data set have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackRules {
    /// Most tokens of a pack.
    pub sequence_tokens: u32,
    /// All ids are below.
    pub vocab_size: u32,
    /// Id of a picture's token.
    pub image_pad: u32,
    /// What pictures are made to fit.
    pub preprocess: PreprocessOptions,
}

/// A picture of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredPicture {
    /// What the file is.
    pub format: PictureFormat,
    /// Pixels across, before resizing.
    pub width: u32,
    /// Pixels down, before resizing.
    pub height: u32,
    /// Places that it takes among the tokens, after resizing.
    pub tokens: u32,
}

/// A sample of a pack: where it comes from, its tokens, its pictures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackedSample {
    /// The sample's name.
    pub id: SampleId,
    /// Source, record and licence.
    pub origin: Origin,
    /// Pictures in the order of their tokens.
    pub pictures: Vec<StoredPicture>,
    /// Stretches of tokens that are learnt: first token, counted in the sample, and how many.
    pub learned: Vec<(u32, u32)>,
    /// Token ids, a picture as that many of the picture's id.
    pub tokens: Vec<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    pack: u64,
    samples: Vec<PackedSample>,
}

/// A sample as it stands in its pack's JSON.
///
/// # Errors
///
/// When the encoder refuses, which it has no reason to.
pub fn fragment(sample: &PackedSample) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(sample)
}

/// The JSON of a pack out of its samples' [`fragment`]s.
pub(super) fn join(pack: u64, fragments: &[Vec<u8>]) -> Vec<u8> {
    let mut json = format!("{{\"pack\":{pack},\"samples\":[").into_bytes();
    for (at, fragment) in fragments.iter().enumerate() {
        if at > 0 {
            json.push(b',');
        }
        json.extend_from_slice(fragment);
    }
    json.extend_from_slice(b"]}\n");
    json
}

impl PackedSample {
    /// Labels to stretches of learnt tokens.
    pub fn learned_of(labels: &[i64]) -> Vec<(u32, u32)> {
        let mut stretches: Vec<(u32, u32)> = Vec::new();
        for (at, _) in (0u32..).zip(labels).filter(|&(_, &label)| label != NOT_LEARNED) {
            match stretches.last_mut() {
                Some((start, length)) if *start + *length == at => *length += 1,
                _ => stretches.push((at, 1)),
            }
        }
        stretches
    }

    fn check(&self, sample: usize, rules: &PackRules) -> Result<(), ShardFault> {
        let tokens = self.tokens.len();
        if tokens == 0 {
            return Err(ShardFault::OutOfBounds { what: "tokens of a sample", got: 0, limit: 1 });
        }
        if let Some(&token) = self.tokens.iter().find(|&&token| token >= rules.vocab_size) {
            let limit = u64::from(rules.vocab_size).saturating_sub(1);
            return Err(ShardFault::OutOfBounds { what: "a token", got: token.into(), limit });
        }
        let mut end = 1u64;
        for &(start, length) in &self.learned {
            let next = u64::from(start) + u64::from(length);
            if u64::from(start) < end || length == 0 || next > tokens as u64 {
                return Err(ShardFault::Learned { sample, start, length, tokens });
            }
            end = next;
        }
        let mut places = 0;
        for picture in &self.pictures {
            let limit = picture.fitted_tokens(&rules.preprocess)?;
            if u64::from(picture.tokens) != limit {
                return Err(ShardFault::OutOfBounds {
                    what: "tokens of a picture",
                    got: picture.tokens.into(),
                    limit,
                });
            }
            places += limit;
        }
        let pads = self.tokens.iter().filter(|&&token| token == rules.image_pad).count() as u64;
        if places != pads {
            return Err(ShardFault::OutOfBounds {
                what: "language tokens of a sample's pictures",
                got: places,
                limit: pads,
            });
        }
        Ok(())
    }
}

impl StoredPicture {
    fn fitted_tokens(&self, preprocess: &PreprocessOptions) -> Result<u64, ShardFault> {
        let DecodeLimits { side_pixels, area_pixels, .. } = preprocess.limits;
        at_most("side of a picture", self.width.max(self.height).into(), side_pixels.into())?;
        at_most("area of a picture", u64::from(self.width) * u64::from(self.height), area_pixels)?;
        let (width, height) = preprocess
            .fitted(self.width, self.height)
            .map_err(|error| ShardFault::Json { reason: error.to_string() })?;
        Ok(llm_tokens(width, height) as u64)
    }
}

/// A pack whose JSON was read and whose pictures are still encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackParts<'a> {
    /// The samples.
    pub samples: Vec<PackedSample>,
    /// The encoded pictures of all samples, in order.
    pub pictures: Vec<&'a [u8]>,
}

impl<'a> PackParts<'a> {
    /// Reads pack `number` from the bytes of its members. Everything but the pictures' content is checked.
    ///
    /// # Errors
    ///
    /// [`ShardFault`] saying what is wrong.
    pub fn parse(bytes: &'a [u8], number: u64, rules: &PackRules) -> Result<Self, ShardFault> {
        at_most("bytes of a pack", bytes.len() as u64, MAX_PACK_BYTES)?;
        let mut members = Members { bytes, at: 0 };
        let json = members.next(&json_name(number))?;
        let record: Record =
            serde_json::from_slice(json).map_err(|error| ShardFault::Json { reason: error.to_string() })?;
        if record.pack != number {
            return Err(ShardFault::OutOfBounds {
                what: "number of the pack",
                got: record.pack,
                limit: number,
            });
        }
        let samples = record.samples;
        if samples.is_empty() {
            return Err(ShardFault::OutOfBounds { what: "samples of a pack", got: 0, limit: 1 });
        }
        let tokens: usize = samples.iter().map(|sample| sample.tokens.len()).sum();
        at_most("tokens of a pack", tokens as u64, rules.sequence_tokens.into())?;
        let mut pictures = Vec::new();
        for (at, sample) in samples.iter().enumerate() {
            sample.check(at, rules)?;
            for picture in &sample.pictures {
                pictures.push(members.next(&picture_name(number, pictures.len(), picture.format))?);
            }
        }
        members.finish()?;
        Ok(Self { samples, pictures })
    }

    /// Decodes and resizes the pictures.
    ///
    /// # Errors
    ///
    /// [`ShardFault::Picture`] when one is not the picture that the JSON describes.
    pub fn decode(self, rules: &PackRules) -> Result<PackedSequence, ShardFault> {
        let mut out = PackedSequence::default();
        let mut pictures = self.pictures.iter().enumerate();
        for sample in self.samples {
            for (stored, (picture, bytes)) in sample.pictures.iter().zip(&mut pictures) {
                let decoded = stored.decode(bytes, &rules.preprocess);
                out.images.push(decoded.map_err(|reason| ShardFault::Picture { picture, reason })?);
            }
            out.sample_lengths.push(sample.tokens.len() as u32);
            let first = out.labels.len();
            out.labels.resize(first + sample.tokens.len(), NOT_LEARNED);
            for (start, length) in sample.learned {
                for at in start as usize..(start + length) as usize {
                    out.labels[first + at] = sample.tokens[at].into();
                }
            }
            out.tokens.extend(sample.tokens);
        }
        Ok(out)
    }
}

impl StoredPicture {
    fn decode(&self, bytes: &[u8], preprocess: &PreprocessOptions) -> Result<Rgb, String> {
        if PictureFormat::of(bytes) != Some(self.format) {
            return Err(format!("its bytes do not begin as those of a .{} do", self.format.extension()));
        }
        // Nothing larger than announced is decoded.
        let limits = DecodeLimits {
            side_pixels: self.width.max(self.height),
            area_pixels: u64::from(self.width) * u64::from(self.height),
            file_bytes: preprocess.limits.file_bytes,
        };
        let picture =
            decode_bytes(bytes, Path::new("in a shard"), &limits).map_err(|error| error.to_string())?;
        if (picture.width, picture.height) != (self.width, self.height) {
            let (width, height) = (self.width, self.height);
            return Err(format!(
                "{}x{} pixels, the JSON says {width}x{height}",
                picture.width, picture.height
            ));
        }
        preprocess.fit(&picture).map_err(|error| error.to_string())
    }
}

/// Steps through the members of a pack.
struct Members<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Members<'a> {
    fn next(&mut self, expected: &str) -> Result<&'a [u8], ShardFault> {
        let left = &self.bytes[self.at..];
        let Some((head, rest)) = left.split_first_chunk::<{ BLOCK as usize }>() else {
            return Err(ShardFault::WrongLength { what: "a header", needed: BLOCK, got: left.len() as u64 });
        };
        let (name, bytes) = read_header(head, self.at as u64)?;
        if name != expected {
            return Err(ShardFault::WrongMember { expected: expected.to_owned(), got: name });
        }
        let short = ShardFault::WrongLength { what: "a member", needed: bytes, got: rest.len() as u64 };
        if bytes > rest.len() as u64 || padded(bytes) > rest.len() as u64 {
            return Err(short);
        }
        let (content, padding) = rest[..padded(bytes) as usize].split_at(bytes as usize);
        if padding.iter().any(|&byte| byte != 0) {
            let reason = format!("what pads {name} is not zero");
            return Err(ShardFault::Header { offset: self.at as u64, reason });
        }
        self.at += (BLOCK + padded(bytes)) as usize;
        Ok(content)
    }

    fn finish(self) -> Result<(), ShardFault> {
        if self.at == self.bytes.len() {
            return Ok(());
        }
        let (needed, got) = (self.at as u64, self.bytes.len() as u64);
        Err(ShardFault::WrongLength { what: "members of the pack", needed, got })
    }
}

//! One pack as bytes.

use std::path::Path;

use super::{Bytes, PackRules, ShardFault, at_most};
use crate::{
    chat::NOT_LEARNED,
    preprocess::{DecodeLimits, Rgb, TOKEN_SIDE, decode::decode_bytes, llm_tokens},
    sequence::PackedSequence,
};

/// Bytes of a picture's entry.
const PICTURE_ENTRY: usize = 8;

/// A picture ready to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Width in pixels, a multiple of 28.
    pub width: u16,
    /// Height in pixels, likewise.
    pub height: u16,
    /// The picture as a PNG file.
    pub png: Vec<u8>,
}

/// A pack ready to be stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packed {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// Which are learnt.
    pub learned: Vec<bool>,
    /// Tokens of each sample.
    pub sample_lengths: Vec<u32>,
    /// Pictures in order.
    pub pictures: Vec<Picture>,
}

/// The bytes of a pack. What goes in is what [`decode_pack`] gives back.
pub fn encode_pack(pack: &Packed) -> Vec<u8> {
    let mut out = Vec::new();
    for count in [pack.tokens.len(), pack.sample_lengths.len(), pack.pictures.len()] {
        out.extend((count as u32).to_le_bytes());
    }
    pack.tokens.iter().for_each(|token| out.extend(token.to_le_bytes()));
    for eight in pack.learned.chunks(8) {
        out.push(eight.iter().enumerate().fold(0, |byte, (bit, &learned)| byte | (u8::from(learned) << bit)));
    }
    pack.sample_lengths.iter().for_each(|length| out.extend(length.to_le_bytes()));
    for picture in &pack.pictures {
        out.extend(picture.width.to_le_bytes());
        out.extend(picture.height.to_le_bytes());
        out.extend((picture.png.len() as u32).to_le_bytes());
    }
    pack.pictures.iter().for_each(|picture| out.extend(&picture.png));
    out
}

/// Reads a pack; every count is checked before anything of its size is allocated, and every picture is decoded.
///
/// # Errors
///
/// [`ShardFault`] saying what is wrong.
pub fn decode_pack(pack: &[u8], rules: &PackRules) -> Result<PackedSequence, ShardFault> {
    let mut bytes = Bytes::new(pack);
    let tokens = bytes.u32("counts")?;
    let samples = bytes.u32("counts")?;
    let pictures = bytes.u32("counts")?;
    at_most("tokens of a pack", tokens.into(), rules.sequence_tokens.into())?;
    at_most("samples of a pack", samples.into(), tokens.into())?;
    at_most("pictures of a pack", pictures.into(), tokens.into())?;
    if samples == 0 {
        return Err(ShardFault::OutOfBounds { what: "samples of a pack", got: 0, limit: tokens.into() });
    }

    let count = tokens as usize;
    let tokens = bytes.u32s("tokens", count)?;
    if let Some(&token) = tokens.iter().find(|&&token| token >= rules.vocab_size) {
        let limit = u64::from(rules.vocab_size).saturating_sub(1);
        return Err(ShardFault::OutOfBounds { what: "a token", got: token.into(), limit });
    }
    let bits = bytes.take("learnt bits", count.div_ceil(8))?;
    let learned = |at: usize| bits[at / 8] >> (at % 8) & 1 == 1;
    if !count.is_multiple_of(8) && bits.last().is_some_and(|last| last >> (count % 8) != 0) {
        return Err(ShardFault::NotZero { what: "bits after the last token" });
    }
    let sample_lengths = bytes.u32s("sample lengths", samples as usize)?;
    check_samples(&sample_lengths, count, learned)?;
    let pads = tokens.iter().filter(|&&token| token == rules.image_pad).count();
    let images = decode_pictures(&mut bytes, pictures as usize, pads)?;
    let label = |(at, &token): (usize, &u32)| if learned(at) { token.into() } else { NOT_LEARNED };
    let labels = tokens.iter().enumerate().map(label).collect();
    Ok(PackedSequence { tokens, labels, sample_lengths, images })
}

fn check_samples(lengths: &[u32], tokens: usize, learned: impl Fn(usize) -> bool) -> Result<(), ShardFault> {
    let mut start = 0u64;
    for (sample, &length) in lengths.iter().enumerate() {
        if length == 0 {
            return Err(ShardFault::OutOfBounds { what: "length of a sample", got: 0, limit: tokens as u64 });
        }
        if start < tokens as u64 && learned(start as usize) {
            return Err(ShardFault::LearnedStart { sample });
        }
        start += u64::from(length);
    }
    if start != tokens as u64 {
        return Err(ShardFault::OutOfBounds {
            what: "sum of sample lengths",
            got: start,
            limit: tokens as u64,
        });
    }
    Ok(())
}

/// The table is checked as a whole (sides, pads, bytes) before the first picture is decoded.
fn decode_pictures(bytes: &mut Bytes<'_>, count: usize, pads: usize) -> Result<Vec<Rgb>, ShardFault> {
    let mut table = Bytes::new(bytes.take("picture table", count.saturating_mul(PICTURE_ENTRY))?);
    let mut entries = Vec::with_capacity(count);
    let (mut places, mut length) = (0, 0u64);
    for _ in 0..count {
        let (width, height) = (table.u16("picture table")?, table.u16("picture table")?);
        let png_bytes = table.u32("picture table")?;
        for side in [width, height] {
            let rest = u32::from(side) % TOKEN_SIDE;
            if side == 0 || rest != 0 {
                return Err(ShardFault::OutOfBounds {
                    what: "side of a picture, modulo 28",
                    got: if side == 0 { 0 } else { rest.into() },
                    limit: 0,
                });
            }
        }
        places += llm_tokens(width.into(), height.into());
        length += u64::from(png_bytes);
        entries.push((u32::from(width), u32::from(height), png_bytes as usize));
    }
    if places != pads {
        return Err(ShardFault::OutOfBounds {
            what: "language tokens of the pictures",
            got: places as u64,
            limit: pads as u64,
        });
    }
    if length != bytes.left() as u64 {
        return Err(ShardFault::WrongLength { what: "pictures", needed: length, got: bytes.left() as u64 });
    }
    entries
        .into_iter()
        .enumerate()
        .map(|(picture, (width, height, png_bytes))| {
            let png = bytes.take("pictures", png_bytes)?;
            decode_picture(png, width, height).map_err(|reason| ShardFault::Picture { picture, reason })
        })
        .collect()
}

fn decode_picture(png: &[u8], width: u32, height: u32) -> Result<Rgb, String> {
    if !png.starts_with(b"\x89PNG") {
        return Err("not a PNG file".into());
    }
    let limits = DecodeLimits {
        side_pixels: width.max(height),
        area_pixels: u64::from(width) * u64::from(height),
        file_bytes: png.len() as u64,
    };
    let picture = decode_bytes(png, Path::new("in a shard"), &limits).map_err(|error| error.to_string())?;
    if (picture.width, picture.height) != (width, height) {
        return Err(format!("{}x{} pixels, its entry says {width}x{height}", picture.width, picture.height));
    }
    Ok(picture)
}

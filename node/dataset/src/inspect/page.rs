//! A page of packs: pictures with their text, what is learnt, and where each sample lies in its pack.
//!
//! The page is one file that loads nothing and runs nothing. Whatever stands in the data is escaped.

use std::fmt::Write as _;

use super::{
    InspectError, escaped,
    stretch::{Stretch, stretches},
    text::origin,
};
use crate::{
    manifest::DatasetManifest,
    reader::PackReader,
    shard::{PackParts, PackedSample},
    tokenizer::Tokenizer,
};

/// Bytes of pictures that a page holds; those beyond are only named.
const MAX_PICTURE_BYTES: usize = 48 << 20;

const HEAD: &str = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<style>
body { font: 15px/1.45 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff }
h2 { margin: 2.5rem 0 .4rem }
.map { display: flex; height: 1.6rem; background: #eee; border-radius: 3px; overflow: hidden }
.map div { display: flex; border-right: 2px solid #fff; box-sizing: border-box; min-width: 3px }
.map i { display: block; height: 100% }
.picture { background: #5b8dc9 } .prompt { background: #c9c2b4 } .learnt { background: #5aa469 }
.sample { display: grid; grid-template-columns: 16rem 1fr; gap: 1rem; margin: 1rem 0; padding-top: 1rem; border-top: 1px solid #ddd }
.sample img { max-width: 16rem; max-height: 16rem; display: block; margin-bottom: .3rem }
.text { white-space: pre-wrap; overflow-wrap: anywhere } .text b { font-weight: normal; background: #dcefdf } .text u { color: #5b8dc9; text-decoration: none }
small { color: #777 }
</style>
"#;

/// The page of `packs` packs from the first on.
///
/// # Errors
///
/// [`InspectError`] when one of them cannot be read.
pub fn page(
    manifest: &DatasetManifest,
    reader: &PackReader,
    tokenizer: &Tokenizer,
    packs: u64,
) -> Result<String, InspectError> {
    let mut out = String::from(HEAD);
    let name = escaped(&manifest.making.name);
    let _ = write!(
        out,
        "<title>{name}</title></head><body><h1>{name}</h1><pre>{}</pre>\n<p><small>Of a pack's map: \
         <span class=\"picture\">&nbsp;picture&nbsp;</span> <span class=\"prompt\">&nbsp;read&nbsp;</span> \
         <span class=\"learnt\">&nbsp;learnt&nbsp;</span>, grey is room.</small></p>\n",
        escaped(&super::describe_manifest(manifest))
    );
    let mut room = MAX_PICTURE_BYTES;
    for pack in 0..packs.min(reader.packs()) {
        let section = reader.with_parts(pack, |parts| {
            Ok(section(&parts, pack, manifest.index.sequence_tokens, tokenizer, &mut room))
        })?;
        out.push_str(&section?);
    }
    out.push_str("</body></html>\n");
    Ok(out)
}

fn section(
    parts: &PackParts<'_>,
    pack: u64,
    capacity: u32,
    tokenizer: &Tokenizer,
    room: &mut usize,
) -> Result<String, InspectError> {
    let shown =
        parts.samples.iter().map(|sample| stretches(sample, tokenizer)).collect::<Result<Vec<_>, _>>()?;
    let tokens: usize = parts.samples.iter().map(|sample| sample.tokens.len()).sum();
    let mut out = String::new();
    let _ = writeln!(
        out,
        "<h2>Pack {pack}</h2><small>{} samples, {tokens} of {capacity} tokens, {} pictures</small>",
        parts.samples.len(),
        parts.pictures.len()
    );
    map(&mut out, &shown, capacity);
    let mut pictures = parts.pictures.iter().copied();
    for (sample, stretches) in parts.samples.iter().zip(&shown) {
        card(&mut out, sample, stretches, &mut pictures, room);
    }
    Ok(out)
}

/// The pack to scale: a box for each sample, in it a stripe for each stretch.
fn map(out: &mut String, samples: &[Vec<Stretch>], capacity: u32) {
    out.push_str("<div class=\"map\">");
    for stretches in samples {
        let tokens: usize = stretches.iter().map(|stretch| stretch.tokens).sum();
        let width = |part: usize, whole: usize| 100.0 * part as f64 / whole.max(1) as f64;
        let _ = write!(out, "<div style=\"width:{:.3}%\">", width(tokens, capacity as usize));
        for stretch in stretches {
            let class = match (&stretch.text, stretch.learned) {
                (None, _) => "picture",
                (_, true) => "learnt",
                (_, false) => "prompt",
            };
            let _ = write!(
                out,
                "<i class=\"{class}\" style=\"width:{:.3}%\"></i>",
                width(stretch.tokens, tokens)
            );
        }
        out.push_str("</div>");
    }
    out.push_str("</div>\n");
}

fn card<'a>(
    out: &mut String,
    sample: &PackedSample,
    stretches: &[Stretch],
    pictures: &mut impl Iterator<Item = &'a [u8]>,
    room: &mut usize,
) {
    out.push_str("<div class=\"sample\"><div>");
    for (stored, bytes) in sample.pictures.iter().zip(pictures) {
        if let Some(left) = room.checked_sub(bytes.len()) {
            *room = left;
            let base64 = data_encoding::BASE64.encode(bytes);
            let _ = write!(out, "<img alt=\"\" src=\"data:{};base64,{base64}\">", stored.format.media_type());
        }
        let _ = write!(
            out,
            "<small>{} x {} pixels, {} tokens, {} bytes</small>",
            stored.width,
            stored.height,
            stored.tokens,
            bytes.len()
        );
    }
    out.push_str("</div><div><div class=\"text\">");
    for stretch in stretches {
        let _ = match (&stretch.text, stretch.learned) {
            (None, _) => write!(out, "<u>[{} places]</u>", stretch.tokens),
            (Some(text), true) => write!(out, "<b>{}</b>", escaped(text)),
            (Some(text), false) => write!(out, "{}", escaped(text)),
        };
    }
    let _ = writeln!(
        out,
        "</div><small>{}; {} tokens</small></div></div>",
        escaped(&origin(sample)),
        sample.tokens.len()
    );
}

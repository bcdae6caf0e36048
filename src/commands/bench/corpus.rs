//! Pictures and captions to measure with: photographs as far as a codec can tell, of sizes as web pictures have.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use image::{ExtendedColorType, ImageEncoder, codecs::jpeg::JpegEncoder};
use rayon::prelude::*;
use talkoot_dataset::{PackInput, build_demo_tokenizer};

/// Sizes in pixels, in turn.
const SIZES: [(u32, u32); 6] = [(640, 480), (480, 640), (1024, 768), (800, 600), (1280, 960), (612, 612)];
/// Quality of the JPEGs.
const QUALITY: u8 = 90;

/// Pictures with a caption each, and a tokenizer for these.
pub(super) struct Corpus {
    pub(super) pictures: PathBuf,
    pub(super) input: PackInput,
    pub(super) tokenizer: Vec<u8>,
    pub(super) bytes: u64,
}

/// Makes `count` pictures in `folder`, or takes the pictures that are in `given`.
pub(super) fn make(folder: &Path, count: usize, given: Option<&Path>) -> Result<Corpus> {
    let pictures = given.map_or_else(|| folder.join("pictures"), Path::to_path_buf);
    if given.is_none() {
        std::fs::create_dir_all(&pictures).with_context(|| format!("making {}", pictures.display()))?;
        (0..count).into_par_iter().try_for_each(|number| {
            let path = pictures.join(format!("{number:06}.jpg"));
            std::fs::write(&path, photograph(number as u64)?)
                .with_context(|| format!("writing {}", path.display()))
        })?;
    }
    let mut names = Vec::new();
    let mut bytes = 0;
    for entry in std::fs::read_dir(&pictures).with_context(|| format!("reading {}", pictures.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if [".jpg", ".jpeg", ".png", ".webp"].iter().any(|end| name.to_lowercase().ends_with(end)) {
            bytes += entry.metadata()?.len();
            names.push(name);
        }
    }
    names.sort();
    ensure!(!names.is_empty(), "{} has no pictures", pictures.display());
    let captions: Vec<String> = (0..names.len()).map(|number| caption(number as u64)).collect();
    let records = folder.join("records.jsonl");
    let lines = names.iter().zip(&captions).fold(String::new(), |mut lines, (name, caption)| {
        let record = serde_json::json!({"image": name, "conversations": [
            {"from": "human", "value": "<image>\nDescribe the picture."}, {"from": "gpt", "value": caption},
        ]});
        let _ = writeln!(lines, "{record}");
        lines
    });
    std::fs::write(&records, lines).with_context(|| format!("writing {}", records.display()))?;
    let tokenizer = build_demo_tokenizer(&captions[..captions.len().min(200)], 1_024)?;
    let input = PackInput::Records { files: vec![records], pictures: pictures.clone() };
    Ok(Corpus { pictures, input, tokenizer, bytes })
}

/// Scrambles a number (murmur3's finaliser).
pub(super) fn scramble(mut z: u64) -> u64 {
    z = (z ^ (z >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    z = (z ^ (z >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    z ^ (z >> 33)
}

/// Soft shapes, edges and grain: as JPEG about 1.5 to 2 bits a pixel, as photographs have.
fn photograph(number: u64) -> Result<Vec<u8>> {
    let (width, height) = SIZES[number as usize % SIZES.len()];
    let wave = |k: u64| {
        let word = scramble(number * 64 + k);
        let part = |shift: u32| ((word >> shift) & 0xffff) as f32 / 65_536.0;
        (0.004 + 0.05 * part(0).powi(2), 0.004 + 0.05 * part(16).powi(2), 6.3 * part(32), part(48))
    };
    let waves: Vec<_> = (0..6).map(wave).collect();
    let mut rgb = Vec::with_capacity((width * height * 3) as usize);
    for y in 0..height {
        for x in 0..width {
            let mut light = [0.5f32; 3];
            for (k, &(fx, fy, phase, hue)) in waves.iter().enumerate() {
                let value = (x as f32 * fx + y as f32 * fy + phase).sin();
                // Every other wave is a hard edge.
                let value = if k % 2 == 0 { value } else { value.signum() * 0.5 };
                for (channel, light) in light.iter_mut().enumerate() {
                    *light += 0.12 * value * (0.4 + (hue * 7.0 + channel as f32).sin().abs());
                }
            }
            let grain = (scramble(number << 40 | u64::from(y) << 20 | u64::from(x)) & 15) as f32 / 255.0;
            rgb.extend(light.map(|light| ((light + grain) * 255.0).clamp(0.0, 255.0) as u8));
        }
    }
    let mut jpeg = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut jpeg, QUALITY);
    encoder.write_image(&rgb, width, height, ExtendedColorType::Rgb8).context("encoding a picture")?;
    Ok(jpeg)
}

/// About 700 characters, as the original's captions have.
pub(super) fn caption(number: u64) -> String {
    const WORDS: [&str; 24] = [
        "The", "picture", "shows", "a", "wide", "field", "under", "bright", "clouds", "with", "soft",
        "edges", "and", "coloured", "bands", "that", "cross", "each", "other", "near", "the", "middle", "of",
        "frame",
    ];
    let mut text = String::new();
    let mut word = 0;
    while text.len() < 700 {
        text.push_str(WORDS[scramble(number * 1_000 + word) as usize % WORDS.len()]);
        text.push(' ');
        word += 1;
    }
    text
}

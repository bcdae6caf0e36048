//! Sizes, resized pictures, and the patches that are made of them.

use std::path::Path;

use serde::Deserialize;
use talkoot_dataset::preprocess::{
    DecodeLimits, PreprocessOptions, Rgb, SizeRule, decode, resize_bicubic, smart_resize,
};
use talkoot_trainer::{
    batch::Image,
    patches::Picture,
    presets::{Shape, model_of},
};

use crate::{
    CheckError, Report,
    files::{Tensors, bytes, json, malformed, names},
};

/// Greatest difference of a normalised value when the resized picture is exact.
const VALUES: f64 = 2e-6;

#[derive(Debug, Deserialize)]
struct Table {
    min_pixels: u32,
    max_pixels: u32,
    patch: u32,
    merge: u32,
    temporal_patch: u32,
    images: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    file: String,
    resized_hw: [u32; 2],
    grid_thw: [u32; 3],
    llm_tokens: usize,
    vision_utils_path: TwoStage,
}

/// The path through the vision utility and then the processor.
#[derive(Debug, Deserialize)]
struct TwoStage {
    resized_hw: [u32; 2],
    final_grid_thw: [u32; 3],
}

#[derive(Debug, Deserialize)]
struct SizeRow {
    h: u32,
    w: u32,
    factor: u32,
    min_pixels: u64,
    max_pixels: u64,
    processor: Option<[u32; 2]>,
    vision_utils: Option<[u32; 2]>,
}

pub(crate) fn check(folder: &Path, report: &mut Report) -> Result<(), CheckError> {
    let folder = folder.join("preprocess");
    sizes(&folder, report)?;
    let path = folder.join("preprocess.json");
    let table: Table = json(&path)?;
    if (table.patch, table.merge, table.temporal_patch) != (14, 2, 1) {
        return Err(malformed(&path, "only patches of 14, merged by 2, of one frame are known"));
    }
    known(&folder, &table)?;
    let values = Tensors::read(&folder.join("pixel_values.safetensors"))?;
    for (i, entry) in table.images.iter().enumerate() {
        picture(&folder, &table, (i, entry), &values, report)?;
    }
    Ok(())
}

/// Every file belongs to a picture of the table or is one of the tables.
fn known(folder: &Path, table: &Table) -> Result<(), CheckError> {
    const TABLES: [&str; 3] = ["preprocess.json", "smart_resize.json", "pixel_values.safetensors"];
    for name in names(folder)? {
        let of_picture = |entry: &Entry| {
            let stem = entry.file.trim_end_matches(".png");
            name == entry.file
                || name == format!("{stem}.resized_pil.png")
                || name == format!("{stem}.resized_torchvision.png")
        };
        if !TABLES.contains(&name.as_str()) && !table.images.iter().any(of_picture) {
            return Err(CheckError::Unknown { path: folder.join(name) });
        }
    }
    Ok(())
}

fn sizes(folder: &Path, report: &mut Report) -> Result<(), CheckError> {
    let file = "preprocess/smart_resize.json";
    let rows: Vec<SizeRow> = json(&folder.join("smart_resize.json"))?;
    for row in rows {
        for (kind, rule, expected) in [
            ("sizes by the processor's rule", SizeRule::Processor, row.processor),
            ("sizes by the vision utility's rule", SizeRule::VisionUtils, row.vision_utils),
        ] {
            let got = smart_resize(row.h, row.w, row.factor.max(1), row.min_pixels, row.max_pixels, rule);
            let equal = got.ok() == expected.map(|[h, w]| (h, w));
            report.equal(file, kind, &format!("{}x{}", row.h, row.w), equal);
        }
    }
    Ok(())
}

fn picture(
    folder: &Path,
    table: &Table,
    (i, entry): (usize, &Entry),
    values: &Tensors,
    report: &mut Report,
) -> Result<(), CheckError> {
    let file = format!("preprocess/{}", entry.file);
    let options = PreprocessOptions {
        min_pixels: table.min_pixels,
        max_pixels: table.max_pixels,
        limits: DecodeLimits::default(),
    };
    let decoded = |name: &str| {
        let path = folder.join(name);
        let content = bytes(&path)?;
        decode::decode_bytes(&content, Path::new(name), &options.limits).map_err(|e| malformed(&path, e))
    };
    let fitted = |picture: &Rgb| options.fit(picture).map_err(|e| malformed(&folder.join(&entry.file), e));
    let stem = entry.file.trim_end_matches(".png");

    let resized = fitted(&decoded(&entry.file)?)?;
    let [_, rows, columns] = entry.grid_thw;
    let sizes = [resized.height, resized.width] == entry.resized_hw
        && [resized.height / table.patch, resized.width / table.patch] == [rows, columns]
        && resized.llm_tokens() == entry.llm_tokens;
    report.equal(&file, "size, grid, tokens", stem, sizes);
    let expected = decoded(&format!("{stem}.resized_pil.png"))?;
    levels(report, (&file, "resized as by Pillow", stem), &resized, &expected, 0.0);
    // the other backend of the processor is known to differ by a level or two
    let other = decoded(&format!("{stem}.resized_torchvision.png"))?;
    levels(report, (&file, "resized as by torchvision", stem), &resized, &other, 2.0);

    let compare = |name: String, kind: &str, picture: Rgb, report: &mut Report| {
        let Some(expected) = values.floats.get(&name) else { return };
        report.tensors((&file, kind, &name), &patches(picture), expected, VALUES, None);
    };
    let name = format!("img{i}.pixel_values");
    if !values.floats.contains_key(&name) {
        return Err(malformed(&folder.join("pixel_values.safetensors"), format!("there is no {name}")));
    }
    compare(name, "patches", resized.clone(), report);

    let through = two_stages(&bytes(&folder.join(&entry.file))?, &options)
        .map_err(|reason| malformed(&folder.join(&entry.file), reason))?;
    let (between, last) = through;
    let [_, rows, columns] = entry.vision_utils_path.final_grid_thw;
    let sizes = [between.height, between.width] == entry.vision_utils_path.resized_hw
        && [last.height / table.patch, last.width / table.patch] == [rows, columns];
    report.equal(&file, "sizes through the vision utility", stem, sizes);
    let name = format!("img{i}.vision_utils.pixel_values");
    // stored only where the two ways differ
    let name = if values.floats.contains_key(&name) { name } else { format!("img{i}.pixel_values") };
    compare(name, "patches through the vision utility", last, report);
    Ok(())
}

/// Differences in levels of 256.
fn levels(report: &mut Report, at: (&str, &str, &str), got: &Rgb, expected: &Rgb, limit: f64) {
    let numbers = |picture: &Rgb| picture.rgb.iter().map(|&level| f32::from(level)).collect::<Vec<_>>();
    report.tensors(at, &numbers(got), &numbers(expected), limit, None);
}

fn patches(picture: Rgb) -> Vec<f32> {
    // any model will do: only the patch's sides matter
    let vision = model_of(Shape { vision: [1, 4, 1, 4], text: [1, 4, 1, 1, 4, 4], vocabulary: 8 }).vision;
    let image = Image { width: picture.width, height: picture.height, rgb: picture.rgb };
    Picture::new(&image, &vision).patches
}

/// What the vision utility makes of a picture (transparency over white, its own rule of size), and what the processor
/// makes of that.
fn two_stages(content: &[u8], options: &PreprocessOptions) -> Result<(Rgb, Rgb), String> {
    let decoded = image::load_from_memory_with_format(content, image::ImageFormat::Png);
    let decoded = decoded.map_err(|error| error.to_string())?;
    let transparent = decoded.color().has_alpha();
    let (width, height) = (decoded.width(), decoded.height());
    let rgb = if transparent {
        decoded.to_rgba8().as_raw().as_chunks::<4>().0.iter().flat_map(over_white).collect()
    } else {
        decoded.to_rgb8().into_raw()
    };
    let (min, max) = (u64::from(options.min_pixels), u64::from(options.max_pixels));
    let (h, w) = smart_resize(height, width, 28, min, max, SizeRule::VisionUtils)
        .map_err(|error| error.to_string())?;
    let between = resize_bicubic(&Rgb { width, height, rgb }, w, h);
    let last = options.fit(&between).map_err(|error| error.to_string())?;
    Ok((between, last))
}

/// Pillow's paste through a mask: `(colour a + 255 (255 - a)) / 255`, rounded.
fn over_white(&[r, g, b, alpha]: &[u8; 4]) -> [u8; 3] {
    [r, g, b].map(|colour| {
        let alpha = u32::from(alpha);
        let sum = u32::from(colour) * alpha + 255 * (255 - alpha) + 128;
        (((sum >> 8) + sum) >> 8) as u8
    })
}

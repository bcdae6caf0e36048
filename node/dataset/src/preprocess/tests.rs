use std::path::PathBuf;

use super::{decode::decode_file, *};

/// The folder of reference numbers beside the repository, where it stands.
pub(crate) fn oracle(part: &str) -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/oracle").join(part);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("SKIPPED: no reference numbers at {}", folder.display());
    None
}

#[test]
fn both_size_rules_match_the_reference() {
    let Some(folder) = oracle("preprocess") else { return };
    let text = std::fs::read_to_string(folder.join("smart_resize.json")).unwrap();
    let rows: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert!(rows.len() > 100);
    for row in rows {
        let n = |key: &str| row[key].as_u64().unwrap();
        for (rule, key) in [(SizeRule::Processor, "processor"), (SizeRule::VisionUtils, "vision_utils")] {
            let got = smart_resize(
                n("h") as u32,
                n("w") as u32,
                n("factor") as u32,
                n("min_pixels"),
                n("max_pixels"),
                rule,
            );
            match row[key].as_array() {
                Some(sides) => {
                    let sides: Vec<u32> = sides.iter().map(|s| s.as_u64().unwrap() as u32).collect();
                    assert_eq!(got, Ok((sides[0], sides[1])), "{row}");
                }
                None => assert!(matches!(got, Err(SizeError::TooLong { .. })), "{row}: {got:?}"),
            }
        }
    }
}

#[test]
fn resized_pictures_equal_pillow_to_the_last_bit() {
    let Some(folder) = oracle("preprocess") else { return };
    let options = PreprocessOptions { max_pixels: 18_816, ..PreprocessOptions::default() };
    let mut seen = 0;
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        let Some(stem) = name.strip_suffix(".png").filter(|stem| !stem.contains('.')) else { continue };
        let wanted = decode_file(&folder.join(format!("{stem}.resized_pil.png")), &options.limits).unwrap();
        assert_eq!(options.load(&file).unwrap(), wanted, "{name}");
        seen += 1;
    }
    assert_eq!(seen, 6);
}

#[test]
fn a_picture_of_the_right_size_is_left_alone() {
    let picture = Rgb { width: 84, height: 84, rgb: (0..84 * 84 * 3).map(|i| (i % 251) as u8).collect() };
    assert_eq!(PreprocessOptions::default().fit(&picture).unwrap(), picture);
}

#[test]
fn a_huge_picture_is_refused_by_its_head() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("wide.png");
    image::RgbImage::new(400, 10).save(&file).unwrap();
    let limits = DecodeLimits { side_pixels: 300, ..DecodeLimits::default() };
    let error = decode_file(&file, &limits).unwrap_err();
    assert!(matches!(error, PictureError::TooLarge { width: 400, height: 10, .. }), "{error}");
    assert!(error.to_string().contains("wide.png"));
}

#[test]
fn a_cut_or_foreign_file_is_refused_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole.png");
    image::RgbImage::from_fn(60, 60, |x, y| image::Rgb([x as u8, y as u8, (x * y) as u8]))
        .save(&whole)
        .unwrap();
    let bytes = std::fs::read(&whole).unwrap();
    for (name, content) in
        [("cut.png", &bytes[..bytes.len() / 2]), ("text.png", b"not a picture at all".as_slice())]
    {
        let file = dir.path().join(name);
        std::fs::write(&file, content).unwrap();
        let error = PreprocessOptions::default().load(&file).unwrap_err();
        assert!(matches!(error, PictureError::Decode { .. }), "{error:?}");
        assert!(error.to_string().contains(name));
    }
}

#[test]
fn a_ribbon_is_refused() {
    let error = PreprocessOptions::default().fitted(5000, 3).unwrap_err();
    assert_eq!(error, SizeError::TooLong { width: 5000, height: 3 });
}

//! The whole check where reference numbers are at hand, and that it fails, by name, when something is wrong.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use talkoot_conformance::{CheckError, Fast, Plain, Report, check};
use talkoot_trainer::{cpu::Cpu, huggingface::read_folder};

/// The reference numbers beside the repository, where they stand.
fn oracle() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/oracle");
    if !folder.is_dir() {
        eprintln!("SKIPPED: there is no ../shared/oracle beside the repository, nothing was compared");
        return None;
    }
    Some(folder)
}

fn fast(folder: &Path) -> Result<Report, CheckError> {
    check(folder, &Fast(Cpu::default()))
}

/// A copy that may be spoilt.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::write(to, fs::read(entry.path()).unwrap()).unwrap();
        }
    }
}

fn spoilt(spoil: impl FnOnce(&Path)) -> Option<Result<Report, CheckError>> {
    let folder = tempfile::tempdir().unwrap();
    copy(&oracle()?, folder.path());
    spoil(folder.path());
    Some(fast(folder.path()))
}

fn kinds(report: &Report) -> Vec<String> {
    report.failed().map(|row| format!("{} {}", row.file, row.kind)).collect()
}

#[test]
fn everything_is_within_its_limits() {
    let Some(folder) = oracle() else { return };
    let report = fast(&folder).unwrap();
    assert!(report.passed(), "{:#?}", report.failed().collect::<Vec<_>>());
    for file in
        ["cases/a_one_image", "cases/e_video4.as_released", "train/stage_all", "preprocess/img5", "chat/"]
    {
        assert!(report.rows.iter().any(|row| row.file.starts_with(file)), "{file} was compared");
    }
    let gradients: usize =
        report.rows.iter().filter(|row| row.kind == "gradients").map(|row| row.compared).sum();
    assert!(gradients > 200, "{gradients} gradients were compared");
}

#[test]
fn the_reference_model_is_within_them_too() {
    let Some(folder) = oracle() else { return };
    let report = check(&folder, &Plain).unwrap();
    assert!(report.passed(), "{:#?}", report.failed().collect::<Vec<_>>());
}

#[test]
fn another_epsilon_fails_where_it_is_used() {
    let Some(found) = spoilt(|folder| {
        let path = folder.join("checkpoint/config.json");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("0.0001"));
        fs::write(path, text.replace("0.0001", "0.00001")).unwrap();
    }) else {
        return;
    };
    let failed = kinds(&found.unwrap());
    assert!(failed.iter().any(|row| row.contains("vision.pre_layernorm")), "{failed:?}");
    assert!(
        !failed.iter().any(|row| row.contains("vision.patch_embed")),
        "what comes before is right: {failed:?}"
    );
}

#[test]
fn one_wrong_weight_fails_from_its_layer_on() {
    let Some(found) = spoilt(|folder| {
        let (config, mut state) = read_folder(&folder.join("checkpoint")).unwrap();
        state.tensors.get_mut("model.layers.1.mlp.down_proj.weight").unwrap().values[7] += 0.01;
        talkoot_trainer::huggingface::write_folder(&folder.join("checkpoint"), &config, &state, &[]).unwrap();
    }) else {
        return;
    };
    let failed = kinds(&found.unwrap());
    assert!(failed.iter().any(|row| row.contains("c_text_only.safetensors text.layer")), "{failed:?}");
    assert!(failed.iter().any(|row| row.contains("gradients")), "{failed:?}");
    assert!(
        !failed.iter().any(|row| row.contains("text.inputs_embeds")),
        "what comes before is right: {failed:?}"
    );
}

#[test]
fn a_wrong_text_and_a_wrong_size_are_named() {
    let Some(found) = spoilt(|folder| {
        let path = folder.join("chat/chat.json");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, text.replacen("Be brief.<|im_end|>", "Be brief. <|im_end|>", 1)).unwrap();
        let path = folder.join("preprocess/smart_resize.json");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, text.replacen("2380", "2408", 1)).unwrap();
    }) else {
        return;
    };
    let report = found.unwrap();
    let worst: Vec<&str> = report.failed().map(|row| row.worst.as_str()).collect();
    assert!(worst.contains(&"2620x1159"), "{worst:?}");
    assert!(worst.contains(&"custom_system"), "{worst:?}");
}

#[test]
fn nothing_is_left_out_silently() {
    let unknown = spoilt(|folder| fs::write(folder.join("cases/f_new.json"), "{}").unwrap());
    let Some(unknown) = unknown else { return };
    assert!(matches!(unknown, Err(CheckError::Unknown { path }) if path.ends_with("cases/f_new.json")));
    let missing =
        spoilt(|folder| fs::remove_file(folder.join("cases/c_text_only.safetensors")).unwrap()).unwrap();
    let missing = missing.unwrap_err().to_string();
    assert!(missing.contains("6 cases are there") && missing.contains("c_text_only"), "{missing}");
    let cut = spoilt(|folder| {
        let path = folder.join("cases/a_one_image.safetensors");
        let bytes = fs::read(&path).unwrap();
        fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    });
    assert!(
        matches!(cut.unwrap(), Err(CheckError::Malformed { path, .. }) if path.ends_with("a_one_image.safetensors"))
    );
}

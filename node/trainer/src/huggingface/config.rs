//! Reading `config.json` of a folder.

use std::path::Path;

use serde::de::DeserializeOwned;

use super::{CONFIG_FILE, FloatType, FolderError, files::read_bounded};
use crate::config::ModelConfig;

/// Longest `config.json` that is read, in bytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// The description in a folder as `T`, and as the bytes that stand there.
pub(super) fn read_json<T: DeserializeOwned>(folder: &Path) -> Result<(T, Vec<u8>), FolderError> {
    let path = folder.join(CONFIG_FILE);
    let bytes = read_bounded(&path, MAX_CONFIG_BYTES)?;
    match serde_json::from_slice(&bytes) {
        Ok(value) => Ok((value, bytes)),
        Err(source) => Err(FolderError::Json { path, source }),
    }
}

/// The model that a folder holds, checked, and the bytes that say so.
pub(super) fn read_model(folder: &Path) -> Result<(ModelConfig, Vec<u8>), FolderError> {
    let (config, bytes) = read_json::<ModelConfig>(folder)?;
    config.validate()?;
    Ok((config, bytes))
}

/// The description as it is written: indented, with a line feed at the end.
pub(super) fn to_text<T: serde::Serialize>(folder: &Path, config: &T) -> Result<Vec<u8>, FolderError> {
    let mut text = serde_json::to_vec_pretty(config)
        .map_err(|source| FolderError::Json { path: folder.join(CONFIG_FILE), source })?;
    text.push(b'\n');
    Ok(text)
}

/// The same description with another number type of the weights, and every other key as it was.
///
/// The key is `torch_dtype`, or `dtype` in newer files; both stand at the top and, from some tools, in the parts.
pub(super) fn with_dtype(folder: &Path, json: &[u8], dtype: FloatType) -> Result<Vec<u8>, FolderError> {
    let mut config: serde_json::Value = serde_json::from_slice(json)
        .map_err(|source| FolderError::Json { path: folder.join(CONFIG_FILE), source })?;
    if config.get("dtype").is_none() {
        config["torch_dtype"] = dtype.torch_name().into();
    }
    for part in ["", "/text_config", "/vision_config"] {
        for key in ["torch_dtype", "dtype"] {
            if let Some(word) = config.pointer_mut(&format!("{part}/{key}")) {
                *word = dtype.torch_name().into();
            }
        }
    }
    to_text(folder, &config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_number_type_changes() {
        let old = br#"{"torch_dtype": "float32", "x": {"torch_dtype": "y"}, "text_config": {"dtype": null, "a": 1}}"#;
        let new = with_dtype(Path::new("f"), old, FloatType::Bf16).unwrap();
        let expected = serde_json::json!({"torch_dtype": "bfloat16", "x": {"torch_dtype": "y"},
            "text_config": {"dtype": "bfloat16", "a": 1}});
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&new).unwrap(), expected);
        let new = with_dtype(Path::new("f"), b"{}", FloatType::F16).unwrap();
        assert_eq!(new, b"{\n  \"torch_dtype\": \"float16\"\n}\n");
    }
}

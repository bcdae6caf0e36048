//! The list of shards: which tensor is in which file.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    FolderError,
    names::{check_plain, disk_name},
    unique::unique_map,
};

/// `model.safetensors.index.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardIndex {
    /// Sums over all files; not read, because tools disagree about them.
    #[serde(skip_deserializing)]
    metadata: Sums,
    /// File of every tensor. After [`Self::parse`] the names are those on disk.
    #[serde(deserialize_with = "unique_map")]
    pub weight_map: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
struct Sums {
    /// Bytes of all tensors.
    total_size: u64,
}

/// Why an index is refused; the caller knows its path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// It does not parse.
    #[error("the index does not parse")]
    Json(#[from] serde_json::Error),
    /// A file name leaves the folder, or a tensor is named under both of its spellings.
    #[error(transparent)]
    Content(#[from] FolderError),
}

impl ShardIndex {
    pub(super) fn new(weight_map: BTreeMap<String, String>, total_size: u64) -> Self {
        Self { metadata: Sums { total_size }, weight_map }
    }

    /// Reads an index; names come out as on disk, whichever spelling it has.
    ///
    /// # Errors
    ///
    /// [`IndexError`] says what does not parse, which file name would leave the folder, or which tensor is named
    /// twice.
    pub fn parse(json: &[u8]) -> Result<Self, IndexError> {
        let mut index: Self = serde_json::from_slice(json)?;
        let mut weight_map = BTreeMap::new();
        for (name, file) in std::mem::take(&mut index.weight_map) {
            check_plain(&file)?;
            let name = disk_name(&name);
            if let Some(path) = weight_map.insert(name.clone(), file) {
                return Err(FolderError::Twice { name, path: path.into() }.into());
            }
        }
        index.weight_map = weight_map;
        Ok(index)
    }

    /// The files, each once, in byte order.
    pub fn files(&self) -> BTreeSet<&str> {
        self.weight_map.values().map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(json: &str) -> String {
        match ShardIndex::parse(json.as_bytes()) {
            Err(IndexError::Json(error)) => error.to_string(),
            Err(IndexError::Content(error)) => error.to_string(),
            Ok(index) => panic!("{index:?}"),
        }
    }

    #[test]
    fn both_spellings_are_one_name_and_other_keys_are_tolerated() {
        let json = r#"{"metadata": {"total_size": 7.0, "x": []}, "y": 1,
            "weight_map": {"model.language_model.norm.weight": "b", "visual.class_embedding": "a"}}"#;
        let index = ShardIndex::parse(json.as_bytes()).unwrap();
        let names: Vec<_> = index.weight_map.keys().map(String::as_str).collect();
        assert_eq!(names, ["model.norm.weight", "visual.class_embedding"]);
        assert_eq!(index.files().into_iter().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let twice = refused(r#"{"weight_map": {"a": "x", "a": "y"}}"#);
        assert!(twice.contains("a stands there twice"), "{twice}");
        let spelt = refused(r#"{"weight_map": {"model.norm": "x", "model.language_model.norm": "y"}}"#);
        assert!(spelt.contains("tensor model.norm comes twice"), "{spelt}");
        let outside = refused(r#"{"weight_map": {"a": "../x"}}"#);
        assert_eq!(outside, r#""../x" is no plain file name"#);
        assert!(refused("{}").contains("weight_map"));
    }

    #[test]
    fn what_is_written_is_read() {
        let map = BTreeMap::from([("a".to_owned(), "model-00001-of-00002.safetensors".to_owned())]);
        let index = ShardIndex::new(map, 12);
        let json = serde_json::to_value(&index).unwrap();
        assert_eq!(json["metadata"]["total_size"], 12);
        assert_eq!(ShardIndex::parse(json.to_string().as_bytes()).unwrap().weight_map, index.weight_map);
    }
}

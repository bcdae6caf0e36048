//! Names of files and of parameters.
//!
//! A parameter has two spellings: the short one on disk (`visual.*`, `model.*`), and the one that the published class
//! has in memory (`model.visual.*`, `model.language_model.*`), which some tools save. Everything here speaks the short
//! one.

use super::FolderError;

/// Name of the model description in a folder.
pub const CONFIG_FILE: &str = "config.json";
/// Name of the weights in a folder.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// Name of the list of shards in a folder whose weights are split.
pub const INDEX_FILE: &str = "model.safetensors.index.json";

/// The embedding, which a tied head shares.
pub(super) const EMBEDDING: &str = "model.embed_tokens.weight";
/// The head.
pub(super) const HEAD: &str = "lm_head.weight";

/// Longest name that an error repeats, in characters.
const SHOWN: usize = 200;

/// The name on disk of a parameter that may be spelt as in memory.
pub(super) fn disk_name(name: &str) -> String {
    if let Some(rest) = name.strip_prefix("model.visual.") {
        return format!("visual.{rest}");
    }
    match name.strip_prefix("model.language_model.") {
        Some(rest) => format!("model.{rest}"),
        None => name.to_owned(),
    }
}

/// A name from outside, short enough for an error.
pub(super) fn shown(name: &str) -> String {
    name.chars().take(SHOWN).collect()
}

/// Refuses what is no plain name of a file in the folder.
pub(super) fn check_plain(name: &str) -> Result<(), FolderError> {
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', ':', '\0']) {
        return Err(FolderError::Name { name: shown(name) });
    }
    Ok(())
}

/// Name of the weights file `index` of `count`, counted from zero, as `transformers` calls it.
pub(super) fn shard_name(index: usize, count: usize) -> String {
    match count {
        1 => WEIGHTS_FILE.to_owned(),
        _ => format!("model-{:05}-of-{count:05}.safetensors", index + 1),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::presets::demo_model;

    fn memory_name(name: &str) -> String {
        match name.strip_prefix("model.") {
            Some(rest) => format!("model.language_model.{rest}"),
            None if name.starts_with("visual.") => format!("model.{name}"),
            None => name.to_owned(),
        }
    }

    #[test]
    fn every_parameter_is_found_under_both_spellings() {
        for name in demo_model(32).parameter_shapes().into_keys() {
            assert_eq!(disk_name(&name), name);
            assert_eq!(disk_name(&memory_name(&name)), name);
            assert_eq!(memory_name(&name) == name, name == HEAD);
        }
    }

    #[test]
    fn weights_files_have_the_names_that_others_look_for() {
        assert_eq!(shard_name(0, 1), "model.safetensors");
        assert_eq!(shard_name(0, 2), "model-00001-of-00002.safetensors");
        assert_eq!(shard_name(11, 12), "model-00012-of-00012.safetensors");
    }

    proptest! {
        #[test]
        fn a_plain_name_stays_in_its_folder(name in "[a-z./\\\\:\0]{0,12}") {
            let path = std::path::Path::new("folder").join(&name);
            if check_plain(&name).is_ok() {
                prop_assert_eq!(path.parent(), Some(std::path::Path::new("folder")));
                prop_assert_eq!(path.file_name().and_then(|name| name.to_str()), Some(name.as_str()));
            }
        }
    }
}

//! Files that go along with weights: tokenizer, chat template, processor settings, model code, papers.

use std::path::{Path, PathBuf};

use super::{
    FolderError,
    error::io_error,
    files::Draft,
    names::{CONFIG_FILE, check_plain},
};

/// A file of a new folder that is not weights.
#[derive(Debug, Clone)]
pub(super) struct Carried {
    pub(super) name: String,
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    File(PathBuf),
    Bytes(Vec<u8>),
}

/// What a tokenizer and its surroundings are kept in.
const TOKENIZER_FILES: [&str; 9] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.json",
    "chat_template.jinja",
    "generation_config.json",
];

/// Endings of files that go along when a folder is converted. Weights in other formats are none of them.
const ENDINGS: [&str; 5] = ["json", "jinja", "txt", "py", "md"];

impl Carried {
    pub(super) fn new(name: &str, bytes: Vec<u8>) -> Self {
        Self { name: name.to_owned(), source: Source::Bytes(bytes) }
    }

    pub(super) fn write(&self, draft: &mut Draft) -> Result<(), FolderError> {
        match &self.source {
            Source::File(path) => draft.copy(path),
            Source::Bytes(bytes) => draft.write(bytes),
        }
    }
}

/// The tokenizer files that are there.
pub(super) fn tokenizer_files(folder: &Path) -> Vec<Carried> {
    let there =
        TOKENIZER_FILES.iter().map(|name| (*name, folder.join(name))).filter(|(_, path)| path.is_file());
    there.map(|(name, path)| Carried { name: name.to_owned(), source: Source::File(path) }).collect()
}

/// Everything small that stands beside the weights, in byte order of the names.
pub(super) fn companions(folder: &Path) -> Result<Vec<Carried>, FolderError> {
    let mut found = Vec::new();
    for entry in folder.read_dir().map_err(io_error(folder))? {
        let path = entry.map_err(io_error(folder))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if is_companion(name) && check_plain(name).is_ok() && path.is_file() {
            found.push(Carried { name: name.to_owned(), source: Source::File(path.clone()) });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn is_companion(name: &str) -> bool {
    if name == CONFIG_FILE || name.ends_with(".index.json") {
        return false;
    }
    let ending = Path::new(name).extension().and_then(|ending| ending.to_str());
    name.starts_with("LICENSE") || ending.is_some_and(|ending| ENDINGS.contains(&ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_go_along_and_weights_do_not() {
        for name in
            ["tokenizer.json", "merges.txt", "chat_template.jinja", "modeling_x.py", "README.md", "LICENSE"]
        {
            assert!(is_companion(name), "{name}");
        }
        for name in [
            "config.json",
            "model.safetensors",
            "model.safetensors.index.json",
            "pytorch_model.bin",
            "x.gguf",
            "x",
        ] {
            assert!(!is_companion(name), "{name}");
        }
    }
}

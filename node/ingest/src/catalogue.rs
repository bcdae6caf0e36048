//! Which files of records there are: what the inputs lead to, in an order that does not change.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use talkoot_dataset::sample::MAX_NAME_BYTES;

use crate::{
    IngestError, IngestOptions,
    error::read_error,
    fetch::{Address, Fetcher, RemoteFile},
};

/// Most files of records of one list.
const MAX_FILES: usize = 1 << 20;

/// What a file of records is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Records in JSON or JSON lines (`.json`, `.jsonl`).
    Json,
    /// A `WebDataset` archive (`.tar`).
    Tar,
    /// A table as the hub has them (`.parquet`).
    Parquet,
}

impl Kind {
    /// What the ending of a name says.
    pub fn of(name: &str) -> Option<Self> {
        let (_, ending) = name.rsplit_once('.')?;
        match ending.to_ascii_lowercase().as_str() {
            "json" | "jsonl" => Some(Self::Json),
            "tar" => Some(Self::Tar),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }
}

/// Where a file of records is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Place {
    /// Here, with so many bytes.
    Here(u64),
    /// Elsewhere.
    There(RemoteFile),
}

/// A file of records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// What it is.
    pub kind: Kind,
    /// What samples and rejects call it: its path in the input.
    pub name: String,
    /// The source that its samples count to.
    pub source: String,
    /// The root that it is under.
    pub(crate) root: String,
    /// Its path under that root, with `/` between the parts.
    pub(crate) path: String,
    /// The root that names of pictures and videos are relative to.
    pub(crate) pictures: String,
    pub(crate) place: Place,
}

/// All files of records, and the folders that they and their pictures are under.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Catalogue {
    pub(crate) files: Vec<SourceFile>,
    pub(crate) roots: BTreeMap<String, PathBuf>,
}

impl Catalogue {
    /// Finds out what the inputs lead to; nothing is fetched but listings.
    pub(crate) fn of(options: &IngestOptions, fetcher: &Fetcher) -> Result<Self, IngestError> {
        let mut catalogue = Self::default();
        let pictures = options.pictures.as_deref().map(|folder| catalogue.root(folder)).transpose()?;
        for input in &options.inputs {
            let before = catalogue.files.len();
            match Address::parse(input) {
                Some(address) => catalogue.add_remote(input, &address?, options, fetcher)?,
                None => catalogue.add_local(input, options)?,
            }
            for file in &mut catalogue.files[before..] {
                if let Some(pictures) = &pictures {
                    file.pictures.clone_from(pictures);
                }
                if let Some(source) = &options.source {
                    file.source.clone_from(source);
                }
            }
            if catalogue.files.len() > MAX_FILES {
                return Err(IngestError::TooManyFiles { limit: MAX_FILES });
            }
        }
        Ok(catalogue)
    }

    /// The name of the root `folder`: what the folder is called, with a number where another one is called so.
    fn root(&mut self, folder: &Path) -> Result<String, IngestError> {
        let folder = folder.canonicalize().map_err(read_error(folder))?;
        let called =
            folder.file_name().map_or_else(|| "root".into(), |name| name.to_string_lossy().into_owned());
        let called: String = called.chars().take(100).collect();
        let mut name = called.clone();
        for number in 2.. {
            match self.roots.get(&name) {
                None => break,
                Some(other) if *other == folder => return Ok(name),
                Some(_) => name = format!("{called}-{number}"),
            }
        }
        self.roots.insert(name.clone(), folder);
        Ok(name)
    }

    fn add_local(&mut self, input: &str, options: &IngestOptions) -> Result<(), IngestError> {
        let no_input = |reason: String| IngestError::NoInput { input: input.to_owned(), reason };
        let path = Path::new(input);
        let about = fs::metadata(path).map_err(|error| no_input(error.to_string()))?;
        if about.is_file() {
            let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            let kind = Kind::of(&name).ok_or_else(|| {
                no_input(
                    "it is a file of no known kind; give .json, .jsonl, .tar or .parquet, unpacked".into(),
                )
            })?;
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let root = self.root(folder.unwrap_or(Path::new(".")))?;
            let source = stem(&name);
            return self.add_file(path, kind, name, source, &root);
        }
        let root = self.root(path)?;
        let folder = self.roots[&root].clone();
        let source =
            folder.file_name().map_or_else(|| "root".into(), |name| name.to_string_lossy().into_owned());
        let out = options.out.canonicalize().ok();
        let mut found = Vec::new();
        find(&folder, &folder, out.as_deref(), &mut found)?;
        if found.is_empty() {
            return Err(no_input("no .json, .jsonl, .tar or .parquet is in it".into()));
        }
        found.sort();
        for (name, kind) in found {
            self.add_file(&folder.join(&name), kind, name, source.clone(), &root)?;
        }
        Ok(())
    }

    /// Adds a file of records; where it is a link, what it leads to is its place.
    fn add_file(
        &mut self,
        path: &Path,
        kind: Kind,
        name: String,
        source: String,
        pictures: &str,
    ) -> Result<(), IngestError> {
        let real = path.canonicalize().map_err(read_error(path))?;
        let bytes = fs::metadata(&real).map_err(read_error(&real))?.len();
        let folder = real.parent().unwrap_or(Path::new("/"));
        let root =
            if real.starts_with(&self.roots[pictures]) { pictures.to_owned() } else { self.root(folder)? };
        let relative = real.strip_prefix(&self.roots[&root]).unwrap_or(&real);
        let path = relative.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/");
        let pictures = pictures.to_owned();
        self.files.push(SourceFile { kind, name, source, root, path, pictures, place: Place::Here(bytes) });
        Ok(())
    }

    fn add_remote(
        &mut self,
        input: &str,
        address: &Address,
        options: &IngestOptions,
        fetcher: &Fetcher,
    ) -> Result<(), IngestError> {
        let root = fetched_root(options);
        let before = self.files.len();
        for file in fetcher.list(address)? {
            let Some(kind) = Kind::of(&file.name).filter(|_| file.name.len() <= MAX_NAME_BYTES) else {
                continue;
            };
            let source = match address {
                Address::Web(_) => stem(&file.name),
                Address::Hub { .. } => address.name(),
            };
            let (name, path) = (file.name.clone(), fetched_path(&file));
            let (root, pictures) = (root.clone(), root.clone());
            self.files.push(SourceFile {
                kind,
                name,
                source,
                root,
                path,
                pictures,
                place: Place::There(file),
            });
        }
        if self.files.len() == before {
            let reason = "no .json, .jsonl, .tar or .parquet is there".into();
            return Err(IngestError::NoInput { input: input.to_owned(), reason });
        }
        Ok(())
    }
}

/// The root of what is fetched.
pub(crate) fn fetched_root(options: &IngestOptions) -> String {
    format!("{}.fetched", options.name)
}

/// Where a fetched file goes under its root: each address has a folder of its own.
fn fetched_path(file: &RemoteFile) -> String {
    let hash = blake3::hash(file.url.as_bytes()).to_hex();
    let name = file.name.rsplit('/').next().unwrap_or("");
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' };
    let name: String = name.chars().map(plain).collect();
    let name = &name[name.len().saturating_sub(128)..];
    format!("{}/{}", &hash.as_str()[..16], name.trim_start_matches('.'))
}

fn stem(name: &str) -> String {
    let name = name.rsplit('/').next().unwrap_or(name);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem).to_owned()
}

/// Files of records under `folder`, with their paths from `top` on. Hidden ones, linked folders and the folder that is
/// written to are left out.
fn find(
    top: &Path,
    folder: &Path,
    out: Option<&Path>,
    found: &mut Vec<(String, Kind)>,
) -> Result<(), IngestError> {
    for entry in fs::read_dir(folder).map_err(read_error(folder))? {
        let entry = entry.map_err(read_error(folder))?;
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') || out == Some(&path) {
            continue;
        }
        if entry.file_type().map_err(read_error(&path))?.is_dir() {
            find(top, &path, out, found)?;
        } else if let Some(kind) = Kind::of(&name)
            && path.is_file()
        {
            let relative = path.strip_prefix(top).unwrap_or(&path);
            let name = relative.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/");
            found.push((name, kind));
            if found.len() > MAX_FILES {
                return Err(IngestError::TooManyFiles { limit: MAX_FILES });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FetchOptions;

    fn catalogue(inputs: &[&Path], out: &Path) -> Result<Catalogue, IngestError> {
        let inputs = inputs.iter().map(|path| path.display().to_string()).collect();
        let options = IngestOptions::new(inputs, out.to_path_buf());
        Catalogue::of(&options, &Fetcher::new(FetchOptions::default()))
    }

    #[test]
    fn a_folder_is_looked_through_in_order_and_its_own_output_left_out() {
        let dir = tempfile::tempdir().unwrap();
        for name in
            ["b.jsonl", "sub/a.tar", "sub/c.PARQUET", "note.txt", ".hidden.json", "out/data.samples.jsonl"]
        {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"x").unwrap();
        }
        let found = catalogue(&[dir.path()], &dir.path().join("out")).unwrap();
        let names: Vec<&str> = found.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["b.jsonl", "sub/a.tar", "sub/c.PARQUET"]);
        assert_eq!(found.roots.len(), 1);
        assert_eq!(found.files[1].place, Place::Here(1));
    }

    #[test]
    fn folders_of_one_name_are_two_roots_and_one_folder_is_one() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["x/data/a.json", "y/data/a.json", "y/data/b.json"] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"[]").unwrap();
        }
        let at = |name: &str| dir.path().join(name);
        let (x, y, z) = (at("x/data/a.json"), at("y/data/a.json"), at("y/data/b.json"));
        let found = catalogue(&[&x, &y, &z], &at("out")).unwrap();
        assert_eq!(found.roots.keys().collect::<Vec<_>>(), ["data", "data-2"]);
        assert_eq!(found.files[2].root, "data-2");
    }

    #[cfg(unix)]
    #[test]
    fn a_linked_file_has_its_place_where_the_link_leads() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("snapshot")).unwrap();
        fs::create_dir_all(dir.path().join("blobs")).unwrap();
        fs::write(dir.path().join("blobs/3f2a"), b"x").unwrap();
        std::os::unix::fs::symlink("../blobs/3f2a", dir.path().join("snapshot/train.tar")).unwrap();
        let found = catalogue(&[&dir.path().join("snapshot")], &dir.path().join("out")).unwrap();
        let file = &found.files[0];
        assert_eq!(
            (file.name.as_str(), file.path.as_str(), file.root.as_str()),
            ("train.tar", "3f2a", "blobs")
        );
    }

    #[test]
    fn what_is_no_input_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = catalogue(&[dir.path()], &dir.path().join("out")).unwrap_err().to_string();
        assert!(error.contains("no .json"), "{error}");
        fs::write(dir.path().join("a.tar.gz"), b"x").unwrap();
        let error =
            catalogue(&[&dir.path().join("a.tar.gz")], &dir.path().join("out")).unwrap_err().to_string();
        assert!(error.contains("unpacked"), "{error}");
        let error = catalogue(&[&dir.path().join("none")], &dir.path().join("out")).unwrap_err().to_string();
        assert!(error.contains("no input"), "{error}");
    }
}

//! The store: pictures that cannot be read where they came from, written once into a plain tar.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use talkoot_dataset::{
    PictureRef,
    shard::{
        PictureFormat,
        member::{BLOCK, header, padded},
    },
};

/// Pictures that a store remembers, to write each once: 40 bytes each. Then it begins to remember anew.
const REMEMBERED: usize = 1 << 20;

/// Writes the pictures of one file of records. It appears under its name when it is finished.
#[derive(Debug)]
pub(crate) struct Store {
    root: String,
    name: String,
    path: PathBuf,
    part: PathBuf,
    file: BufWriter<File>,
    at: u64,
    pictures: u64,
    /// Where a picture with this hash begins, and its length.
    seen: HashMap<[u8; 16], (u64, u64)>,
}

impl Store {
    /// Begins the store `name` in `folder`, which the list knows as `root`.
    pub(crate) fn create(folder: &Path, root: &str, name: &str) -> io::Result<Self> {
        let path = folder.join(name);
        let part = folder.join(format!("{name}.part"));
        let file = BufWriter::with_capacity(1 << 20, File::create(&part)?);
        let (root, name) = (root.to_owned(), name.to_owned());
        Ok(Self { root, name, path, part, file, at: 0, pictures: 0, seen: HashMap::new() })
    }

    /// Adds an encoded picture, unless the same bytes are there already, and tells where they lie.
    pub(crate) fn add(&mut self, picture: &[u8]) -> io::Result<PictureRef> {
        let mut hash = [0; 16];
        blake3::Hasher::new().update(picture).finalize_xof().fill(&mut hash);
        let bytes = picture.len() as u64;
        let offset = match self.seen.get(&hash) {
            Some(&(offset, length)) if length == bytes => offset,
            _ => self.write(picture, hash)?,
        };
        let (root, path) = (self.root.clone(), self.name.clone());
        Ok(PictureRef { root, path, offset: Some(offset), bytes, width: None, height: None })
    }

    fn write(&mut self, picture: &[u8], hash: [u8; 16]) -> io::Result<u64> {
        let bytes = picture.len() as u64;
        let ending = PictureFormat::of(picture).map_or("bin", PictureFormat::extension);
        self.file.write_all(&header(&format!("{:09}.{ending}", self.pictures), bytes))?;
        self.file.write_all(picture)?;
        let padding = [0; BLOCK as usize];
        self.file.write_all(&padding[..(padded(bytes) - bytes) as usize])?;
        let offset = self.at + BLOCK;
        self.at = offset + padded(bytes);
        self.pictures += 1;
        if self.seen.len() >= REMEMBERED {
            self.seen.clear();
        }
        self.seen.insert(hash, (offset, bytes));
        Ok(offset)
    }

    /// Bytes so far.
    pub(crate) const fn bytes(&self) -> u64 {
        self.at
    }

    /// Makes the store durable under its name.
    pub(crate) fn finish(mut self) -> io::Result<u64> {
        self.file.write_all(&[0; 2 * BLOCK as usize])?;
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        fs::rename(&self.part, &self.path)?;
        Ok(self.at + 2 * BLOCK)
    }
}

#[cfg(test)]
mod tests {
    use talkoot_dataset::Roots;

    use super::*;

    #[test]
    fn a_store_is_a_tar_that_others_read_and_has_each_picture_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::create(dir.path(), "store", "0.tar").unwrap();
        let pictures = [&b"\x89PNG\r\n\x1a\nfirst"[..], b"second, of no known kind", &[7; 512]];
        let places: Vec<PictureRef> = pictures.iter().map(|picture| store.add(picture).unwrap()).collect();
        assert_eq!(store.add(pictures[1]).unwrap(), places[1], "the same bytes, the same place");
        let bytes = store.finish().unwrap();
        assert_eq!(fs::metadata(dir.path().join("0.tar")).unwrap().len(), bytes);
        let mut archive = ::tar::Archive::new(File::open(dir.path().join("0.tar")).unwrap());
        let mut names = Vec::new();
        for (entry, picture) in archive.entries().unwrap().zip(pictures) {
            let mut entry = entry.unwrap();
            names.push(entry.path().unwrap().display().to_string());
            let mut content = Vec::new();
            io::Read::read_to_end(&mut entry, &mut content).unwrap();
            assert_eq!(content, picture);
        }
        assert_eq!(names, ["000000000.png", "000000001.bin", "000000002.bin"]);
        let mut roots = Roots::new();
        roots.add("store", dir.path()).unwrap();
        for (place, picture) in places.iter().zip(pictures) {
            assert_eq!(roots.read(place, 1 << 20).unwrap(), picture);
        }
    }
}

//! Where a folder was made, so that a copy of it can be told from the original.

use std::{fs::File, io};

/// A line that names a file for as long as it exists: its number in the file system and when it was born. A
/// copy, an unpacked archive and a restored backup get others; a renamed folder keeps them. A snapshot of a
/// whole file system keeps them too, so this finds the usual accident and no more.
///
/// File systems that don't tell a birth time are known by the number alone.
pub(super) fn of(file: &File) -> io::Result<String> {
    let metadata = file.metadata()?;
    #[cfg(unix)]
    let number = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let number = 0_u64;
    let born = metadata
        .created()
        .ok()
        .and_then(|born| born.duration_since(std::time::UNIX_EPOCH).ok())
        .map_or(0, |since| since.as_nanos());
    Ok(format!("file {number} born {born}\n"))
}

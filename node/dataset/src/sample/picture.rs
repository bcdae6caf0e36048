//! Where a picture's bytes lie.

use serde::{Deserialize, Serialize};

/// A picture as an encoded file: a whole file, or a stretch of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PictureRef {
    /// Name of the [root](super::Roots) that `path` is under.
    pub root: String,
    /// The file, relative to the root, with `/` between its parts on every system.
    pub path: String,
    /// Where the picture starts in the file, in bytes; `None` when it is the whole file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Bytes of the encoded picture.
    pub bytes: u64,
    /// Pixels across, as the picture's head says, where it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// Pixels down, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
}

impl PictureRef {
    /// Width and height in pixels, where they are known.
    pub fn size(&self) -> Option<(u32, u32)> {
        self.width.zip(self.height)
    }

    /// What to call the picture in a message: its path, and where it starts in an archive.
    pub fn name(&self) -> String {
        match self.offset {
            Some(offset) => format!("{} at {offset}", self.path),
            None => self.path.clone(),
        }
    }
}

//! Videos as frames: picked evenly over their length, each a picture.
//!
//! Two frames a second, at least 4 and at most 768 (or all there are), at the places of a linspace from the first frame
//! to the last; each resized to at most the pixels of a frame, and all together to about those of a video. Frames are
//! decoded by an installed ffmpeg, resized as pictures are, and kept as JPEG.
//!
//! Source: the published model's loader (2.0 frames a second, 4 to 768 frames, 128·784 to 768·784 pixels a frame,
//! 65536·784 a video).

mod frames;
mod pick;
mod probe;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use talkoot_dataset::{
    PictureRef, Roots,
    chat::{IMAGE_PLACEHOLDER, Role},
    ingest::{Fault, Record, VIDEO_PLACEHOLDER},
    sample::MAX_PICTURES,
};

pub use self::pick::{frame_size, picked};
use crate::IngestError;

/// How frames are taken.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct VideoOptions {
    /// Frames of a second of video.
    pub frames_per_second: f64,
    /// Fewest frames, where the video has so many.
    pub min_frames: u32,
    /// Most frames.
    pub max_frames: u32,
    /// Fewest pixels of a frame.
    pub min_frame_pixels: u64,
    /// Most pixels of a frame.
    pub max_frame_pixels: u64,
    /// Pixels of all frames: a frame has at most twice its share.
    pub video_pixels: u64,
}

impl VideoOptions {
    /// Most frames that may be asked for.
    pub const MOST_FRAMES: u32 = MAX_PICTURES as u32;
}

impl Default for VideoOptions {
    fn default() -> Self {
        Self {
            frames_per_second: 2.0,
            min_frames: 4,
            max_frames: 768,
            min_frame_pixels: 128 * 784,
            max_frame_pixels: 768 * 784,
            video_pixels: 65_536 * 784,
        }
    }
}

/// The programs that read videos.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools {
    /// Decodes.
    pub ffmpeg: PathBuf,
    /// Tells what there is to decode.
    pub ffprobe: PathBuf,
}

impl Default for Tools {
    /// As they are found in the search path.
    fn default() -> Self {
        Self { ffmpeg: "ffmpeg".into(), ffprobe: "ffprobe".into() }
    }
}

/// A video: a file, or a stretch of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Clip {
    /// What to call it.
    pub(crate) name: String,
    path: PathBuf,
    stretch: Option<(u64, u64)>,
}

impl Clip {
    /// The file `name` under a root.
    pub(crate) fn file(roots: &Roots, root: &str, name: &str) -> Result<Self, Fault> {
        let path = roots.file(root, name)?;
        Ok(Self { name: name.to_owned(), path, stretch: None })
    }

    /// `bytes` bytes of the file `path`, from `offset` on.
    pub(crate) fn stretch(path: &Path, offset: u64, bytes: u64, name: &str) -> Self {
        Self { name: name.to_owned(), path: path.to_path_buf(), stretch: Some((offset, bytes)) }
    }

    /// How ffmpeg is told where it is.
    fn address(&self) -> String {
        let path = self.path.display();
        match self.stretch {
            None => format!("file:{path}"),
            Some((offset, bytes)) => format!("subfile,,start,{offset},end,{},,:{path}", offset + bytes),
        }
    }
}

/// Why a video gives no frames.
#[derive(Debug)]
pub(crate) enum VideoError {
    /// It cannot be read, or taken.
    Fault(String),
    /// A program isn't there.
    NoProgram {
        /// Which.
        program: String,
        /// What the system said.
        reason: String,
    },
    /// A frame cannot be stored.
    Store(IngestError),
}

/// Takes the frames of a video, as encoded pictures in their order.
pub(crate) fn read(
    clip: &Clip,
    tools: &Tools,
    options: &VideoOptions,
    mut frame: impl FnMut(&[u8]) -> Result<(), IngestError>,
) -> Result<(), VideoError> {
    let about = probe::probe(clip, tools)?;
    let picked = picked(about.frames, about.seconds, options);
    if picked.is_empty() {
        return Err(VideoError::Fault(format!("video {} has no frames", clip.name)));
    }
    let size = frame_size(about.width, about.height, picked.len() as u64, options)
        .map_err(|error| VideoError::Fault(format!("video {}: {error}", clip.name)))?;
    frames::read(clip, tools, (about.width, about.height), size, &picked, &mut frame)
}

/// Puts the frames of each video in the place of its placeholder, and tells the pictures in their new order.
pub(crate) fn unroll(
    record: &mut Record,
    pictures: Vec<PictureRef>,
    videos: Vec<Vec<PictureRef>>,
) -> Vec<PictureRef> {
    if videos.is_empty() {
        return pictures;
    }
    let (mut pictures, mut videos) = (pictures.into_iter(), videos.into_iter());
    let mut ordered = Vec::new();
    for message in record.messages.iter_mut().filter(|message| message.role == Role::User) {
        let mut text = String::new();
        let mut rest = message.text.as_str();
        loop {
            match (rest.find(IMAGE_PLACEHOLDER), rest.find(VIDEO_PLACEHOLDER)) {
                (Some(at), video) if video.is_none_or(|video| at < video) => {
                    ordered.extend(pictures.next());
                    let end = at + IMAGE_PLACEHOLDER.len();
                    text.push_str(&rest[..end]);
                    rest = &rest[end..];
                }
                (_, Some(at)) => {
                    let frames = videos.next().unwrap_or_default();
                    text.push_str(&rest[..at]);
                    text.push_str(&IMAGE_PLACEHOLDER.repeat(frames.len()));
                    ordered.extend(frames);
                    rest = &rest[at + VIDEO_PLACEHOLDER.len()..];
                }
                _ => break,
            }
        }
        text.push_str(rest);
        message.text = text;
    }
    ordered
}

//! What a video has, as ffprobe tells.

use std::{
    io::Read,
    path::Path,
    process::{Command, Stdio},
};

use serde::Deserialize;
use talkoot_dataset::preprocess::DecodeLimits;

use super::{Clip, Tools, VideoError};

/// Containers that hold what they show. Playlists and scripts, which name other files, are not among them.
const CONTAINERS: &str = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,ogg";
/// Most bytes of what a program says that are looked at.
const MAX_ANSWER_BYTES: u64 = 1 << 20;

/// What a video has.
pub(super) struct About {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) frames: u64,
    pub(super) seconds: f64,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    streams: Vec<Stream>,
    #[serde(default)]
    format: Format,
}

#[derive(Deserialize)]
struct Stream {
    #[serde(default)]
    width: u32,
    #[serde(default)]
    height: u32,
    nb_read_frames: Option<String>,
    duration: Option<String>,
    avg_frame_rate: Option<String>,
}

#[derive(Deserialize, Default)]
struct Format {
    duration: Option<String>,
}

/// A program that reads this video and nothing else, in silence but for errors.
pub(super) fn command(program: &Path, clip: &Clip, before: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(["-v", "error", "-protocol_whitelist", "file,subfile", "-format_whitelist", CONTAINERS])
        .args(before)
        .arg("-i")
        .arg(clip.address())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

pub(super) fn not_run(program: &Path, error: &std::io::Error) -> VideoError {
    VideoError::NoProgram { program: program.display().to_string(), reason: error.to_string() }
}

/// Looks at a video; its frames are counted, as their number in the head is often missing or wrong.
pub(super) fn probe(clip: &Clip, tools: &Tools) -> Result<About, VideoError> {
    let fault = |reason: &str| VideoError::Fault(format!("video {} {reason}", clip.name));
    let mut child = command(&tools.ffprobe, clip, &[])
        .args(["-select_streams", "v:0", "-count_frames", "-of", "json", "-show_entries"])
        .arg("stream=width,height,nb_read_frames,duration,avg_frame_rate:format=duration")
        .spawn()
        .map_err(|error| not_run(&tools.ffprobe, &error))?;
    let mut said = Vec::new();
    let read = child.stdout.take().map(|out| out.take(MAX_ANSWER_BYTES).read_to_end(&mut said));
    let ended = child.wait();
    if !matches!((read, ended), (Some(Ok(_)), Ok(status)) if status.success()) {
        return Err(fault("cannot be read by ffprobe"));
    }
    let answer: Answer = serde_json::from_slice(&said).map_err(|_| fault("is not told of by ffprobe"))?;
    let stream = answer.streams.first().ok_or_else(|| fault("has no pictures in it"))?;
    let number = |text: &Option<String>| text.as_ref().and_then(|text| text.parse::<f64>().ok());
    let frames = number(&stream.nb_read_frames).unwrap_or(0.0) as u64;
    // A rate is written as a fraction.
    let rate = stream.avg_frame_rate.as_ref().and_then(|rate| {
        let (over, under) = rate.split_once('/')?;
        Some(over.parse::<f64>().ok()? / under.parse::<f64>().ok()?)
    });
    let seconds = number(&stream.duration)
        .or_else(|| number(&answer.format.duration))
        .or_else(|| Some(frames as f64 / rate?))
        .filter(|seconds| seconds.is_finite())
        .unwrap_or(0.0);
    let (width, height) = (stream.width, stream.height);
    let limits = DecodeLimits::default();
    if width.max(height) > limits.side_pixels || u64::from(width) * u64::from(height) > limits.area_pixels {
        return Err(fault(&format!("has frames of {width}x{height} pixels, more than {limits:?} allow")));
    }
    Ok(About { width, height, frames, seconds })
}

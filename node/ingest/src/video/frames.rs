//! Frames out of ffmpeg: decoded there, resized and encoded here, one in memory at a time.

use std::io::Read;

use image::{ExtendedColorType, ImageEncoder, codecs::jpeg::JpegEncoder};
use talkoot_dataset::{Rgb, preprocess::resize_bicubic};

use super::{
    Clip, IngestError, Tools, VideoError,
    probe::{command, not_run},
};

/// Quality of the frames' JPEG, of 100. They have been through a lossier encoder before.
const QUALITY: u8 = 95;

pub(super) fn read(
    clip: &Clip,
    tools: &Tools,
    (width, height): (u32, u32),
    (to_width, to_height): (u32, u32),
    picked: &[u64],
    frame: &mut impl FnMut(&[u8]) -> Result<(), IngestError>,
) -> Result<(), VideoError> {
    let chosen: Vec<String> = picked.iter().map(|number| format!("eq(n\\,{number})")).collect();
    let filter = format!("select={},scale={width}:{height}", chosen.join("+"));
    let mut child = command(&tools.ffmpeg, clip, &["-nostdin", "-noautorotate", "-threads", "1"])
        .args(["-map", "0:v:0", "-vf", &filter, "-vsync", "passthrough"])
        .args(["-frames:v", &picked.len().to_string(), "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"])
        .spawn()
        .map_err(|error| not_run(&tools.ffmpeg, &error))?;
    let outcome = match child.stdout.take() {
        Some(mut out) => (0..picked.len()).try_for_each(|number| {
            // The size was bounded when the video was looked at.
            let mut rgb = vec![0; width as usize * height as usize * 3];
            out.read_exact(&mut rgb).map_err(|_| {
                let (name, of) = (&clip.name, picked.len());
                VideoError::Fault(format!("video {name} gives {number} of {of} frames, then ffmpeg stops"))
            })?;
            let resized = resize_bicubic(&Rgb { width, height, rgb }, to_width, to_height);
            frame(&encode(&resized, clip)?).map_err(VideoError::Store)
        }),
        None => Err(VideoError::Fault(format!("video {} gives nothing", clip.name))),
    };
    if outcome.is_err() {
        // It may be waiting for somebody to read on.
        let _ = child.kill();
    }
    let _ = child.wait();
    outcome
}

fn encode(picture: &Rgb, clip: &Clip) -> Result<Vec<u8>, VideoError> {
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, QUALITY)
        .write_image(&picture.rgb, picture.width, picture.height, ExtendedColorType::Rgb8)
        .map_err(|error| {
            VideoError::Fault(format!("a frame of video {} is no picture: {error}", clip.name))
        })?;
    Ok(jpeg)
}

//! `WebDataset` archives: members with the same key, one after another, are a record.
//!
//! ```text
//! 000041.jpg         the key is what stands before the first dot of the name; the rest says what the member is
//! 000041.json        caption, or conversations, or messages
//! 000042.img0.png    several pictures: in their order in the archive, or in that of the JSON's names
//! 000042.img1.png
//! 000042.txt         a caption
//! 000043.mp4         a video
//! ```

mod group;

use std::{fs::File, path::Path};

use talkoot_dataset::{
    RejectKind,
    ingest::{MAX_LINE_BYTES, Record, id_of},
};

use self::group::Group;
use crate::{
    IngestError,
    error::read_error,
    piece::{Attached, Piece},
    tar::{Member, Walk},
    video::Clip,
};

pub(super) fn read(piece: &mut Piece<'_>, path: &Path) -> Result<(), IngestError> {
    let file = File::open(path).map_err(read_error(path))?;
    let mut walk = Walk::open(file).map_err(read_error(path))?;
    let mut group: Option<Group> = None;
    let mut told = 0;
    loop {
        let next = walk.next_member().map_err(read_error(path))?;
        let fault = match next {
            Ok(Some(member)) => {
                let (key, part) = group::part_of(&member.name);
                if group.as_ref().is_some_and(|group| group.key != key)
                    && let Some(group) = group.take()
                {
                    record(piece, group, path, &mut walk)?;
                    piece.job.progress.advance(walk.at() - told);
                    told = walk.at();
                }
                group.get_or_insert_with(|| Group::new(key)).add(part, member);
                continue;
            }
            Ok(None) => None,
            Err(fault) => Some(fault),
        };
        if let Some(group) = group {
            match &fault {
                // The damage may have taken members of this record.
                Some(fault) => {
                    return piece.damaged(format!("{fault} (within or after record {:?})", group.key));
                }
                None => record(piece, group, path, &mut walk)?,
            }
        } else if let Some(fault) = fault {
            piece.damaged(fault)?;
        }
        return Ok(());
    }
}

/// Makes a record of a group.
fn record(
    piece: &mut Piece<'_>,
    group: Group,
    path: &Path,
    walk: &mut Walk<File>,
) -> Result<(), IngestError> {
    piece.unused(group.unused);
    let id = Some(group.key.chars().take(200).collect());
    if let Some(reason) = group.fault {
        return piece.refuse(id, (RejectKind::Malformed, reason));
    }
    let text = match (&group.json, &group.caption) {
        (Some(json), _) => Some((json, true)),
        (None, Some(caption)) => Some((caption, false)),
        (None, None) => None,
    };
    let Some((text, is_json)) = text else {
        let reason = format!("{:?} has no .json and no .txt beside it", group.key);
        return piece.refuse(id, (RejectKind::Malformed, reason));
    };
    if text.bytes > MAX_LINE_BYTES {
        let reason = format!("{} has {} bytes, at most {MAX_LINE_BYTES} are taken", text.name, text.bytes);
        return piece.refuse(id, (RejectKind::Malformed, reason));
    }
    let content = walk.content(text.offset, text.bytes).map_err(read_error(path))?;
    let mut parsed = if is_json { json(&content) } else { caption(content) };
    if let (Err(_), true, Some(beside)) = (&parsed, is_json, &group.caption)
        && beside.bytes <= MAX_LINE_BYTES
    {
        // The JSON tells of the picture only; what is said of it stands beside it.
        parsed = caption(walk.content(beside.offset, beside.bytes).map_err(read_error(path))?);
    }
    let (id, parsed) = match parsed {
        Ok((own, record)) => (own.or(id), Ok(record)),
        Err(reason) => (id, Err((RejectKind::Malformed, format!("{}: {reason}", text.name)))),
    };
    piece.take(id, |piece, origin| {
        let mut record = parsed?;
        let pictures = group::in_order(&group, &std::mem::take(&mut record.pictures))?;
        if pictures.is_empty() && group.videos.is_empty() && record.implied {
            let reason = format!("{:?} is a caption without a picture", group.key);
            return Err((RejectKind::MissingPicture, reason).into());
        }
        let (root, file) = (&piece.file.root, &piece.file.path);
        let pictures =
            pictures.into_iter().map(|member| Attached::InPlace(member.place(root, file))).collect();
        // What the text calls its videos is what is beside it.
        record.videos.clear();
        let clip = |member: &Member| Clip::stretch(path, member.offset, member.bytes, &member.name);
        let clips = group.videos.iter().map(clip).collect();
        piece.sample(origin, record, pictures, clips)
    })
}

fn json(content: &[u8]) -> Result<(Option<String>, Record), String> {
    let value: serde_json::Value = serde_json::from_slice(content).map_err(|error| error.to_string())?;
    Ok((id_of(&value), Record::parse(value)?))
}

fn caption(content: Vec<u8>) -> Result<(Option<String>, Record), String> {
    let text = String::from_utf8(content).map_err(|_| "it is not UTF-8")?;
    Ok((None, Record::caption(text.trim().to_owned())))
}

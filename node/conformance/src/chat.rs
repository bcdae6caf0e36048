//! Rendered chat text, and what of it is learned.

use std::path::Path;

use serde::Deserialize;
use talkoot_dataset::chat::{
    Message, Role, Segment,
    alternative::{caption_segments, sft_script_segments},
    template::{TemplateMessage, TemplateOptions, expand_pads, render},
    training_segments,
};

use crate::{
    CheckError, Report,
    files::{json, malformed, names},
};

#[derive(Debug, Deserialize)]
struct Chat {
    renderings: Vec<Rendering>,
    placeholder_expansion: Expansion,
    training_segments: Vec<Training>,
    stage1_caption_format: Caption,
}

#[derive(Debug, Deserialize)]
struct Rendering {
    name: String,
    messages: Vec<TemplateMessage>,
    add_generation_prompt: bool,
    add_vision_id: bool,
    text: String,
}

#[derive(Debug, Deserialize)]
struct Expansion {
    source: String,
    grids: Vec<[usize; 3]>,
    text: String,
}

#[derive(Debug, Deserialize)]
struct Training {
    name: String,
    conversation: Vec<Turn>,
    grids: Vec<[usize; 3]>,
    trainer_segments: Vec<Piece>,
    alt_sft_segments: Option<Vec<Piece>>,
}

#[derive(Debug, Deserialize)]
struct Turn {
    role: Role,
    content: String,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Piece {
    text: String,
    learn: bool,
}

#[derive(Debug, Deserialize)]
struct Caption {
    caption: String,
    grid: [usize; 3],
    text: String,
}

pub(crate) fn check(folder: &Path, report: &mut Report) -> Result<(), CheckError> {
    let folder = folder.join("chat");
    for name in names(&folder)? {
        if name != "chat.json" {
            return Err(CheckError::Unknown { path: folder.join(name) });
        }
    }
    let (file, path) = ("chat/chat.json", folder.join("chat.json"));
    let chat: Chat = json(&path)?;
    for case in &chat.renderings {
        report.equal(file, "rendered text", &case.name, rendered(case) == case.text);
    }
    let expansion = &chat.placeholder_expansion;
    let source = chat.renderings.iter().find(|case| case.name == expansion.source);
    let source = source.ok_or_else(|| malformed(&path, format!("no rendering {}", expansion.source)))?;
    let expanded = expand_pads(&rendered(source), &tokens(&expansion.grids));
    report.equal(file, "expanded placeholders", &expansion.source, expanded == expansion.text);
    for case in &chat.training_segments {
        segments(file, case, report);
    }
    let caption = &chat.stage1_caption_format;
    let [picture, learned] = caption_segments(tokens(&[caption.grid])[0], &caption.caption, "<eos>");
    let equal =
        format!("{}{}", picture.text, learned.text) == caption.text && learned.learn && !picture.learn;
    report.equal(file, "caption of the first stage", &caption.caption, equal);
    Ok(())
}

fn rendered(case: &Rendering) -> String {
    let options = TemplateOptions {
        add_generation_prompt: case.add_generation_prompt,
        add_vision_id: case.add_vision_id,
    };
    render(&case.messages, options)
}

/// One token for every two by two patches.
fn tokens(grids: &[[usize; 3]]) -> Vec<usize> {
    grids.iter().map(|[t, h, w]| t.saturating_mul(*h).saturating_mul(*w) / 4).collect()
}

fn segments(file: &str, case: &Training, report: &mut Report) {
    let turn = |turn: &Turn| Message { role: turn.role, text: turn.content.clone() };
    let messages: Vec<Message> = case.conversation.iter().map(turn).collect();
    let sizes = tokens(&case.grids);
    let same = |got: &[Segment], expected: &[Piece]| {
        got.iter().map(|s| (&s.text, s.learn)).eq(expected.iter().map(|p| (&p.text, p.learn)))
    };
    let ours = training_segments(&messages, &sizes);
    let equal = ours.is_ok_and(|ours| same(&ours, &case.trainer_segments));
    report.equal(file, "training segments", &case.name, equal);
    let equal = match (sft_script_segments(&messages, &sizes), &case.alt_sft_segments) {
        (Ok(Some(ours)), Some(expected)) => same(&ours, expected),
        (Ok(None), None) => true,
        _ => false,
    };
    report.equal(file, "segments of the second SFT script", &case.name, equal);
}

//! Two other layouts of the published project, for comparison: its second SFT script, and captions of the first stage.

use super::{ChatError, DEFAULT_SYSTEM, IMAGE_PLACEHOLDER, Message, Role, SPECIAL_TOKENS, Segment, check};

/// Segments as the second SFT script lays them out: a line break around a placeholder is dropped, the answer is learned
/// with its end token and the line break behind it, and there is always the default system text. A conversation with a
/// system text of its own has no such layout.
///
/// # Errors
///
/// [`ChatError`] as [`check`].
pub fn sft_script_segments(
    messages: &[Message],
    picture_tokens: &[usize],
) -> Result<Option<Vec<Segment>>, ChatError> {
    check(messages, picture_tokens.len())?;
    if messages.first().is_some_and(|first| first.role == Role::System) {
        return Ok(None);
    }
    let [_, im_start, im_end, ..] = SPECIAL_TOKENS;
    let fixed = |text: String| Segment { text, learn: false };
    let mut sizes = picture_tokens.iter().copied();
    let mut segments = vec![fixed(format!("{im_start}system\n{DEFAULT_SYSTEM}{im_end}\n"))];
    for message in messages {
        if message.role == Role::Assistant {
            segments.push(Segment { text: format!("{}{im_end}\n", message.text), learn: true });
            continue;
        }
        let text = message.text.replace(&format!("\n{IMAGE_PLACEHOLDER}"), IMAGE_PLACEHOLDER);
        let text = text.replace(&format!("{IMAGE_PLACEHOLDER}\n"), IMAGE_PLACEHOLDER);
        let mut parts = text.split(IMAGE_PLACEHOLDER);
        let mut told = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            told.push_str(&picture(sizes.next().unwrap_or(0)));
            told.push_str(part);
        }
        segments.push(fixed(format!("{im_start}user\n{told}{im_end}\n{im_start}assistant\n")));
    }
    Ok(Some(segments))
}

/// A caption as the first stage may learn it: the picture, then the caption and an end token, which are learned.
pub fn caption_segments(picture_tokens: usize, caption: &str, end: &str) -> [Segment; 2] {
    [
        Segment { text: picture(picture_tokens), learn: false },
        Segment { text: format!("{caption}{end}"), learn: true },
    ]
}

fn picture(tokens: usize) -> String {
    let [_, _, _, vision_start, vision_end, image_pad, _] = SPECIAL_TOKENS;
    format!("{vision_start}{}{vision_end}", image_pad.repeat(tokens))
}

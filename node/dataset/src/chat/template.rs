//! The released processor's chat template, for messages as `transformers` takes them.
//!
//! A message's content is a text, or a list of pictures, videos and texts. Every picture or video becomes its three
//! tokens with one pad, which the processor then repeats. The packing of this crate goes by [`super::training_segments`],
//! which writes the same text for the conversations that it takes.
//!
//! Source: the public template of Qwen2.5-VL, which LLaVA-OneVision-1.5's processor carries.

use serde::Deserialize;

use super::{DEFAULT_SYSTEM, SPECIAL_TOKENS};

/// A message as `transformers` takes it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct TemplateMessage {
    /// `system`, `user` or `assistant`; written as it stands.
    pub role: String,
    /// What it says.
    pub content: Content,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// A text.
    Text(String),
    /// Pictures, videos and texts in a row.
    Items(Vec<Item>),
}

/// One item of a content list: its keys say what it is.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Item {
    /// `image`, `video`, `text`, ...
    #[serde(rename = "type", default)]
    pub kind: Option<String>,
    /// Where the picture is; that it is there makes this a picture.
    #[serde(default)]
    pub image: Option<serde_json::Value>,
    /// Likewise.
    #[serde(default)]
    pub image_url: Option<serde_json::Value>,
    /// Where the video is.
    #[serde(default)]
    pub video: Option<serde_json::Value>,
    /// The text.
    #[serde(default)]
    pub text: Option<String>,
}

/// What is written besides the messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TemplateOptions {
    /// End with the beginning of an answer.
    pub add_generation_prompt: bool,
    /// Number pictures and videos: `Picture 1: `.
    pub add_vision_id: bool,
}

/// The text of messages.
pub fn render(messages: &[TemplateMessage], options: TemplateOptions) -> String {
    let [_, im_start, im_end, vision_start, vision_end, image_pad, video_pad] = SPECIAL_TOKENS;
    let mut text = String::new();
    if messages.first().is_some_and(|first| first.role != "system") {
        text.push_str(&format!("{im_start}system\n{DEFAULT_SYSTEM}{im_end}\n"));
    }
    let (mut pictures, mut videos) = (0, 0);
    let number = |what: &str, count: &mut u32| {
        *count += 1;
        if options.add_vision_id { format!("{what} {count}: ") } else { String::new() }
    };
    for message in messages {
        text.push_str(&format!("{im_start}{}\n", message.role));
        match &message.content {
            Content::Text(plain) => text.push_str(plain),
            Content::Items(items) => {
                for item in items {
                    let is = |kind: &str| item.kind.as_deref() == Some(kind);
                    if is("image") || item.image.is_some() || item.image_url.is_some() {
                        text.push_str(&number("Picture", &mut pictures));
                        text.push_str(&format!("{vision_start}{image_pad}{vision_end}"));
                    } else if is("video") || item.video.is_some() {
                        text.push_str(&number("Video", &mut videos));
                        text.push_str(&format!("{vision_start}{video_pad}{vision_end}"));
                    } else if let Some(plain) = &item.text {
                        text.push_str(plain);
                    }
                }
            }
        }
        text.push_str(im_end);
        text.push('\n');
    }
    if options.add_generation_prompt {
        text.push_str(&format!("{im_start}assistant\n"));
    }
    text
}

/// Repeats the pad of every picture and video as often as it has tokens, in order of the text.
pub fn expand_pads(text: &str, tokens: &[usize]) -> String {
    let [.., image_pad, video_pad] = SPECIAL_TOKENS;
    let mut tokens = tokens.iter();
    let (mut out, mut rest) = (String::new(), text);
    loop {
        let next = [image_pad, video_pad].map(|pad| rest.find(pad).map(|at| (at, pad)));
        let Some((at, pad)) = next.into_iter().flatten().min() else { break };
        out.push_str(&rest[..at]);
        out.push_str(&pad.repeat(tokens.next().copied().unwrap_or(1)));
        rest = &rest[at + pad.len()..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pads_are_repeated_in_the_order_of_the_text() {
        let text = "a<|image_pad|>b<|video_pad|><|image_pad|>c";
        let expanded = expand_pads(text, &[2, 1, 3]);
        assert_eq!(
            expanded,
            "a<|image_pad|><|image_pad|>b<|video_pad|><|image_pad|><|image_pad|><|image_pad|>c"
        );
    }

    #[test]
    fn the_packing_writes_the_same_text() {
        let message = |role: &str, text: &str| TemplateMessage {
            role: role.to_owned(),
            content: Content::Text(text.to_owned()),
        };
        let rendered =
            render(&[message("user", "Hello."), message("assistant", "Hi.")], TemplateOptions::default());
        let talk = [super::super::Message::user("Hello."), super::super::Message::assistant("Hi.")];
        let packed: String =
            super::super::training_segments(&talk, &[]).unwrap().into_iter().map(|s| s.text).collect();
        assert_eq!(rendered, packed + "\n");
    }
}

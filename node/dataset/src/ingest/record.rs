//! One record as it is written, in the spellings that are about.
//!
//! | what | fields |
//! |---|---|
//! | pictures | `image` or `images`: a name, `{"path": …}`, or a list of them |
//! | videos | `video` or `videos`, likewise |
//! | turns | `conversations` or `messages`: `from`/`value` or `role`/`content`, where content is a text or parts of it |
//! | questions and answers | `texts`: `user`/`assistant`; the pictures come before the first |
//! | a caption | `caption` or `text`: what is said of all pictures |

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    chat::{self, IMAGE_PLACEHOLDER, Message, Role},
    sample::{MAX_NAME_BYTES, Origin, PictureRef, RejectKind, Sample, SampleError},
};

/// Where a video stands in a text, as [`IMAGE_PLACEHOLDER`] for a picture.
pub const VIDEO_PLACEHOLDER: &str = "<video>";

/// What is wrong with a record.
pub type Fault = (RejectKind, String);

/// A record that has one of the known layouts; nothing else is known of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// The turns, as they are written.
    pub messages: Vec<Message>,
    /// Names of pictures, in the order of their placeholders.
    pub pictures: Vec<String>,
    /// Names of videos, likewise.
    pub videos: Vec<String>,
    /// What is asked for, where the record says so.
    pub kind: Option<String>,
    /// The licence, where the record says so.
    pub licence: Option<String>,
    /// Whether the layout has no placeholders: the pictures come before the first question.
    pub implied: bool,
}

/// The record's id as text; numbers are common.
pub fn id_of(value: &Value) -> Option<String> {
    let id = match value.get("id")? {
        Value::String(text) => text.chars().take(200).collect(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    Some(id)
}

impl Record {
    /// Reads a record.
    ///
    /// # Errors
    ///
    /// What is wrong with its layout.
    pub fn parse(value: Value) -> Result<Self, String> {
        let Value::Object(mut fields) = value else {
            return Err(format!("invalid type: {}, a record is an object", sort_of(&value)));
        };
        let pictures = names(take(&mut fields, ["image", "images"]), "image")?;
        let videos = names(take(&mut fields, ["video", "videos"]), "video")?;
        // A tag of another form is no reason to refuse a record.
        let mut tag = |names| match take(&mut fields, names) {
            Some(Value::String(tag)) if tag.len() <= MAX_NAME_BYTES => Some(tag),
            _ => None,
        };
        let (kind, licence) = (tag(["kind", "task"]), tag(["licence", "license"]));
        let (messages, implied) = talk(&mut fields)?;
        Ok(Self { messages, pictures, videos, kind, licence, implied })
    }

    /// What an article with nothing but a text says of its pictures.
    pub fn caption(text: String) -> Self {
        Self { messages: caption(text), implied: true, ..Self::default() }
    }

    /// Puts placeholders for `pictures` and the videos before the first question, if they are [implied](Self::implied)
    /// and none is written.
    pub fn place(&mut self, pictures: usize) {
        let count = |of: &str| self.messages.iter().map(|message| message.text.matches(of).count()).sum();
        let (pictures_placed, videos_placed): (usize, usize) =
            (count(IMAGE_PLACEHOLDER), count(VIDEO_PLACEHOLDER));
        if !self.implied || pictures_placed + videos_placed > 0 {
            return;
        }
        let Some(first) = self.messages.iter_mut().find(|message| message.role == Role::User) else { return };
        let mut text = IMAGE_PLACEHOLDER.repeat(pictures) + &VIDEO_PLACEHOLDER.repeat(self.videos.len());
        if !text.is_empty() && !first.text.is_empty() {
            text.push('\n');
        }
        text.push_str(&first.text);
        first.text = text;
    }

    /// Checks the turns against `pictures` and the videos, before any of them is looked for.
    ///
    /// # Errors
    ///
    /// What is wrong with the turns or the number of placeholders.
    pub fn check(&self, pictures: usize) -> Result<(), Fault> {
        chat::check(&self.messages, pictures)
            .map_err(|error| (RejectKind::Conversation, error.to_string()))?;
        if self.videos.is_empty() {
            // A text may speak of the tag.
            return Ok(());
        }
        let placed: usize = self
            .messages
            .iter()
            .filter(|message| message.role == Role::User)
            .map(|message| message.text.matches(VIDEO_PLACEHOLDER).count())
            .sum();
        if placed == self.videos.len() {
            return Ok(());
        }
        let videos = self.videos.len();
        let reason =
            format!("the questions have {placed} {VIDEO_PLACEHOLDER} placeholders for {videos} videos");
        Err((RejectKind::Conversation, reason))
    }

    /// The sample of this record, whose pictures are `pictures`; its own licence goes before the origin's.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn into_sample(self, mut origin: Origin, pictures: Vec<PictureRef>) -> Result<Sample, Fault> {
        origin.licence = self.licence.or(origin.licence);
        let mut sample = Sample::new(origin, self.messages, pictures);
        sample.kind = self.kind;
        sample.check().map_err(|error| (kind_of(&error), error.to_string()))?;
        Ok(sample)
    }
}

const fn kind_of(error: &SampleError) -> RejectKind {
    match error {
        SampleError::Chat(_) => RejectKind::Conversation,
        SampleError::UnsafePath { .. } => RejectKind::UnsafePath,
        SampleError::TooMany { .. } | SampleError::Score { .. } => RejectKind::Malformed,
    }
}

fn sort_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The first of the fields that is there and isn't null.
fn take<const N: usize>(fields: &mut Map<String, Value>, names: [&str; N]) -> Option<Value> {
    names.into_iter().find_map(|name| fields.remove(name).filter(|value| !value.is_null()))
}

fn names(value: Option<Value>, what: &str) -> Result<Vec<String>, String> {
    let one = |value: Value| match value {
        Value::String(name) => Ok(name),
        Value::Object(mut fields) => match fields.remove("path") {
            Some(Value::String(name)) => Ok(name),
            _ => Err(format!("{what} is an object without a path")),
        },
        other => {
            Err(format!("invalid type: {what} is {}, it must be a name or a list of names", sort_of(&other)))
        }
    };
    match value {
        None => Ok(Vec::new()),
        Some(Value::Array(values)) => values.into_iter().map(one).collect(),
        Some(value) => Ok(vec![one(value)?]),
    }
}

/// The turns, and whether their placeholders are implied.
fn talk(fields: &mut Map<String, Value>) -> Result<(Vec<Message>, bool), String> {
    if let Some(turns) = take(fields, ["conversations", "messages"]) {
        return Ok((list(turns, "conversations")?.into_iter().map(turn).collect::<Result<_, _>>()?, false));
    }
    if let Some(texts) = take(fields, ["texts"]) {
        let pairs: Vec<[Message; 2]> =
            list(texts, "texts")?.into_iter().map(pair).collect::<Result<_, _>>()?;
        return Ok((pairs.into_iter().flatten().collect(), true));
    }
    match take(fields, ["caption", "text"]) {
        Some(Value::String(text)) => Ok((caption(text), true)),
        Some(other) => Err(format!("caption is {}, it must be a text", sort_of(&other))),
        None => Err("missing field `conversations` (or messages, texts, caption)".into()),
    }
}

/// As the published model learnt captions: the picture, and no question.
fn caption(text: String) -> Vec<Message> {
    vec![Message::user(""), Message::assistant(text)]
}

fn list(value: Value, what: &str) -> Result<Vec<Value>, String> {
    match value {
        Value::Array(values) => Ok(values),
        other => Err(format!("invalid type: {what} is {}, it must be a list", sort_of(&other))),
    }
}

fn turn(value: Value) -> Result<Message, String> {
    let Value::Object(mut fields) = value else {
        return Err(format!("invalid type: a turn is {}, it must be an object", sort_of(&value)));
    };
    let who = take(&mut fields, ["from", "role"]).ok_or("a turn without `from` or `role`")?;
    let role = Role::deserialize(who).map_err(|error| error.to_string())?;
    let text = match take(&mut fields, ["value", "content"]) {
        Some(Value::String(text)) => text,
        Some(Value::Array(parts)) => parts.into_iter().map(part).collect::<Result<String, _>>()?,
        Some(other) => return Err(format!("the text of a turn is {}", sort_of(&other))),
        None => return Err("a turn without `value` or `content`".into()),
    };
    Ok(Message { role, text })
}

/// A part of a turn: a text, or the place of a picture or video.
fn part(value: Value) -> Result<String, String> {
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    match text("type") {
        Some("text") => text("text").map(str::to_owned).ok_or_else(|| "a part without its text".into()),
        Some("image" | "image_url") => Ok(IMAGE_PLACEHOLDER.into()),
        Some("video" | "video_url") => Ok(VIDEO_PLACEHOLDER.into()),
        Some(other) => Err(format!("a part of the type {other:?}; text, image and video are known")),
        None => Err("a part of a turn without a type".into()),
    }
}

fn pair(value: Value) -> Result<[Message; 2], String> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    match (text("user"), text("assistant")) {
        (Some(user), Some(assistant)) => Ok([Message::user(user), Message::assistant(assistant)]),
        _ => Err("texts without `user` and `assistant`".into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Record {
        let mut record = Record::parse(value).unwrap();
        let pictures = record.pictures.len();
        record.place(pictures);
        record
    }

    #[test]
    fn the_spellings_that_are_about_say_the_same() {
        let turns = [Message::user("<image>\nwhat?"), Message::assistant("a cat")];
        for value in [
            json!({"image": "a.png", "conversations": [{"from": "human", "value": "<image>\nwhat?"}, {"from": "gpt", "value": "a cat"}]}),
            json!({"images": ["a.png"], "messages": [{"role": "user", "content": "<image>\nwhat?"}, {"role": "assistant", "content": "a cat"}]}),
            json!({"images": [{"path": "a.png", "bytes": null}], "conversations": null, "messages": [
                {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "\nwhat?"}]},
                {"role": "assistant", "content": [{"type": "text", "text": "a cat"}]}]}),
            json!({"images": ["a.png"], "texts": [{"user": "what?", "assistant": "a cat", "source": "x"}]}),
        ] {
            let record = read(value.clone());
            assert_eq!(
                (&record.messages[..], &record.pictures[..]),
                (&turns[..], &["a.png".to_owned()][..]),
                "{value}"
            );
        }
        let captioned = read(json!({"image": ["a.png", "b.png"], "caption": "two cats", "license": "CC0"}));
        assert_eq!(captioned.messages, [Message::user("<image><image>"), Message::assistant("two cats")]);
        assert_eq!(captioned.licence.as_deref(), Some("CC0"));
        assert_eq!(captioned.check(2), Ok(()));
    }

    #[test]
    fn a_video_has_its_place_in_a_question() {
        let asked = |text: &str| {
            read(
                json!({"video": "a.mp4", "conversations": [{"from": "human", "value": text}, {"from": "gpt", "value": "a <video> tag"}]}),
            )
        };
        assert_eq!(asked("<video>what?").check(0), Ok(()));
        let (kind, reason) = asked("what?").check(0).unwrap_err();
        assert!(
            kind == RejectKind::Conversation && reason.contains("0 <video> placeholders for 1"),
            "{reason}"
        );
    }

    #[test]
    fn placeholders_that_are_written_are_left_alone() {
        let written =
            read(json!({"image": "a.png", "texts": [{"user": "what is <image>?", "assistant": "x"}]}));
        assert_eq!(written.messages[0].text, "what is <image>?");
        let missing = read(
            json!({"image": "a.png", "messages": [{"role": "user", "content": "what?"}, {"role": "assistant", "content": "x"}]}),
        );
        assert_eq!(missing.messages[0].text, "what?", "turns have to say where a picture stands");
    }
}

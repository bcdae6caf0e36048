//! One record as it is written, in the spellings that are about.

use serde::Deserialize;
use serde_json::Value;

use crate::{
    chat::{Message, Role},
    sample::MAX_NAME_BYTES,
};

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct RawTurn {
    #[serde(alias = "role")]
    from: Role,
    #[serde(alias = "content")]
    value: String,
}

#[derive(Deserialize)]
struct RawRecord {
    #[serde(default, alias = "images")]
    image: Option<OneOrMany>,
    #[serde(alias = "messages")]
    conversations: Vec<RawTurn>,
    #[serde(default)]
    kind: Option<Value>,
}

/// A record that has the right layout; nothing else is known of it.
pub(super) struct Record {
    pub(super) messages: Vec<Message>,
    pub(super) pictures: Vec<String>,
    pub(super) kind: Option<String>,
}

/// The record's id as text; numbers are common.
pub(super) fn id_of(value: &Value) -> Option<String> {
    let id = match value.get("id")? {
        Value::String(text) => text.chars().take(200).collect(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    Some(id)
}

pub(super) fn parse(value: Value) -> Result<Record, String> {
    let raw: RawRecord = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let pictures = match raw.image {
        None => Vec::new(),
        Some(OneOrMany::One(name)) => vec![name],
        Some(OneOrMany::Many(names)) => names,
    };
    let messages = raw.conversations.into_iter().map(|t| Message { role: t.from, text: t.value }).collect();
    // A tag of another form is no reason to refuse a record.
    let kind = match raw.kind {
        Some(Value::String(kind)) if kind.len() <= MAX_NAME_BYTES => Some(kind),
        _ => None,
    };
    Ok(Record { messages, pictures, kind })
}

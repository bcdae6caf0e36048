//! Questions with the answers that are right, and the files that hold them.

mod file;
mod line;

use std::path::PathBuf;

use serde::Serialize;
use talkoot_dataset::{HeldOutQuestion, chat::Message};

pub use self::file::{FileError, MAX_LINE_BYTES, QuestionFile, ReadOptions, read};
use crate::metric::Metric;

/// A question, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// Where it stands in its file, from 1.
    pub line: usize,
    /// Its name; its line where it has none of its own.
    pub id: String,
    /// What is asked for, for a breakdown of the scores.
    pub kind: Option<String>,
    /// The turns up to the question, which is the last one; `<image>` where a picture stands.
    pub messages: Vec<Message>,
    /// Picture files, in the order of their places.
    pub pictures: Vec<PathBuf>,
    /// Right answers; at least one.
    pub answers: Vec<String>,
    /// What can be chosen from; empty where the answer is free.
    pub choices: Vec<String>,
    /// The right one of the choices.
    pub right: Option<usize>,
    /// Whether the question already lists its choices.
    pub listed: bool,
    /// How the answer is scored.
    pub metric: Metric,
    /// Whatever its author wanted to keep beside it.
    pub extra: Option<serde_json::Value>,
}

/// A question that cannot be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct BadLine {
    /// Where it stands in its file, from 1.
    pub line: usize,
    /// What is wrong with it, and what to do.
    pub reason: String,
}

impl Question {
    /// The last turn, without the places of pictures.
    pub fn asked(&self) -> String {
        let text = self.messages.last().map_or("", |message| message.text.as_str());
        text.replace(talkoot_dataset::chat::IMAGE_PLACEHOLDER, "").trim().to_owned()
    }

    /// A held-out question, number `number` from 1, with `metric` or, without one, [`Metric::Literal`].
    pub fn held_out(question: HeldOutQuestion, number: usize, metric: Option<Metric>) -> Self {
        Self {
            line: number,
            id: question.id,
            kind: question.kind.map(|kind| kind.name().to_owned()),
            messages: question.messages,
            pictures: question.pictures,
            answers: vec![question.answer],
            choices: Vec::new(),
            right: None,
            listed: false,
            metric: metric.unwrap_or(Metric::Literal),
            extra: None,
        }
    }
}

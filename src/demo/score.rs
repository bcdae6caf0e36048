//! Held-out questions: how many answers are right.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result};
use serde::Serialize;
use talkoot_dataset::{
    PreprocessOptions, Tokenizer,
    heldout::{self, HeldOutQuestion},
};
use talkoot_trainer::{
    config::ModelConfig,
    generate::{Generator, Prompt},
    state::State,
};

use crate::commands::chat::to_image;

/// Longest answer that is generated, in tokens.
const MAX_ANSWER_TOKENS: usize = 8;

/// Held-out questions, ready to be asked.
pub(super) struct Exam {
    questions: Vec<HeldOutQuestion>,
    prompts: Vec<Prompt>,
    tokenizer: Tokenizer,
}

/// How an exam went.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Score {
    /// Share of right answers.
    pub(super) accuracy: f64,
    /// Right answers and questions, by kind of question.
    pub(super) by_kind: BTreeMap<String, (usize, usize)>,
    /// One question, the right answer, and the answer given.
    pub(super) example: Option<Example>,
}

/// One question and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Example {
    pub(super) picture: String,
    pub(super) question: String,
    pub(super) right: String,
    pub(super) answer: String,
}

impl Exam {
    /// Reads the questions in `file` about pictures below `pictures`.
    pub(super) fn load(file: &Path, pictures: &Path, tokenizer: &[u8]) -> Result<Self> {
        let tokenizer = Tokenizer::from_bytes(tokenizer)?;
        let questions = heldout::load(file, pictures)?;
        let preprocess = PreprocessOptions::default();
        let prompts = questions
            .iter()
            .map(|question| {
                let encoded = question.encode(&tokenizer, &preprocess)?;
                let images = encoded.images.into_iter().map(to_image).collect();
                Ok(Prompt { tokens: encoded.prompt, images })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { questions, prompts, tokenizer })
    }

    /// Accuracy of giving the same answer always, the best one.
    pub(super) fn best_constant(&self) -> f64 {
        let mut counts = BTreeMap::<String, usize>::new();
        for question in &self.questions {
            *counts.entry(question.answer.to_lowercase()).or_default() += 1;
        }
        share(counts.values().copied().max().unwrap_or(0), self.questions.len())
    }

    /// Asks a model everything.
    pub(super) fn sit(&self, config: &ModelConfig, state: &State) -> Result<Score> {
        let special = self.tokenizer.special_ids();
        let ends = [special.im_end, special.endoftext];
        let answers = Generator::new(config, state).context("building the model")?.answer(
            &self.prompts,
            &ends,
            MAX_ANSWER_TOKENS,
        )?;
        let mut by_kind = BTreeMap::<String, (usize, usize)>::new();
        let mut right = 0;
        let mut example = None;
        for (question, tokens) in self.questions.iter().zip(&answers) {
            let answer = self.tokenizer.decode(tokens)?;
            let is_right = question.is_right(&answer);
            right += usize::from(is_right);
            let kind =
                question.kind.map_or_else(|| "other".to_owned(), |kind| format!("{kind:?}").to_lowercase());
            let entry = by_kind.entry(kind).or_default();
            entry.0 += usize::from(is_right);
            entry.1 += 1;
            if example.is_none() {
                let asked = question.messages.last().map_or("", |message| message.text.as_str());
                example = Some(Example {
                    picture: question
                        .pictures
                        .first()
                        .map_or_else(String::new, |path| path.display().to_string()),
                    question: asked.replace("<image>", "").trim().to_owned(),
                    right: question.answer.clone(),
                    answer: answer.trim().to_owned(),
                });
            }
        }
        Ok(Score { accuracy: share(right, self.questions.len()), by_kind, example })
    }
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

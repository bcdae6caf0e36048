//! Drawn held-out questions with answers of a word: how many a model in memory gets right.

use std::{collections::BTreeMap, path::Path};

use serde::Serialize;
use talkoot_dataset::{Tokenizer, tokenizer::TokenizerError};
use talkoot_trainer::{config::ModelConfig, generate::Sampling, state::State};

use crate::{
    Assistant, ChoiceMode, Evaluation, OpenError, Question, QuestionFile, SampleResult,
    question::{self, FileError, ReadOptions},
    run::{EvaluationError, Options},
};

/// Longest answer that is generated, in tokens.
const MAX_ANSWER_TOKENS: usize = 8;

/// Questions that are asked together.
const BATCH: usize = 128;

/// Why an exam cannot be held.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExamError {
    /// The questions cannot be read.
    #[error(transparent)]
    Questions(#[from] FileError),
    /// The tokenizer cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// Model and tokenizer do not fit.
    #[error(transparent)]
    Model(#[from] OpenError),
    /// The model could not answer.
    #[error(transparent)]
    Answer(#[from] EvaluationError),
}

/// Held-out questions, ready to be asked.
#[derive(Debug)]
pub struct Exam {
    questions: Vec<Question>,
    tokenizer: Vec<u8>,
}

/// How an exam went.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Score {
    /// Share of right answers.
    pub accuracy: f64,
    /// Right answers and questions, by kind of question.
    pub by_kind: BTreeMap<String, (usize, usize)>,
    /// One question, the right answer, and the answer given.
    pub example: Option<Example>,
}

/// One question and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Example {
    /// The picture's file.
    pub picture: String,
    /// What was asked.
    pub question: String,
    /// The right answer.
    pub right: String,
    /// The model's answer.
    pub answer: String,
}

impl Exam {
    /// Reads the questions in `file` about pictures below `pictures`.
    ///
    /// # Errors
    ///
    /// [`ExamError::Questions`] when there is no such file, or it holds no questions.
    pub fn load(file: &Path, pictures: &Path, tokenizer: &[u8]) -> Result<Self, ExamError> {
        let options = ReadOptions { pictures: Some(pictures.to_owned()), ..ReadOptions::default() };
        Ok(Self { questions: question::read(file, &options)?.questions, tokenizer: tokenizer.to_vec() })
    }

    /// Accuracy of giving the same answer always, the best one.
    pub fn best_constant(&self) -> f64 {
        let mut counts = BTreeMap::<String, usize>::new();
        for answer in self.questions.iter().flat_map(|question| &question.answers) {
            *counts.entry(answer.to_lowercase()).or_default() += 1;
        }
        share(counts.values().copied().max().unwrap_or(0), self.questions.len())
    }

    /// Asks a model everything.
    ///
    /// # Errors
    ///
    /// [`ExamError`] when the model does not fit the tokenizer or cannot answer.
    pub fn sit(&self, config: &ModelConfig, state: &State) -> Result<Score, ExamError> {
        let assistant = Assistant::new(config, state, Tokenizer::from_bytes(&self.tokenizer)?)?;
        let options = Options {
            sampling: Sampling::default(),
            max_new_tokens: MAX_ANSWER_TOKENS,
            batch: BATCH,
            choice: ChoiceMode::Words,
            skip_bad: false,
        };
        let file = QuestionFile { questions: self.questions.clone(), bad: Vec::new() };
        let mut evaluation = Evaluation::new(&assistant, file, options)?;
        let mut by_kind = BTreeMap::<String, (usize, usize)>::new();
        let (mut right, mut example) = (0, None);
        while let Some(results) = evaluation.next_batch()? {
            for result in results {
                let is_right = usize::from(result.score == Some(1.0));
                right += is_right;
                let entry =
                    by_kind.entry(result.kind.clone().unwrap_or_else(|| "other".to_owned())).or_default();
                entry.0 += is_right;
                entry.1 += 1;
                example.get_or_insert_with(|| self.example(result));
            }
        }
        Ok(Score { accuracy: share(right, self.questions.len()), by_kind, example })
    }

    fn example(&self, result: SampleResult) -> Example {
        let asked = self.questions.iter().find(|question| question.line == result.line);
        let picture = asked.and_then(|question| question.pictures.first());
        Example {
            picture: picture.map_or_else(String::new, |path| path.display().to_string()),
            question: result.question,
            right: result.answers.into_iter().next().unwrap_or_default(),
            answer: result.prediction.unwrap_or_default(),
        }
    }
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

//! Asking a model all questions, some at a time.

use rayon::prelude::*;
use serde::Serialize;
use talkoot_dataset::{chat::Message, tokenizer::TokenizerError};
use talkoot_trainer::generate::{GenerateError, Prompt, Sampling, Stop};

use crate::{
    assistant::Assistant,
    metric::{Metric, choice},
    question::{BadLine, Question, QuestionFile},
};

/// What is said below a list of choices.
pub const CHOOSE: &str = "Answer with the letter of the right choice only.";

/// How a choice is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChoiceMode {
    /// The model answers in words and [`choice::meant`] finds what it means.
    #[default]
    Words,
    /// The choice whose text the model finds likeliest: the fewest nats a token, its `<|im_end|>` included; of equals the
    /// first.
    Likelihood,
}

/// How questions are asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Longest answer in tokens.
    pub max_new_tokens: usize,
    /// Questions that are asked at a time: their pictures are in memory together.
    pub batch: usize,
    /// How a choice is found.
    pub choice: ChoiceMode,
    /// Whether questions that cannot be asked are left out and counted, rather than an error.
    pub skip_bad: bool,
}

/// A question and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SampleResult {
    /// Where the question stands in its file, from 1.
    pub line: usize,
    /// Its name.
    pub id: String,
    /// What is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// How the answer is scored.
    pub metric: Metric,
    /// The question's text.
    pub question: String,
    /// The right answers.
    pub answers: Vec<String>,
    /// What the model said; absent where nothing was generated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prediction: Option<String>,
    /// The choice that it means, by its letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub choice: Option<char>,
    /// From 0 to 1; absent for a loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// Negative log-likelihood of the right answers, in nats: a sum over [`Self::loss_tokens`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nats: Option<f64>,
    /// Nats a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Tokens of the right answers, each with its `<|im_end|>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_tokens: Option<usize>,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens that were generated.
    pub generated_tokens: usize,
    /// Whether the answer was cut at its longest length.
    pub truncated: bool,
    /// Whatever the question's author kept beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra: Option<serde_json::Value>,
}

/// Why an evaluation cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluationError {
    /// A question cannot be asked.
    #[error("{0}; mend it, or leave such questions out with --skip-bad")]
    Bad(BadLine),
    /// The model could not answer.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// The tokenizer refused.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

/// Questions that are being asked.
#[derive(Debug)]
pub struct Evaluation<'a> {
    assistant: &'a Assistant,
    options: Options,
    questions: std::vec::IntoIter<Question>,
    bad: Vec<BadLine>,
}

/// A question and its prompt.
type Asked = (Question, Prompt);

impl<'a> Evaluation<'a> {
    /// An evaluation of all questions in `file`.
    ///
    /// # Errors
    ///
    /// [`EvaluationError::Bad`] for the first bad line, unless such are skipped.
    pub fn new(
        assistant: &'a Assistant,
        file: QuestionFile,
        options: Options,
    ) -> Result<Self, EvaluationError> {
        match file.bad.first() {
            Some(bad) if !options.skip_bad => Err(EvaluationError::Bad(bad.clone())),
            _ => Ok(Self { assistant, options, questions: file.questions.into_iter(), bad: file.bad }),
        }
    }

    /// Questions that are still to be asked.
    pub fn left(&self) -> usize {
        self.questions.len()
    }

    /// Questions that could not be asked so far.
    pub fn bad(&self) -> &[BadLine] {
        &self.bad
    }

    /// Asks the next questions, as many as a batch has; nothing when all have been asked.
    ///
    /// # Errors
    ///
    /// [`EvaluationError`] when a question cannot be asked and such are not skipped, or the model cannot answer.
    pub fn next_batch(&mut self) -> Result<Option<Vec<SampleResult>>, EvaluationError> {
        let questions: Vec<Question> = self.questions.by_ref().take(self.options.batch.max(1)).collect();
        if questions.is_empty() {
            return Ok(None);
        }
        let prompts: Vec<Result<Prompt, String>> =
            questions.par_iter().map(|question| self.prompt(question)).collect();
        let mut asked = Vec::with_capacity(questions.len());
        for (question, prompt) in questions.into_iter().zip(prompts) {
            match prompt {
                Ok(prompt) => asked.push((question, prompt)),
                Err(reason) => self.skip(BadLine { line: question.line, reason })?,
            }
        }
        let (weighed, spoken): (Vec<Asked>, Vec<Asked>) =
            asked.into_iter().partition(|(question, _)| self.is_weighed(question));
        let mut results = self.speak(spoken)?;
        results.extend(self.weigh(weighed)?);
        results.sort_by_key(|result| result.line);
        Ok(Some(results))
    }

    fn skip(&mut self, bad: BadLine) -> Result<(), EvaluationError> {
        if !self.options.skip_bad {
            return Err(EvaluationError::Bad(bad));
        }
        self.bad.push(bad);
        Ok(())
    }

    /// Whether likelihoods answer the question, rather than words.
    fn is_weighed(&self, question: &Question) -> bool {
        match question.metric {
            Metric::CaptionLoss => true,
            Metric::Choice => self.options.choice == ChoiceMode::Likelihood,
            _ => false,
        }
    }

    /// The prompt of a question, checked against the model.
    fn prompt(&self, question: &Question) -> Result<Prompt, String> {
        let mut messages = question.messages.clone();
        if question.metric == Metric::Choice && !self.is_weighed(question) && !question.listed {
            list_choices(&mut messages, &question.choices);
        }
        let prompt = self.assistant.prompt(&messages, &question.pictures).map_err(|error| causes(&error))?;
        self.assistant.generator().check(&prompt).map_err(|error| causes(&error))?;
        Ok(prompt)
    }

    fn speak(&self, asked: Vec<Asked>) -> Result<Vec<SampleResult>, EvaluationError> {
        let generator = self.assistant.generator();
        let samplers = asked
            .iter()
            .map(|(question, _)| generator.sampler(self.options.sampling, question.line as u64))
            .collect::<Result<Vec<_>, _>>()
            .map_err(GenerateError::from)?;
        let (questions, prompts): (Vec<Question>, Vec<Prompt>) = asked.into_iter().unzip();
        let answers =
            generator.generate(&prompts, samplers, self.assistant.ends(), self.options.max_new_tokens)?;
        let mut results = Vec::with_capacity(questions.len());
        for ((question, prompt), answer) in questions.into_iter().zip(&prompts).zip(answers) {
            let text = self.assistant.tokenizer().decode(&answer.tokens)?.trim().to_owned();
            let meant = (question.metric == Metric::Choice)
                .then(|| choice::meant(&text, &question.choices))
                .flatten();
            let score = match question.metric {
                Metric::Choice => Some(f64::from(meant.is_some() && meant == question.right)),
                metric => metric.of_text(&text, &question.answers),
            };
            results.push(SampleResult {
                prediction: Some(text),
                choice: meant.map(choice::letter),
                score,
                generated_tokens: answer.tokens.len(),
                truncated: answer.stop == Stop::Length,
                ..unanswered(question, prompt)
            });
        }
        Ok(results)
    }

    fn weigh(&mut self, asked: Vec<Asked>) -> Result<Vec<SampleResult>, EvaluationError> {
        let limit = self.assistant.generator().config().text.max_position_embeddings;
        let (mut questions, mut prompts, mut texts) = (Vec::new(), Vec::new(), Vec::new());
        for (question, prompt) in asked {
            let answers =
                if question.metric == Metric::Choice { &question.choices } else { &question.answers };
            let tokens = answers
                .iter()
                .map(|answer| self.assistant.answer_tokens(answer))
                .collect::<Result<Vec<_>, _>>()?;
            let longest = prompt.tokens.len() + tokens.iter().map(Vec::len).max().unwrap_or(0);
            if longest > limit {
                let reason =
                    format!("question and answer have {longest} tokens, the model is meant for {limit}");
                self.skip(BadLine { line: question.line, reason })?;
                continue;
            }
            questions.push(question);
            prompts.push(prompt);
            texts.push(tokens);
        }
        let losses = self.assistant.generator().answer_losses(&prompts, &texts)?;
        let weighed = questions.into_iter().zip(&prompts).zip(losses);
        Ok(weighed.map(|((question, prompt), losses)| weighed_result(question, prompt, &losses)).collect())
    }
}

/// The result of a question whose answers have these losses.
fn weighed_result(question: Question, prompt: &Prompt, losses: &[Vec<f32>]) -> SampleResult {
    let sum = |losses: &[f32]| losses.iter().map(|&loss| f64::from(loss)).sum::<f64>();
    if question.metric == Metric::Choice {
        let mean = |losses: &Vec<f32>| sum(losses) / losses.len().max(1) as f64;
        let likeliest =
            losses.iter().map(mean).enumerate().min_by(|a, b| a.1.total_cmp(&b.1)).map(|(i, _)| i);
        let score = f64::from(likeliest == question.right);
        return SampleResult {
            choice: likeliest.map(choice::letter),
            score: Some(score),
            ..unanswered(question, prompt)
        };
    }
    let nats: f64 = losses.iter().map(|losses| sum(losses)).sum();
    let tokens: usize = losses.iter().map(Vec::len).sum();
    SampleResult {
        nats: Some(nats),
        loss: Some(nats / tokens.max(1) as f64),
        loss_tokens: Some(tokens),
        ..unanswered(question, prompt)
    }
}

fn unanswered(question: Question, prompt: &Prompt) -> SampleResult {
    SampleResult {
        line: question.line,
        question: question.asked(),
        id: question.id,
        kind: question.kind,
        metric: question.metric,
        answers: question.answers,
        prediction: None,
        choice: None,
        score: None,
        nats: None,
        loss: None,
        loss_tokens: None,
        prompt_tokens: prompt.tokens.len(),
        generated_tokens: 0,
        truncated: false,
        extra: question.extra,
    }
}

/// Puts the choices below the question, each behind its letter. They are plain text: a choice that spells out the place
/// of a picture makes the question one that cannot be asked.
fn list_choices(messages: &mut [Message], choices: &[String]) {
    let Some(last) = messages.last_mut() else { return };
    for (i, text) in choices.iter().enumerate() {
        last.text.push_str(&format!("\n{}. {text}", choice::letter(i)));
    }
    last.text.push('\n');
    last.text.push_str(CHOOSE);
}

/// An error and what it comes from, in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;

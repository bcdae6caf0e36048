//! Scores by metric and kind: a table for people, JSON for programs.

use std::collections::BTreeMap;

use serde::Serialize;
use talkoot_trainer::generate::Sampling;

use crate::{
    interval::{Interval, bootstrap, ratio, wilson},
    metric::Metric,
    question::BadLine,
    run::{ChoiceMode, SampleResult},
};

/// Results, gathered.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    groups: BTreeMap<(Metric, Option<String>), Group>,
    prompt_tokens: u64,
    generated_tokens: u64,
    questions: usize,
}

/// What matters of the results of one metric and kind.
#[derive(Debug, Clone, Default)]
struct Group {
    /// For each question its score over one, or its nats over its tokens.
    values: Vec<(f64, f64)>,
    truncated: usize,
    unreadable: usize,
}

/// The score of one metric over all its questions or over those of one kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The metric.
    pub metric: Metric,
    /// The kind; all questions of the metric where there is none.
    pub kind: Option<String>,
    /// How many questions.
    pub questions: usize,
    /// Mean score, from 0 to 1; for a loss the mean over questions of their nats a token.
    pub score: f64,
    /// Where the score of all such questions lies.
    pub interval: Interval,
    /// Nats over tokens of all questions together, for a loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pooled_loss: Option<f64>,
    /// Where that one lies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pooled_interval: Option<Interval>,
    /// Tokens that a loss is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_tokens: Option<u64>,
    /// Answers that were cut at their longest length.
    pub truncated: usize,
    /// Answers in words that mean none of the choices; they count as wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<usize>,
}

/// An evaluation, as it is written down.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The model's folder.
    pub model: String,
    /// BLAKE3 of its canonical weights.
    pub state: String,
    /// The file of questions.
    pub file: String,
    /// Questions that were asked.
    pub questions: usize,
    /// Questions that could not be.
    pub bad: Vec<BadLine>,
    /// How choices were found.
    pub choice: ChoiceMode,
    /// How tokens were chosen.
    pub sampling: Sampling,
    /// Longest answer in tokens.
    pub max_new_tokens: usize,
    /// Scores: each metric's over all its questions, then by kind.
    pub scores: Vec<Row>,
    /// Tokens of all prompts.
    pub prompt_tokens: u64,
    /// Tokens that were generated.
    pub generated_tokens: u64,
    /// How long it took, reading the model not counted.
    pub seconds: f64,
}

impl Tally {
    /// Adds results.
    pub fn add(&mut self, results: &[SampleResult]) {
        for result in results {
            self.questions += 1;
            self.prompt_tokens += result.prompt_tokens as u64;
            self.generated_tokens += result.generated_tokens as u64;
            self.group(result.metric, None).add(result);
            if result.kind.is_some() {
                self.group(result.metric, result.kind.clone()).add(result);
            }
        }
    }

    fn group(&mut self, metric: Metric, kind: Option<String>) -> &mut Group {
        self.groups.entry((metric, kind)).or_default()
    }

    /// Questions so far.
    pub fn questions(&self) -> usize {
        self.questions
    }

    /// Tokens of all prompts so far.
    pub fn prompt_tokens(&self) -> u64 {
        self.prompt_tokens
    }

    /// Tokens generated so far.
    pub fn generated_tokens(&self) -> u64 {
        self.generated_tokens
    }

    /// The scores: each metric's over all its questions, then by kind.
    pub fn rows(&self) -> Vec<Row> {
        self.groups.iter().map(|((metric, kind), group)| group.row(*metric, kind.clone())).collect()
    }
}

impl Group {
    fn add(&mut self, result: &SampleResult) {
        self.values.push(match (result.nats, result.loss_tokens) {
            (Some(nats), Some(tokens)) => (nats, tokens as f64),
            _ => (result.score.unwrap_or(0.0), 1.0),
        });
        self.truncated += usize::from(result.truncated);
        self.unreadable += usize::from(result.prediction.is_some() && result.choice.is_none());
    }

    fn row(&self, metric: Metric, kind: Option<String>) -> Row {
        let questions = self.values.len();
        let is_loss = metric == Metric::CaptionLoss;
        let means: Vec<(f64, f64)> = self.values.iter().map(|&(sum, count)| (sum / count, 1.0)).collect();
        let interval = if metric.is_binary() {
            let right = self.values.iter().filter(|&&(score, _)| score > 0.0).count();
            wilson(right, questions)
        } else {
            bootstrap(&means)
        };
        let loss = is_loss.then_some(&self.values);
        Row {
            metric,
            kind,
            questions,
            score: ratio(means),
            interval,
            pooled_loss: loss.map(|values| ratio(values.iter().copied())),
            pooled_interval: loss.map(|values| bootstrap(values)),
            loss_tokens: loss.map(|values| values.iter().map(|&(_, tokens)| tokens as u64).sum()),
            truncated: self.truncated,
            unreadable: (metric == Metric::Choice).then_some(self.unreadable),
        }
    }
}

impl Row {
    fn cells(&self) -> [String; 6] {
        let percent = |share: f64| format!("{:.1}", 100.0 * share);
        let nats = |loss: f64| format!("{loss:.3}");
        let is_loss = self.metric == Metric::CaptionLoss;
        let number: &dyn Fn(f64) -> String = if is_loss { &nats } else { &percent };
        let unit = if is_loss { "nats" } else { "%" };
        let mut notes = Vec::new();
        if let (Some(pooled), Some(tokens)) = (self.pooled_loss, self.loss_tokens) {
            notes.push(format!("pooled {pooled:.3} over {tokens} tokens"));
        }
        if self.truncated > 0 {
            notes.push(format!("{} cut", self.truncated));
        }
        if let Some(unreadable) = self.unreadable.filter(|&count| count > 0) {
            notes.push(format!("{unreadable} unreadable"));
        }
        [
            self.metric.name().to_owned(),
            self.kind.clone().unwrap_or_else(|| "all".to_owned()),
            self.questions.to_string(),
            format!("{} {unit}", number(self.score)),
            format!("{} - {}", number(self.interval.low), number(self.interval.high)),
            notes.join(", "),
        ]
    }
}

/// A table of scores for people.
pub fn table(rows: &[Row]) -> Vec<String> {
    let heads = ["metric", "kind", "questions", "score", "95 % interval", ""].map(str::to_owned);
    let cells: Vec<[String; 6]> = std::iter::once(heads).chain(rows.iter().map(Row::cells)).collect();
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..5).map(width).collect();
    let line = |[metric, kind, questions, score, interval, notes]: &[String; 6]| {
        let [m, k, q, s, i] = [widths[0], widths[1], widths[2], widths[3], widths[4]];
        format!("{metric:<m$}  {kind:<k$}  {questions:>q$}  {score:>s$}  {interval:>i$}  {notes}")
            .trim_end()
            .to_owned()
    };
    cells.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(metric: Metric, kind: Option<&str>, score: f64) -> SampleResult {
        SampleResult {
            line: 1,
            id: String::new(),
            kind: kind.map(str::to_owned),
            metric,
            question: String::new(),
            answers: Vec::new(),
            prediction: Some(String::new()),
            choice: None,
            score: Some(score),
            nats: None,
            loss: None,
            loss_tokens: None,
            prompt_tokens: 5,
            generated_tokens: 2,
            truncated: score == 0.0,
            extra: None,
        }
    }

    fn loss(nats: f64, tokens: usize) -> SampleResult {
        SampleResult {
            score: None,
            nats: Some(nats),
            loss: Some(nats / tokens as f64),
            loss_tokens: Some(tokens),
            ..result(Metric::CaptionLoss, None, 1.0)
        }
    }

    #[test]
    fn scores_are_means_by_metric_and_kind() {
        let mut tally = Tally::default();
        tally.add(&[result(Metric::Exact, Some("b"), 1.0), result(Metric::Exact, Some("a"), 0.0)]);
        tally.add(&[result(Metric::Exact, Some("b"), 0.0), result(Metric::Exact, None, 1.0)]);
        tally.add(&[result(Metric::Anls, Some("b"), 0.75), result(Metric::Choice, None, 0.0)]);
        let rows = tally.rows();
        let found: Vec<_> = rows
            .iter()
            .map(|row| (row.metric.name(), row.kind.as_deref(), row.questions, row.score))
            .collect();
        let expected = [
            ("exact", None, 4, 0.5),
            ("exact", Some("a"), 1, 0.0),
            ("exact", Some("b"), 2, 0.5),
            ("anls", None, 1, 0.75),
            ("anls", Some("b"), 1, 0.75),
            ("choice", None, 1, 0.0),
        ];
        assert_eq!(found, expected);
        assert_eq!(rows[0].interval, wilson(2, 4));
        assert_eq!((rows[0].truncated, rows[0].unreadable), (2, None));
        assert_eq!((rows[5].unreadable, rows[5].pooled_loss), (Some(1), None));
        assert_eq!((tally.questions(), tally.prompt_tokens(), tally.generated_tokens()), (6, 30, 12));
    }

    #[test]
    fn a_pooled_loss_weighs_tokens_and_a_mean_weighs_questions() {
        let mut tally = Tally::default();
        // 1 nat a token over 9 tokens, 3 nats a token over 1
        tally.add(&[loss(9.0, 9), loss(3.0, 1)]);
        let row = &tally.rows()[0];
        assert_eq!((row.score, row.pooled_loss, row.loss_tokens), (2.0, Some(1.2), Some(10)));
        assert_eq!((row.interval.low, row.interval.high), (1.0, 3.0));
        let lines = table(&tally.rows());
        assert!(
            lines[1].contains("2.000 nats") && lines[1].contains("pooled 1.200 over 10 tokens"),
            "{lines:?}"
        );
    }

    #[test]
    fn the_table_stands_in_columns() {
        let mut tally = Tally::default();
        tally.add(&[result(Metric::Exact, Some("a long kind"), 1.0), result(Metric::Choice, None, 0.0)]);
        let lines = table(&tally.rows());
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[0], "metric  kind         questions    score  95 % interval");
        assert_eq!(lines[1], "exact   all                  1  100.0 %   20.7 - 100.0");
        assert_eq!(lines[3], "choice  all                  1    0.0 %     0.0 - 79.3  1 cut, 1 unreadable");
    }
}

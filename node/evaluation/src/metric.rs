//! What makes an answer right, or how nearly.
//!
//! | metric | score | source |
//! |---|---|---|
//! | [`literal`] | 1 when the texts are the same, blanks at the ends and capitals aside | |
//! | [`exact`] | 1 when the normalised texts are the same | VQA, arXiv 1505.00468 |
//! | [`relaxed`] | 1 when numbers differ by at most 5 %, other texts not at all | `ChartQA`, arXiv 2203.10244 |
//! | [`anls`] | one minus the normalised edit distance, 0 from one half on | ST-VQA, arXiv 1905.13648 |
//! | [`choice`] | 1 when the right choice is meant, or is the likeliest | |
//! | caption loss | nats a token of the right answer | |
//!
//! Where several answers are right, the best score counts.

pub mod anls;
pub mod choice;
pub mod exact;
pub mod literal;
pub mod relaxed;

use serde::{Deserialize, Serialize};

/// How an answer is scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// The same text, blanks at the ends and capitals aside: [`literal`].
    Literal,
    /// The same text after VQA's normalisation: [`exact`].
    Exact,
    /// Numbers within 5 %, other texts the same: [`relaxed`].
    Relaxed,
    /// Average normalised Levenshtein similarity: [`anls`].
    Anls,
    /// The right one of several choices: [`choice`].
    Choice,
    /// Negative log-likelihood of the right answer, in nats a token; lower is better.
    CaptionLoss,
}

impl Metric {
    /// Every metric, in the order of reports.
    pub const ALL: [Self; 6] =
        [Self::Literal, Self::Exact, Self::Relaxed, Self::Anls, Self::Choice, Self::CaptionLoss];

    /// The metric as it is written in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Literal => "literal",
            Self::Exact => "exact",
            Self::Relaxed => "relaxed",
            Self::Anls => "anls",
            Self::Choice => "choice",
            Self::CaptionLoss => "caption-loss",
        }
    }

    /// Whether every score is 0 or 1.
    pub fn is_binary(self) -> bool {
        !matches!(self, Self::Anls | Self::CaptionLoss)
    }

    /// The score of an answer in words against the right answers, from 0 to 1; nothing for metrics that compare no texts.
    pub fn of_text(self, said: &str, answers: &[String]) -> Option<f64> {
        let score = |right: &String| match self {
            Self::Literal => Some(f64::from(literal::is_match(said, right))),
            Self::Exact => Some(f64::from(exact::is_match(said, right))),
            Self::Relaxed => Some(f64::from(relaxed::is_match(said, right))),
            Self::Anls => Some(anls::similarity(said, right)),
            Self::Choice | Self::CaptionLoss => None,
        };
        answers.iter().filter_map(score).reduce(f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_several_answers_counts() {
        let answers = ["seven".to_owned(), "about 7".to_owned()];
        assert_eq!(Metric::Exact.of_text("7", &answers), Some(1.0));
        assert_eq!(Metric::Exact.of_text("8", &answers), Some(0.0));
        assert_eq!(Metric::Literal.of_text("7", &answers), Some(0.0));
        assert_eq!(Metric::Choice.of_text("7", &answers), None);
        assert_eq!(Metric::Exact.of_text("7", &[]), None);
    }

    #[test]
    fn names_are_those_of_files() {
        for metric in Metric::ALL {
            assert_eq!(serde_json::to_value(metric).unwrap(), metric.name());
        }
    }
}

//! A model's answers: conversations, questions with right answers, and how many are right.
//!
//! ```text
//! model folder --Assistant--> Dialogue                        turns, pictures, text as it comes
//!                   |
//! questions.jsonl --+--Evaluation--> SampleResult, one a question --Tally--> Report: a table, JSON
//!     `--> BadLine, with number and reason
//! ```
//!
//! Everything here is a function of its inputs: no clock, no terminal. What is read from outside is bounded, and what is
//! wrong with it is said with its place.
//!
//! ```
//! use talkoot_evaluation::metric::{anls, exact, relaxed};
//!
//! assert!(exact::is_match("A red circle.", "red circle"));
//! assert!(relaxed::is_match("104", "100") && !relaxed::is_match("106", "100"));
//! assert!((anls::similarity("hat", "hut") - 2.0 / 3.0).abs() < 1e-12);
//! ```

pub mod assistant;
pub mod dialogue;
pub mod exam;
pub mod interval;
pub mod metric;
pub mod question;
pub mod report;
pub mod run;

pub use self::{
    assistant::{Assistant, OpenError},
    dialogue::{Dialogue, Reply},
    metric::Metric,
    question::{BadLine, Question, QuestionFile},
    report::{Report, Row, Tally},
    run::{ChoiceMode, Evaluation, SampleResult},
};

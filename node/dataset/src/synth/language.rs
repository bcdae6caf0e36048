//! What is said about a scene: captions, questions, answers.

use serde::{Deserialize, Serialize};

use super::scene::{COUNTS, Content, Scene, Thing, WORDS};

/// What a question asks for; accuracy is reported for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QuestionKind {
    /// The colour of something (8 answers).
    Colour,
    /// The shape of something (6 answers).
    Shape,
    /// How many shapes there are (5 answers).
    Count,
    /// Where something is (5 answers).
    Where,
    /// The printed digit (10 answers).
    Digit,
    /// The printed word (8 answers).
    Word,
}

impl QuestionKind {
    /// Every kind, in the order of reports.
    pub const ALL: [Self; 6] = [Self::Colour, Self::Shape, Self::Count, Self::Where, Self::Digit, Self::Word];

    /// The kind as it is written in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Colour => "colour",
            Self::Shape => "shape",
            Self::Count => "count",
            Self::Where => "where",
            Self::Digit => "digit",
            Self::Word => "word",
        }
    }
}

/// A question with its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) kind: QuestionKind,
    pub(super) question: String,
    pub(super) answer: String,
}

/// What the person says before a short caption.
pub(super) const ASK_BRIEFLY: &str = "Describe the picture briefly.";
/// What the person says before a full one.
pub(super) const ASK_FULLY: &str = "Describe the picture fully.";

fn one(thing: Thing) -> String {
    format!("one {} {}", thing.colour.word(), thing.shape.word())
}

fn ask(kind: QuestionKind, question: impl Into<String>, answer: impl Into<String>) -> Asked {
    Asked { kind, question: question.into(), answer: answer.into() }
}

impl Scene {
    /// A short caption: the main things.
    pub(super) fn brief(&self) -> String {
        match &self.content {
            Content::Group { thing, cells } => match cells.len() {
                0 | 1 => one(*thing),
                many => {
                    format!("{} {} {}", COUNTS[(many - 1).min(4)], thing.colour.word(), thing.shape.plural())
                }
            },
            Content::Pair { things: [(first, _), (second, _)], .. } => {
                format!("{} and {}", one(*first), one(*second))
            }
            Content::Digit { digit, colour, .. } => format!("digit {digit} in {}", colour.word()),
            Content::Word { word, colour, .. } => format!("word {} in {}", WORDS[*word], colour.word()),
        }
    }

    /// A full caption: everything that can be asked about. No two scenes of different parts of a data set share it.
    pub(super) fn full(&self) -> String {
        let things = match &self.content {
            Content::Group { .. } => self.brief(),
            Content::Pair { things: [(first, here), (second, there)], .. } => {
                format!("{} {} and {} {}", one(*first), here.phrase(), one(*second), there.phrase())
            }
            Content::Digit { below, .. } | Content::Word { below, .. } => {
                format!("{} above {}", self.brief(), one(*below))
            }
        };
        format!("{things} on {}", self.ground.word())
    }

    /// Three questions, the scene's own kind first, then a colour, then a shape. No question gives away the answer of
    /// another.
    pub(super) fn questions(&self) -> [Asked; 3] {
        use QuestionKind::{Colour, Count, Digit, Shape, Where, Word};
        match &self.content {
            Content::Group { thing, cells } => [
                ask(Count, "How many shapes are there?", COUNTS[(cells.len().max(1) - 1).min(4)]),
                ask(Colour, "What colour is shown?", thing.colour.word()),
                ask(Shape, "What shape is shown?", thing.shape.word()),
            ],
            Content::Pair { things, asked } => {
                let (first, place) = things[asked % 2];
                let (second, _) = things[1 - asked % 2];
                [
                    ask(Where, format!("Where is the {} shape?", first.colour.word()), place.word()),
                    ask(Colour, format!("What colour is the {}?", second.shape.word()), second.colour.word()),
                    ask(Shape, format!("What shape is {}?", first.colour.word()), first.shape.word()),
                ]
            }
            Content::Digit { digit, colour, below } => [
                ask(Digit, "Which digit is shown?", digit.to_string()),
                ask(Colour, "What colour is the digit?", colour.word()),
                ask(Shape, "What shape is below?", below.shape.word()),
            ],
            Content::Word { word, colour, below } => [
                ask(Word, "Which word is shown?", WORDS[*word]),
                ask(Colour, "What colour is the word?", colour.word()),
                ask(Shape, "What shape is below?", below.shape.word()),
            ],
        }
    }
}

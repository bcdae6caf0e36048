//! Conversations as the model reads them: `ChatML`, picture marks, and which tokens are learnt.
//!
//! ```text
//! <|im_start|>system\n … <|im_end|>\n<|im_start|>user\n … <|im_end|>\n<|im_start|>assistant\n   not learnt
//! answer<|im_end|>                                                                              learnt
//! \n<|im_start|>user\n … <|im_end|>\n<|im_start|>assistant\n                                    not learnt
//! answer<|im_end|>                                                                              learnt
//! ```
//!
//! Each segment is encoded by itself, so that an answer's tokens never merge with what stands before it and a prompt at
//! generation is encoded exactly as it was in training. Text that spells out a special token is refused: a caption must
//! not be able to close its own turn.

pub mod alternative;
pub mod template;

use serde::{Deserialize, Serialize};

use crate::tokenizer::{SPECIAL_TOKENS, Tokenizer, TokenizerError};

/// The system text when a conversation brings none.
pub const DEFAULT_SYSTEM: &str = "You are a helpful assistant.";

/// Where a picture stands in a text.
pub const IMAGE_PLACEHOLDER: &str = "<image>";

/// The label of a token that is not learnt.
pub const NOT_LEARNED: i64 = -100;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions for the whole conversation; first or not at all.
    System,
    /// The person; `human` in the LLaVA layout.
    #[serde(alias = "human")]
    User,
    /// The model; `gpt` in the LLaVA layout.
    #[serde(alias = "gpt")]
    Assistant,
}

/// One turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said; [`IMAGE_PLACEHOLDER`] where a picture stands.
    pub text: String,
}

impl Message {
    /// A turn of the person's.
    pub fn user(text: impl Into<String>) -> Self {
        Self { role: Role::User, text: text.into() }
    }

    /// A turn of the model's.
    pub fn assistant(text: impl Into<String>) -> Self {
        Self { role: Role::Assistant, text: text.into() }
    }
}

/// A stretch of text that is learnt, or isn't, as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The text, pictures as `<|vision_start|>`, pads, `<|vision_end|>`.
    pub text: String,
    /// Whether its tokens are learnt.
    pub learn: bool,
}

/// Token ids with their labels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// For each token its own id where it is learnt, else [`NOT_LEARNED`]. Not shifted: whoever computes the loss lets
    /// position `i` predict label `i + 1`.
    pub labels: Vec<i64>,
}

/// Why a conversation cannot be written out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChatError {
    /// There is no turn to learn from, or none to answer.
    #[error("the conversation has no turns of user and assistant")]
    Empty,
    /// A turn is not the one that must come here.
    #[error(
        "turn {turn} is {got:?} where {expected:?} must speak; user and assistant alternate, a system text comes first"
    )]
    OutOfTurn {
        /// Number of the turn, from 0.
        turn: usize,
        /// Who must speak.
        expected: Role,
        /// Who does.
        got: Role,
    },
    /// A training conversation ends with a question, or a prompt with an answer.
    #[error("the conversation ends with {got:?}, it must end with {expected:?}")]
    WrongEnd {
        /// Who must speak last.
        expected: Role,
        /// Who does.
        got: Role,
    },
    /// An answer has no text.
    #[error("turn {turn} is an empty answer; remove the record or write one")]
    EmptyAnswer {
        /// Number of the turn, from 0.
        turn: usize,
    },
    /// Text and pictures do not fit.
    #[error(
        "the text has {placeholders} {IMAGE_PLACEHOLDER} placeholders for {pictures} pictures; there must be one each"
    )]
    Placeholders {
        /// Placeholders in the user's turns.
        placeholders: usize,
        /// Pictures.
        pictures: usize,
    },
    /// A picture's place stands in an answer or a system text.
    #[error("turn {turn} of {role:?} holds {IMAGE_PLACEHOLDER}; pictures belong to the user's turns")]
    MisplacedPicture {
        /// Number of the turn, from 0.
        turn: usize,
        /// Who speaks.
        role: Role,
    },
    /// A text spells out a special token.
    #[error("turn {turn} spells out the special token {token}; take it out of the text")]
    SpecialInText {
        /// Number of the turn, from 0.
        turn: usize,
        /// The token.
        token: &'static str,
    },
    /// The tokenizer refused.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

/// A piece of a segment, before it is text or ids.
#[derive(Debug, Clone, Copy)]
enum Piece<'a> {
    Text(&'a str),
    ImStart,
    ImEnd,
    Picture { tokens: usize },
}

#[derive(Debug, Default)]
struct Pieces<'a> {
    pieces: Vec<Piece<'a>>,
    learn: bool,
}

/// Checks the turns without looking at pictures' sizes.
///
/// # Errors
///
/// [`ChatError`] for turns out of order, an empty answer, misplaced or miscounted placeholders, special tokens in text.
pub fn check(messages: &[Message], pictures: usize) -> Result<(), ChatError> {
    check_turns(messages, pictures, Role::Assistant)
}

fn check_turns(messages: &[Message], pictures: usize, last: Role) -> Result<(), ChatError> {
    let mut expected = Role::User;
    let mut placeholders = 0;
    for (turn, message) in messages.iter().enumerate() {
        if let Some(token) = SPECIAL_TOKENS.into_iter().find(|token| message.text.contains(token)) {
            return Err(ChatError::SpecialInText { turn, token });
        }
        let here = message.text.matches(IMAGE_PLACEHOLDER).count();
        if message.role != Role::User && here > 0 {
            return Err(ChatError::MisplacedPicture { turn, role: message.role });
        }
        placeholders += here;
        if message.role == Role::System && turn == 0 {
            continue;
        }
        if message.role != expected {
            return Err(ChatError::OutOfTurn { turn, expected, got: message.role });
        }
        if message.role == Role::Assistant && message.text.trim().is_empty() {
            return Err(ChatError::EmptyAnswer { turn });
        }
        expected = if expected == Role::User { Role::Assistant } else { Role::User };
    }
    match messages.last().map(|message| message.role) {
        None | Some(Role::System) => return Err(ChatError::Empty),
        Some(got) if got != last => return Err(ChatError::WrongEnd { expected: last, got }),
        Some(_) => {}
    }
    if placeholders != pictures {
        return Err(ChatError::Placeholders { placeholders, pictures });
    }
    Ok(())
}

/// The conversation as alternating prompts and answers; the turns have been checked.
fn lay_out<'a>(messages: &'a [Message], picture_tokens: &[usize]) -> Vec<Pieces<'a>> {
    use Piece::{ImEnd, ImStart, Text};
    let mut sizes = picture_tokens.iter().copied();
    let (system, turns) = match messages {
        [first, rest @ ..] if first.role == Role::System => (first.text.as_str(), rest),
        _ => (DEFAULT_SYSTEM, messages),
    };
    let mut segments = Vec::new();
    let mut prompt = vec![ImStart, Text("system\n"), Text(system), ImEnd, Text("\n")];
    for message in turns {
        if message.role == Role::Assistant {
            segments.push(Pieces { pieces: vec![Text(&message.text), ImEnd], learn: true });
            prompt = vec![Text("\n")];
            continue;
        }
        ask(&message.text, &mut sizes, &mut prompt);
        segments.push(Pieces { pieces: std::mem::take(&mut prompt), learn: false });
    }
    segments
}

/// A turn of the person's, up to where the model answers.
fn ask<'a>(text: &'a str, sizes: &mut impl Iterator<Item = usize>, out: &mut Vec<Piece<'a>>) {
    use Piece::{ImEnd, ImStart, Text};
    out.extend([ImStart, Text("user\n")]);
    for (at, text) in text.split(IMAGE_PLACEHOLDER).enumerate() {
        if at > 0 {
            out.push(Piece::Picture { tokens: sizes.next().unwrap_or(0) });
        }
        out.push(Text(text));
    }
    out.extend([ImEnd, Text("\n"), ImStart, Text("assistant\n")]);
}

impl Pieces<'_> {
    fn text(&self) -> String {
        let [_, im_start, im_end, vision_start, vision_end, image_pad, _] = SPECIAL_TOKENS;
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(plain) => text.push_str(plain),
                Piece::ImStart => text.push_str(im_start),
                Piece::ImEnd => text.push_str(im_end),
                Piece::Picture { tokens } => {
                    text.push_str(vision_start);
                    text.push_str(&image_pad.repeat(*tokens));
                    text.push_str(vision_end);
                }
            }
        }
        text
    }

    /// Neighbouring texts are encoded together, as they would be in the segment's whole text.
    fn encode(&self, tokenizer: &Tokenizer, out: &mut Encoded) -> Result<(), ChatError> {
        let ids = tokenizer.special_ids();
        let start = out.tokens.len();
        let mut pending = String::new();
        for piece in &self.pieces {
            if let Piece::Text(plain) = piece {
                pending.push_str(plain);
                continue;
            }
            out.tokens.extend(tokenizer.encode(&pending)?);
            pending.clear();
            match piece {
                Piece::Text(_) => {}
                Piece::ImStart => out.tokens.push(ids.im_start),
                Piece::ImEnd => out.tokens.push(ids.im_end),
                Piece::Picture { tokens } => {
                    out.tokens.push(ids.vision_start);
                    out.tokens.extend(std::iter::repeat_n(ids.image_pad, *tokens));
                    out.tokens.push(ids.vision_end);
                }
            }
        }
        out.tokens.extend(tokenizer.encode(&pending)?);
        let label = |&id: &u32| if self.learn { i64::from(id) } else { NOT_LEARNED };
        out.labels.extend(out.tokens[start..].iter().map(label));
        Ok(())
    }
}

fn encode(
    messages: &[Message],
    picture_tokens: &[usize],
    tokenizer: &Tokenizer,
) -> Result<Encoded, ChatError> {
    let mut out = Encoded::default();
    for segment in lay_out(messages, picture_tokens) {
        segment.encode(tokenizer, &mut out)?;
    }
    Ok(out)
}

/// The segments of a conversation for training, as text; `picture_tokens` holds the language tokens of each picture.
///
/// # Errors
///
/// [`ChatError`] as [`check`].
pub fn training_segments(messages: &[Message], picture_tokens: &[usize]) -> Result<Vec<Segment>, ChatError> {
    check(messages, picture_tokens.len())?;
    Ok(lay_out(messages, picture_tokens)
        .iter()
        .map(|segment| Segment { text: segment.text(), learn: segment.learn })
        .collect())
}

/// Tokens and labels of a conversation for training.
///
/// # Errors
///
/// [`ChatError`] as [`check`], or when the tokenizer refuses.
pub fn encode_for_training(
    messages: &[Message],
    picture_tokens: &[usize],
    tokenizer: &Tokenizer,
) -> Result<Encoded, ChatError> {
    check(messages, picture_tokens.len())?;
    encode(messages, picture_tokens, tokenizer)
}

/// The text after which the model answers the last turn, which must be the user's.
///
/// # Errors
///
/// [`ChatError`] as [`check`], with the last turn the user's.
pub fn prompt_for_generation(messages: &[Message], picture_tokens: &[usize]) -> Result<String, ChatError> {
    check_turns(messages, picture_tokens.len(), Role::User)?;
    Ok(lay_out(messages, picture_tokens).iter().map(Pieces::text).collect())
}

/// The tokens after which the model answers the last turn: the same ids that training puts before an answer.
///
/// # Errors
///
/// [`ChatError`] as [`prompt_for_generation`], or when the tokenizer refuses.
pub fn encode_prompt(
    messages: &[Message],
    picture_tokens: &[usize],
    tokenizer: &Tokenizer,
) -> Result<Vec<u32>, ChatError> {
    check_turns(messages, picture_tokens.len(), Role::User)?;
    Ok(encode(messages, picture_tokens, tokenizer)?.tokens)
}

/// The tokens that go on behind an answer's `<|im_end|>`: the person's next turn, up to where the model answers it.
/// [`encode_prompt`] of the whole conversation ends with the same ids.
///
/// # Errors
///
/// [`ChatError`] when pictures and placeholders don't fit, the text spells out a special token, or the tokenizer
/// refuses.
pub fn encode_next_turn(
    text: &str,
    picture_tokens: &[usize],
    tokenizer: &Tokenizer,
) -> Result<Vec<u32>, ChatError> {
    check_turns(&[Message::user(text)], picture_tokens.len(), Role::User)?;
    let mut turn = Pieces { pieces: vec![Piece::Text("\n")], learn: false };
    ask(text, &mut picture_tokens.iter().copied(), &mut turn.pieces);
    let mut out = Encoded::default();
    turn.encode(tokenizer, &mut out)?;
    Ok(out.tokens)
}

#[cfg(test)]
mod tests;

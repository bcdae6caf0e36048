//! Questions about pictures that were never learnt from, and whether an answer is right.

use std::path::{Path, PathBuf};

use crate::{
    chat::{self, ChatError, Message, Role},
    ingest::{self, IngestError, Reject},
    preprocess::{PictureError, PreprocessOptions, Rgb},
    synth::QuestionKind,
    tokenizer::{Tokenizer, TokenizerError},
};

/// A question with the answer that is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldOutQuestion {
    /// The record's id.
    pub id: String,
    /// What is asked for, where the record says so.
    pub kind: Option<QuestionKind>,
    /// The turns up to the question, placeholders included.
    pub messages: Vec<Message>,
    /// Picture files, in the order of their placeholders.
    pub pictures: Vec<PathBuf>,
    /// The right answer.
    pub answer: String,
}

/// A question ready for the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedQuestion {
    /// Tokens up to the point where the model answers.
    pub prompt: Vec<u32>,
    /// Tokens of the right answer and its `<|im_end|>`.
    pub answer: Vec<u32>,
    /// Pictures, resized.
    pub images: Vec<Rgb>,
}

/// Why questions cannot be read or made ready.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeldOutError {
    /// The file cannot be read.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// A record is bad; a test set with holes measures something else.
    #[error("held-out record {} is unusable: {}; {}", .0.origin.record, .0.reason, .0.remedy)]
    Rejected(Box<Reject>),
    /// A picture cannot be used.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// The turns cannot be written out.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// The tokenizer refused.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

/// Reads the questions of `file` (LLaVA layout, the last turn is the right answer); pictures are under `pictures`.
///
/// # Errors
///
/// [`HeldOutError`] when the file or any record of it is unusable.
pub fn load(file: &Path, pictures: &Path) -> Result<Vec<HeldOutQuestion>, HeldOutError> {
    let ingested = ingest::ingest(&[file.to_path_buf()], pictures)?;
    if let Some(reject) = ingested.rejects.into_iter().next() {
        return Err(HeldOutError::Rejected(Box::new(reject)));
    }
    let roots = ingested.roots;
    let question = |mut sample: ingest::Sample| {
        let answer = sample.messages.pop().filter(|last| last.role == Role::Assistant)?;
        let pictures = sample.pictures.iter().map(|p| roots.file(&p.root, &p.path).ok());
        Some(HeldOutQuestion {
            id: sample.origin.id.unwrap_or_else(|| sample.origin.record.to_string()),
            // A tag of somebody else's means nothing here.
            kind: sample.kind.and_then(|kind| serde_json::from_value(kind.into()).ok()),
            messages: sample.messages,
            pictures: pictures.collect::<Option<_>>()?,
            answer: answer.text,
        })
    };
    // Ingest has checked that every record ends with an answer and that its pictures are there.
    Ok(ingested.samples.into_iter().filter_map(question).collect())
}

impl HeldOutQuestion {
    /// The tokens and pictures to ask the model with.
    ///
    /// # Errors
    ///
    /// [`HeldOutError`] when a picture cannot be used or the tokenizer refuses.
    pub fn encode(
        &self,
        tokenizer: &Tokenizer,
        preprocess: &PreprocessOptions,
    ) -> Result<EncodedQuestion, HeldOutError> {
        let images = self.pictures.iter().map(|file| preprocess.load(file)).collect::<Result<Vec<_>, _>>()?;
        let sizes: Vec<usize> = images.iter().map(Rgb::llm_tokens).collect();
        let prompt = chat::encode_prompt(&self.messages, &sizes, tokenizer)?;
        let mut answer = tokenizer.encode(&self.answer)?;
        answer.push(tokenizer.special_ids().im_end);
        Ok(EncodedQuestion { prompt, answer, images })
    }

    /// Whether `answer` is right: the same text, blanks at the ends and capitals aside.
    pub fn is_right(&self, answer: &str) -> bool {
        answer.trim().to_lowercase() == self.answer.trim().to_lowercase()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{chat::encode_for_training, synth::SynthOptions, tokenizer::build_demo_tokenizer};

    #[test]
    fn a_question_is_asked_with_the_tokens_of_training() {
        let dir = tempfile::tempdir().unwrap();
        let options = SynthOptions { train_pictures: 5, heldout_pictures: 5, ..SynthOptions::default() };
        let drawn = options.write(dir.path()).unwrap();
        let tokenizer = Tokenizer::from_bytes(&build_demo_tokenizer(&drawn.texts, 400).unwrap()).unwrap();
        let questions = load(&drawn.heldout, &drawn.folder).unwrap();
        assert_eq!(questions.len(), drawn.heldout_questions);
        for question in questions {
            let encoded = question.encode(&tokenizer, &PreprocessOptions::default()).unwrap();
            let mut whole = question.messages.clone();
            whole.push(Message::assistant(question.answer.clone()));
            let sizes: Vec<usize> = encoded.images.iter().map(Rgb::llm_tokens).collect();
            let trained = encode_for_training(&whole, &sizes, &tokenizer).unwrap();
            assert_eq!(trained.tokens, [encoded.prompt, encoded.answer.clone()].concat());
            let said = tokenizer.decode(&encoded.answer).unwrap();
            assert!(question.is_right(&said) && question.is_right(&format!(" {} \n", said.to_uppercase())));
            assert!(!question.is_right("something else"));
        }
    }

    #[test]
    fn a_test_set_with_a_bad_record_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("heldout.json");
        std::fs::write(&file, r#"[{"conversations":[{"from":"human","value":"x"}]}]"#).unwrap();
        let error = load(&file, dir.path()).unwrap_err();
        assert!(matches!(error, HeldOutError::Rejected(_)), "{error}");
        assert!(error.to_string().contains("record 0"), "{error}");
    }
}

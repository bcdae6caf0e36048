//! A model that can be spoken to: weights, tokenizer, sizes of pictures, and how its makers meant it to speak.

mod pictures;

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use talkoot_dataset::{
    PreprocessOptions, Rgb, Tokenizer,
    chat::{self, ChatError, Message},
    preprocess::PictureError,
    tokenizer::{MAX_TOKENIZER_BYTES, TokenizerError},
};
use talkoot_protocol::digest::Digest;
use talkoot_trainer::{
    batch::Image,
    config::ModelConfig,
    cpu::Cpu,
    generate::{GenerationConfig, GenerationConfigError, Generator, Prompt, Sampling},
    huggingface::{self, FolderError},
    model::ModelError,
    state::State,
};

pub use self::pictures::{PREPROCESSOR_CONFIG_FILE, PreprocessorConfigError};

/// Name of the tokenizer in a model's folder.
pub const TOKENIZER_FILE: &str = "tokenizer.json";

/// A model ready to answer.
#[derive(Debug)]
pub struct Assistant {
    generator: Generator<'static, Cpu>,
    tokenizer: Tokenizer,
    preprocess: PreprocessOptions,
    sampling: Sampling,
    max_new_tokens: Option<usize>,
    ends: Vec<u32>,
    state: Digest,
}

/// Why a folder cannot be spoken to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Config or weights are missing or wrong.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// There is no tokenizer.
    #[error(
        "{} has no {TOKENIZER_FILE}: put the one that the model was trained with there (a run's export has it; for a \
         published model it lies beside the weights)",
        folder.display()
    )]
    NoTokenizer {
        /// The model's folder.
        folder: PathBuf,
    },
    /// The tokenizer cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The tokenizer is another model's.
    #[error(
        "the config gives picture tokens the id {config}, the tokenizer {tokenizer}: is this the model's {TOKENIZER_FILE}?"
    )]
    ForeignTokenizer {
        /// `image_token_id` of the config.
        config: u32,
        /// Id of `<|image_pad|>`.
        tokenizer: u32,
    },
    /// The limits of pictures cannot be followed.
    #[error(transparent)]
    Pictures(#[from] PreprocessorConfigError),
    /// The settings of generation cannot be followed.
    #[error(transparent)]
    Generation(#[from] GenerationConfigError),
    /// The weights cannot be put to work.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Why something cannot be said to the model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PromptError {
    /// A picture cannot be used.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// The turns cannot be written out.
    #[error(transparent)]
    Chat(#[from] ChatError),
}

impl Assistant {
    /// Reads a Hugging Face folder: `config.json`, weights and `tokenizer.json`; `preprocessor_config.json` and
    /// `generation_config.json` where they are.
    ///
    /// # Errors
    ///
    /// [`OpenError`] names the file that is missing or wrong.
    pub fn open(folder: &Path) -> Result<Self, OpenError> {
        // what is read fast is checked first
        let tokenizer = Tokenizer::from_bytes(&tokenizer_bytes(folder)?)?;
        let preprocess = pictures::read(folder)?;
        let generation = GenerationConfig::read(folder)?;
        let (config, state) = huggingface::read_folder(folder)?;
        let mut assistant = Self::new(&config, &state, tokenizer)?;
        assistant.preprocess = preprocess.unwrap_or_default();
        if let Some(generation) = generation {
            assistant.sampling = generation.sampling;
            assistant.max_new_tokens = generation.max_new_tokens;
            assistant.ends.extend(generation.ends);
            assistant.ends.sort_unstable();
            assistant.ends.dedup();
        }
        Ok(assistant)
    }

    /// A model in memory, greedy, with pictures as LLaVA-OneVision-1.5 has them.
    ///
    /// # Errors
    ///
    /// [`OpenError`] when the tokenizer is another model's or the weights don't fit the config.
    pub fn new(config: &ModelConfig, state: &State, tokenizer: Tokenizer) -> Result<Self, OpenError> {
        let special = tokenizer.special_ids();
        if config.image_token_id != special.image_pad {
            return Err(OpenError::ForeignTokenizer {
                config: config.image_token_id,
                tokenizer: special.image_pad,
            });
        }
        Ok(Self {
            generator: Generator::new(processor(), config, state)?,
            tokenizer,
            preprocess: PreprocessOptions::default(),
            sampling: Sampling::default(),
            max_new_tokens: None,
            ends: vec![special.im_end, special.endoftext],
            state: state.digest(),
        })
    }

    /// The weights at work.
    pub fn generator(&self) -> &Generator<'static, Cpu> {
        &self.generator
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// How its makers meant tokens to be chosen; greedy where they don't say.
    pub fn sampling(&self) -> Sampling {
        self.sampling
    }

    /// Longest answer that its makers meant, in tokens.
    pub fn max_new_tokens(&self) -> Option<usize> {
        self.max_new_tokens
    }

    /// Tokens that end an answer: `<|im_end|>`, `<|endoftext|>`, and those of `generation_config.json`.
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// BLAKE3 of the canonical weights: which model this is.
    pub fn state(&self) -> Digest {
        self.state
    }

    /// Reads, decodes and resizes a picture.
    ///
    /// # Errors
    ///
    /// [`PictureError`] naming the file and what is wrong with it.
    pub fn picture(&self, file: &Path) -> Result<Rgb, PictureError> {
        self.preprocess.load(file)
    }

    /// The prompt after which the model answers the last of `messages`.
    ///
    /// # Errors
    ///
    /// [`PromptError`] when a picture or the turns cannot be used.
    pub fn prompt(&self, messages: &[Message], pictures: &[PathBuf]) -> Result<Prompt, PromptError> {
        let pictures = pictures.iter().map(|file| self.picture(file)).collect::<Result<Vec<_>, _>>()?;
        let sizes: Vec<usize> = pictures.iter().map(Rgb::llm_tokens).collect();
        let tokens = chat::encode_prompt(messages, &sizes, &self.tokenizer)?;
        Ok(Prompt { tokens, images: pictures.into_iter().map(image).collect() })
    }

    /// The tokens of an answer and its `<|im_end|>`, as they are learnt.
    ///
    /// # Errors
    ///
    /// [`TokenizerError`] when the tokenizer refuses.
    pub fn answer_tokens(&self, answer: &str) -> Result<Vec<u32>, TokenizerError> {
        let mut tokens = self.tokenizer.encode(answer)?;
        tokens.push(self.tokenizer.special_ids().im_end);
        Ok(tokens)
    }
}

/// The processor, with memory that all models of this process use again.
fn processor() -> &'static Cpu {
    static PROCESSOR: OnceLock<Cpu> = OnceLock::new();
    PROCESSOR.get_or_init(Cpu::default)
}

/// A preprocessed picture as the model takes it.
pub(crate) fn image(picture: Rgb) -> Image {
    Image { width: picture.width, height: picture.height, rgb: picture.rgb }
}

fn tokenizer_bytes(folder: &Path) -> Result<Vec<u8>, OpenError> {
    let path = folder.join(TOKENIZER_FILE);
    match read_bounded(&path, MAX_TOKENIZER_BYTES as u64) {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound && folder.is_dir() => {
            Err(OpenError::NoTokenizer { folder: folder.to_owned() })
        }
        Err(source) => Err(FolderError::Io { path, source }.into()),
    }
}

/// Reads a file up to one byte more than `limit`, so that whoever reads on can see that it is too long.
fn read_bounded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
pub(crate) mod tests;

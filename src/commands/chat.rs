//! `talkoot chat`

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Args;
use talkoot_dataset::{
    PreprocessOptions, Rgb, Tokenizer,
    chat::{self, Message},
};
use talkoot_trainer::{
    batch::Image,
    generate::{Generator, Prompt},
    huggingface,
};

use super::{read_file, say};

/// Asks a model about a picture.
#[derive(Debug, Args)]
pub(crate) struct Chat {
    /// Folder with config.json, model.safetensors and tokenizer.json.
    #[arg(long)]
    model: PathBuf,
    /// A picture; several are shown in the order given.
    #[arg(long)]
    image: Vec<PathBuf>,
    /// What is asked. Without `<image>` in it the pictures come first.
    #[arg(long)]
    question: String,
    /// Longest answer in tokens.
    #[arg(long, default_value_t = 64)]
    max_tokens: usize,
}

impl Chat {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let asked = self.question.matches("<image>").count();
        ensure!(
            asked == 0 || asked == self.image.len(),
            "the question speaks of {asked} pictures with <image>, but {} are given with --image",
            self.image.len()
        );
        let (config, state) = huggingface::read_folder(&self.model)?;
        let tokenizer = Tokenizer::from_bytes(&read_file(&self.model.join("tokenizer.json"))?)?;
        let preprocess = PreprocessOptions::default();
        let pictures =
            self.image.iter().map(|file| preprocess.load(file)).collect::<Result<Vec<Rgb>, _>>()?;
        let question = if asked == 0 {
            format!("{}{}", "<image>\n".repeat(pictures.len()), self.question)
        } else {
            self.question
        };
        let sizes: Vec<usize> = pictures.iter().map(Rgb::llm_tokens).collect();
        let tokens = chat::encode_prompt(&[Message::user(question)], &sizes, &tokenizer)?;
        let images = pictures.into_iter().map(to_image).collect();
        let special = tokenizer.special_ids();
        let answers = Generator::new(&config, &state).context("building the model")?.answer(
            &[Prompt { tokens, images }],
            &[special.im_end, special.endoftext],
            self.max_tokens,
        )?;
        say(tokenizer.decode(answers.first().map_or(&[][..], Vec::as_slice))?.trim());
        Ok(ExitCode::SUCCESS)
    }
}

/// A preprocessed picture as the model takes it.
pub(crate) fn to_image(picture: Rgb) -> Image {
    Image { width: picture.width, height: picture.height, rgb: picture.rgb }
}

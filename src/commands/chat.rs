//! `talkoot chat`

mod terminal;
mod voice;

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use talkoot_dataset::Rgb;
use talkoot_evaluation::{Assistant, Dialogue, Reply, dialogue::Manner};
use talkoot_trainer::generate::Stop;

use self::voice::Voice;
use super::{choosing::Choosing, say};

/// Longest answer in tokens where nobody says it.
const USUAL_TOKENS: usize = 256;

/// Talks with a model, also about pictures.
///
/// With --question one answer is given. Without it, every line of the standard input is a turn; `/help` tells what else
/// can be typed. How tokens are chosen follows the folder's `generation_config.json`, or else is greedy; each setting can
/// be overridden.
#[derive(Debug, Args)]
pub(crate) struct Chat {
    /// Folder with config.json, weights and tokenizer.json.
    #[arg(long)]
    model: PathBuf,
    /// A picture; several are shown in the order given, with the first question.
    #[arg(long, value_name = "FILE")]
    image: Vec<PathBuf>,
    /// What is asked. Without `<image>` in it the pictures come first.
    #[arg(long)]
    question: Option<String>,
    /// What the model is told before the first turn.
    #[arg(long)]
    system: Option<String>,
    /// Longest answer in tokens; else that of `generation_config.json`, else 256.
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// Print each answer as a line of JSON, with counts and rate.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    choosing: Choosing,
}

/// An answer, for programs.
#[derive(Debug, Serialize)]
struct JsonReply<'a> {
    answer: &'a str,
    /// Why it ended: `end` or `length`.
    stop: &'static str,
    /// Tokens that were read for this turn.
    prompt_tokens: usize,
    answer_tokens: usize,
    /// Tokens of the whole conversation.
    context_tokens: usize,
    /// Seconds until the first token; none when there was none.
    first_token_s: Option<f64>,
    seconds: f64,
    /// Tokens of the answer over all seconds.
    tokens_per_s: f64,
}

impl Chat {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let assistant = Assistant::open(&self.model)?;
        let sampling = self.choosing.over(assistant.sampling());
        sampling.validate()?;
        let max_new_tokens = self.max_tokens.or(assistant.max_new_tokens()).unwrap_or(USUAL_TOKENS);
        let pictures =
            self.image.iter().map(|file| assistant.picture(file)).collect::<Result<Vec<_>, _>>()?;
        let mut talk = Talk {
            dialogue: assistant.dialogue(self.system),
            assistant: &assistant,
            pictures,
            manner: Manner { sampling, max_new_tokens },
            json: self.json,
        };
        match self.question {
            Some(question) => {
                talk.turn(&question)?;
                Ok(ExitCode::SUCCESS)
            }
            None => terminal::converse(&mut talk, std::io::stdin().is_terminal()),
        }
    }
}

/// A conversation and where it is heard.
struct Talk<'a> {
    dialogue: Dialogue<'a>,
    assistant: &'a Assistant,
    /// Shown with the next question.
    pictures: Vec<Rgb>,
    manner: Manner,
    json: bool,
}

impl Talk<'_> {
    /// Asks, and lets the answer be heard. The pictures stay for another try when the question is refused.
    fn turn(&mut self, question: &str) -> Result<()> {
        let start = Instant::now();
        let mut first = None;
        let mut voice = Voice::new(!self.json);
        let mut hear = |piece: &str| {
            first.get_or_insert_with(|| start.elapsed().as_secs_f64());
            voice.hear(piece);
        };
        let reply = self.dialogue.ask(question, self.pictures.clone(), &self.manner, &mut hear)?;
        self.pictures.clear();
        voice.end();
        if self.json {
            say(&serde_json::to_string(&for_programs(&reply, first, start.elapsed().as_secs_f64()))?);
        }
        Ok(())
    }

    /// Shows a picture with the next question.
    fn show(&mut self, file: &Path) -> Result<()> {
        self.pictures.push(self.assistant.picture(file)?);
        Ok(())
    }

    /// Forgets what was said and shown.
    fn reset(&mut self) {
        self.dialogue.reset();
        self.pictures.clear();
    }
}

fn for_programs(reply: &Reply, first_token_s: Option<f64>, seconds: f64) -> JsonReply<'_> {
    JsonReply {
        answer: reply.text.trim(),
        stop: match reply.stop {
            Stop::End(_) => "end",
            Stop::Length => "length",
        },
        prompt_tokens: reply.prompt_tokens,
        answer_tokens: reply.tokens.len(),
        context_tokens: reply.context_tokens,
        // the last call is for what is left of the text, so it says nothing where no token came
        first_token_s: first_token_s.filter(|_| !reply.tokens.is_empty()),
        seconds,
        tokens_per_s: reply.tokens.len() as f64 / seconds.max(1e-9),
    }
}

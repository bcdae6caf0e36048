//! A small image-text data set, drawn from a seed: for demos and tests, learnable by a very small model.
//!
//! Scenes of plain shapes in vivid colours, large digits and a few large words; captions short and full, and questions
//! with answers of one word that need the picture. Written in the common LLaVA layout:
//!
//! ```text
//! folder/images/t00000.png …   training pictures      folder/alignment.json    short captions
//! folder/images/h00000.png …   held-out pictures      folder/midtraining.json  full captions
//!                                                     folder/instruct.json     questions, several to a picture
//!                                                     folder/heldout.json      questions, one to a record, with a kind
//! ```
//!
//! Attributes are dealt like cards, so that answers are balanced. No full caption of a training picture is that of a
//! held-out one. The same options write the same bytes.

mod canvas;
mod compose;
mod font;
mod language;
mod scene;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use rayon::prelude::*;
use serde::Serialize;

pub use self::language::QuestionKind;
use self::{
    compose::Composer,
    language::{ASK_BRIEFLY, ASK_FULLY, Asked},
    scene::{Colour, Scene, Shape},
};
use crate::{
    chat::{DEFAULT_SYSTEM, IMAGE_PLACEHOLDER},
    random::Dice,
};

/// Most pictures that one data set may have.
pub const MAX_PICTURES: usize = 1_000_000;

/// What to draw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SynthOptions {
    /// Everything follows from it.
    pub seed: u64,
    /// Pictures to learn from.
    pub train_pictures: usize,
    /// Pictures to be asked about and never learnt from. Their scenes are all different, so there cannot be more than
    /// about a thousand.
    pub heldout_pictures: usize,
    /// Questions in one training conversation, 1 to 3.
    pub turns: usize,
    /// Questions asked about a held-out picture, 1 to 3.
    pub heldout_questions: usize,
}

impl Default for SynthOptions {
    /// 1,500 pictures and 200 held out, three questions in a conversation, two about a held-out picture.
    fn default() -> Self {
        Self { seed: 0, train_pictures: 1500, heldout_pictures: 200, turns: 3, heldout_questions: 2 }
    }
}

/// Why a data set was not drawn.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SynthError {
    /// An option is out of its bounds.
    #[error("{option} is {got}, it must be {least} to {most}")]
    Option {
        /// Which.
        option: &'static str,
        /// Its value.
        got: usize,
        /// The least it may be.
        least: usize,
        /// The most.
        most: usize,
    },
    /// So many different scenes do not exist.
    #[error(
        "no scene left that is not held out already, after {found} pictures; ask for fewer held-out pictures"
    )]
    OutOfScenes {
        /// Pictures found so far.
        found: usize,
    },
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A picture cannot be encoded.
    #[error("cannot encode a drawn picture")]
    Encode(#[from] image::ImageError),
    /// The records cannot be written as JSON.
    #[error("cannot write records as JSON")]
    Json(#[from] serde_json::Error),
}

/// What was drawn, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SynthReport {
    /// The folder with the pictures; every `image` of the records is relative to it.
    pub folder: PathBuf,
    /// Short captions, one a training picture.
    pub alignment: PathBuf,
    /// Full captions, one a training picture.
    pub midtraining: PathBuf,
    /// Conversations, one a training picture.
    pub instruct: PathBuf,
    /// Questions about held-out pictures; see [`crate::heldout::load`].
    pub heldout: PathBuf,
    /// How many questions that file holds.
    pub heldout_questions: usize,
    /// All training texts and the fixed words of the chat form: what a tokenizer is learnt from.
    pub texts: Vec<String>,
}

#[derive(Serialize)]
struct Turn {
    from: &'static str,
    value: String,
}

#[derive(Serialize)]
struct Record {
    id: String,
    image: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<QuestionKind>,
    conversations: Vec<Turn>,
}

/// A record about one picture, which stands before the first question.
fn record(id: String, picture: &str, kind: Option<QuestionKind>, talk: &[(String, String)]) -> Record {
    let mut conversations = Vec::with_capacity(talk.len() * 2);
    for (at, (question, answer)) in talk.iter().enumerate() {
        let value = if at == 0 { format!("{IMAGE_PLACEHOLDER}\n{question}") } else { question.clone() };
        conversations.push(Turn { from: "human", value });
        conversations.push(Turn { from: "gpt", value: answer.clone() });
    }
    Record { id, image: picture.to_owned(), kind, conversations }
}

fn within(option: &'static str, got: usize, least: usize, most: usize) -> Result<(), SynthError> {
    if (least..=most).contains(&got) {
        return Ok(());
    }
    Err(SynthError::Option { option, got, least, most })
}

impl SynthOptions {
    fn check(&self) -> Result<(), SynthError> {
        within("train_pictures", self.train_pictures, 0, MAX_PICTURES)?;
        within("heldout_pictures", self.heldout_pictures, 0, MAX_PICTURES)?;
        within("turns", self.turns, 1, 3)?;
        within("heldout_questions", self.heldout_questions, 1, 3)
    }

    /// Draws the data set into `folder`, which is made when it isn't there; files of the same names are replaced.
    ///
    /// # Errors
    ///
    /// [`SynthError`] when an option is out of bounds or a file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<SynthReport, SynthError> {
        self.check()?;
        // Held-out scenes are chosen first; training takes what they left.
        let mut taken = BTreeSet::new();
        let heldout = Composer::new(self.seed, "heldout")
            .compose(self.heldout_pictures, |scene| taken.insert(scene.full()))?;
        let train = Composer::new(self.seed, "train")
            .compose(self.train_pictures, |scene| !taken.contains(&scene.full()))?;

        let images = folder.join("images");
        fs::create_dir_all(&images).map_err(|source| SynthError::Write { path: images.clone(), source })?;
        self.draw(folder, "t", &train)?;
        self.draw(folder, "h", &heldout)?;

        let mut captions = (Vec::new(), Vec::new());
        let mut conversations = Vec::new();
        let mut dice = Dice::new("instruct", self.seed);
        for (at, scene) in train.iter().enumerate() {
            let picture = picture_name("t", at);
            let say = |ask: &str, caption: String| [(ask.to_owned(), caption)];
            captions.0.push(record(format!("a{at:05}"), &picture, None, &say(ASK_BRIEFLY, scene.brief())));
            captions.1.push(record(format!("m{at:05}"), &picture, None, &say(ASK_FULLY, scene.full())));
            let mut asked = scene.questions();
            dice.shuffle(&mut asked);
            let talk: Vec<_> = asked.into_iter().take(self.turns).map(|a| (a.question, a.answer)).collect();
            conversations.push(record(format!("i{at:05}"), &picture, None, &talk));
        }
        let questions = self.heldout_records(&heldout);
        let heldout_questions = questions.len();
        let mut texts = Vec::new();
        for record in captions.0.iter().chain(&captions.1).chain(&conversations) {
            // The form's own words are in every sample, so they count as often.
            texts.extend(["system\n", DEFAULT_SYSTEM, "user\n", "assistant\n"].map(String::from));
            texts.extend(
                record
                    .conversations
                    .iter()
                    .map(|turn| turn.value.trim_start_matches(IMAGE_PLACEHOLDER).to_owned()),
            );
        }
        Ok(SynthReport {
            alignment: write_records(folder, "alignment.json", &captions.0)?,
            midtraining: write_records(folder, "midtraining.json", &captions.1)?,
            instruct: write_records(folder, "instruct.json", &conversations)?,
            heldout: write_records(folder, "heldout.json", &questions)?,
            folder: folder.to_path_buf(),
            heldout_questions,
            texts,
        })
    }

    /// One record a question: the scene's own kind first, then of colour and shape the one whose answer has come up
    /// less.
    fn heldout_records(&self, scenes: &[Scene]) -> Vec<Record> {
        let mut used: BTreeMap<String, usize> = BTreeMap::new();
        let mut records = Vec::new();
        for (at, scene) in scenes.iter().enumerate() {
            let [own, mut second, mut third] = scene.questions();
            let share =
                |asked: &Asked, answers: usize| used.get(&asked.answer).copied().unwrap_or(0) * answers;
            if share(&third, Shape::ALL.len()) < share(&second, Colour::ALL.len()) {
                std::mem::swap(&mut second, &mut third);
            }
            for Asked { kind, question, answer } in
                [own, second, third].into_iter().take(self.heldout_questions)
            {
                *used.entry(answer.clone()).or_default() += 1;
                let id = format!("h{at:05}-{}", kind.name());
                records.push(record(id, &picture_name("h", at), Some(kind), &[(question, answer)]));
            }
        }
        records
    }

    fn draw(&self, folder: &Path, part: &str, scenes: &[Scene]) -> Result<(), SynthError> {
        scenes.par_iter().enumerate().try_for_each(|(at, scene)| {
            let name = picture_name(part, at);
            let png = scene.draw(&mut Dice::new(&name, self.seed)).to_png()?;
            let path = folder.join(name);
            fs::write(&path, png).map_err(|source| SynthError::Write { path, source })
        })
    }
}

fn picture_name(part: &str, at: usize) -> String {
    format!("images/{part}{at:05}.png")
}

/// Writes records as a JSON array, one a line.
fn write_records(folder: &Path, name: &str, records: &[Record]) -> Result<PathBuf, SynthError> {
    let lines = records.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
    let path = folder.join(name);
    fs::write(&path, format!("[\n{}\n]\n", lines.join(",\n")))
        .map_err(|source| SynthError::Write { path: path.clone(), source })?;
    Ok(path)
}

#[cfg(test)]
mod tests;

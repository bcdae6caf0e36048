//! Looking at one sample: which rules it breaks, how it scores, and the prints that duplicates are found by.
//!
//! ```text
//! pictures --decode--> sides, deviation, thumbnail --> Picture rules, brightness and colour prints
//! turns    --words---> lengths, repeats, openings  --> Text rules, sketch, question hash
//! ```
//!
//! All rules are looked at, also after one is broken, so that the report can tell what each alone costs. Numbers come
//! from integers, square roots and divisions only, which every machine rounds alike.

mod language;
mod picture;
mod score;
mod text;

use talkoot_dataset::{RejectKind, Roots, Sample, preprocess::DecodeLimits};

pub use self::score::Scores;
use self::{language::Languages, picture::Look};
use crate::{
    config::{Config, ConfigError},
    histogram::Bins,
    print::{Print, Sketcher, Thumbnail, question_hash},
    rule::{Broken, Dropped, Rule},
};

/// What looking at a sample told.
#[derive(Debug, Clone, PartialEq)]
pub struct Examined {
    /// The rules that it breaks, in order, with the evidence; none when it is kept.
    pub broken: Vec<Broken>,
    /// What kind of reject it is, if it is one.
    pub kind: RejectKind,
    /// How it scores.
    pub scores: Scores,
    /// What duplicates are found by.
    pub print: Print,
    /// Where it falls in the histograms.
    pub bins: Bins,
}

/// Looks at samples by the rules of a configuration.
#[derive(Debug)]
pub struct Examiner {
    config: Config,
    refusals: Vec<String>,
    languages: Languages,
    sketcher: Sketcher,
    limits: DecodeLimits,
}

impl Examiner {
    /// An examiner that goes by `config`.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] when a value is out of its bounds.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self {
            refusals: config.refusal.openings.iter().map(|opening| text::plain(opening)).collect(),
            languages: Languages::new(&config.language),
            sketcher: Sketcher::new(config.duplicate.seed, config.duplicate.run_characters as usize),
            limits: DecodeLimits::default(),
            config: config.clone(),
        })
    }

    /// Looks at `sample`, whose pictures are under `roots`.
    pub fn examine(&self, sample: &Sample, roots: &Roots) -> Examined {
        let mut broken = Vec::new();
        let mut kind = RejectKind::Filtered;
        let mut looks = Vec::with_capacity(sample.pictures.len());
        for picture in &sample.pictures {
            match picture::look(picture, roots, &self.limits) {
                Ok(look) => {
                    look.judge(&picture.name(), &self.config.picture, &mut broken);
                    looks.push(look);
                }
                Err((fault, reason)) => {
                    kind = fault;
                    broken.push(Broken::new(Rule::Readable, reason, "every picture must be readable"));
                }
            }
        }
        self.judge_text(sample, &mut broken);
        let scores = Scores::of(sample, &looks, self.config.score.keep_given);
        if f64::from(scores.quality) < self.config.score.min_quality {
            let limit = format!("at least {}", self.config.score.min_quality);
            broken.push(Broken::new(Rule::Quality, format!("a quality of {}", scores.quality), limit));
        }
        // A rule is broken once, by the first picture or answer that breaks it.
        broken.sort_by_key(|broken: &Broken| broken.rule);
        broken.dedup_by_key(|broken| broken.rule);
        let (print, bins) = (self.print(sample, &looks, &scores), bins(sample, &looks, &scores));
        Examined { broken, kind, scores, print, bins }
    }

    fn judge_text(&self, sample: &Sample, broken: &mut Vec<Broken>) {
        for answer in text::answers(sample) {
            text::judge_length(answer, &self.config.answer, broken);
            text::judge_repeats(answer, &self.config.answer, broken);
            text::judge_refusal(answer, &self.refusals, self.config.refusal.anywhere, broken);
        }
        text::judge_marks(sample, &self.config.mark.foreign, broken);
        self.languages.judge(sample, broken);
    }

    fn print(&self, sample: &Sample, looks: &[Look], scores: &Scores) -> Print {
        let thumbnail = Thumbnail::mean(looks.iter().map(|look| &look.thumbnail));
        Print {
            id: Print::id_of(&sample.id),
            brightness: thumbnail.as_ref().map_or(0, Thumbnail::brightness),
            colour: thumbnail.as_ref().map_or(0, Thumbnail::colour),
            sketch: self.sketcher.sketch(sample.messages.iter().map(|message| message.text.as_str())),
            question: question_hash(text::questions(sample)),
            pictures: sample.pictures.len() as u16,
            rank: scores.rank(self.config.duplicate.quality_weight),
        }
    }
}

impl Examined {
    /// The line for the rejects file, if the sample is left out.
    pub fn dropped(&self, sample: &Sample) -> Option<Dropped> {
        let broken = self.broken.clone();
        (!broken.is_empty()).then(|| Dropped::new(sample, self.kind, broken))
    }
}

fn bins(sample: &Sample, looks: &[Look], scores: &Scores) -> Bins {
    let smallest = looks.iter().min_by_key(|look| look.shorter());
    let longest = looks.iter().map(Look::aspect).max_by(f64::total_cmp);
    Bins::of(text::characters(sample), smallest.map(Look::shorter), longest, scores)
}

#[cfg(test)]
mod tests;

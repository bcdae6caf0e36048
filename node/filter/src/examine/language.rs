//! Which language the answers are in.

use talkoot_dataset::Sample;
use whatlang::Lang;

use super::text;
use crate::{
    config::LanguageRules,
    rule::{Broken, Rule},
};

/// Most characters that are looked at: more don't make the detector surer.
const MAX_CHARACTERS: usize = 2_000;

/// The languages that are wanted.
#[derive(Debug)]
pub(super) struct Languages {
    allowed: Vec<Lang>,
    names: String,
    min_characters: usize,
    min_confidence: f64,
}

impl Languages {
    pub(super) fn new(rules: &LanguageRules) -> Self {
        Self {
            allowed: rules.allowed.iter().filter_map(|code| Lang::from_code(code.as_str())).collect(),
            names: rules.allowed.join(", "),
            min_characters: rules.min_characters as usize,
            min_confidence: rules.min_confidence,
        }
    }

    /// In doubt a sample passes: only a confident word for another language is against it.
    pub(super) fn judge(&self, sample: &Sample, broken: &mut Vec<Broken>) {
        if self.allowed.is_empty() {
            return;
        }
        let mut said: String = text::answers(sample).flat_map(|answer| [answer.trim(), "\n"]).collect();
        if said.trim_end().chars().count() < self.min_characters {
            return;
        }
        if let Some((end, _)) = said.char_indices().nth(MAX_CHARACTERS) {
            said.truncate(end);
        }
        let Some(found) = whatlang::detect(&said) else { return };
        if found.confidence() >= self.min_confidence && !self.allowed.contains(&found.lang()) {
            let measured =
                format!("the answers are in {} (confidence {:.2})", found.lang().code(), found.confidence());
            broken.push(Broken::new(Rule::Language, measured, format!("one of: {}", self.names)));
        }
    }
}

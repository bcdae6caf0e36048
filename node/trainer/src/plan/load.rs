//! What a step works on.

use serde::Serialize;

use super::PlanError;
use crate::{batch::NOT_LEARNED, config::ModelConfig, inner::GROUP_ROWS, model::Sample, patches::Picture};

/// Packs that are all alike: pictures of one size, each with its share of the words behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Load {
    /// Packs of a step.
    pub packs: u32,
    /// Tokens of a pack, those of pictures included.
    pub tokens: u32,
    /// Pictures of a pack; each is a sample of its own with its words.
    pub pictures: u32,
    /// Patches along each side of a picture; even multiples of the merger's.
    pub picture_side: u32,
}

/// Most packs of a step.
pub const MAX_PACKS: u32 = 65_536;
/// Longest pack, in tokens: a plan lays one or two packs out as training would.
pub const MAX_TOKENS: u32 = 65_536;
/// Patches along each side of a picture of 448 x 448 pixels.
const USUAL_SIDE: u32 = 32;

impl Load {
    /// Packs of `tokens` tokens, of which about `picture_share` are those of pictures, 448 x 448 pixels each or smaller
    /// where a pack is short.
    ///
    /// # Errors
    ///
    /// [`PlanError::Load`] when a number is out of its bounds.
    pub fn new(config: &ModelConfig, packs: u32, tokens: u32, picture_share: f64) -> Result<Self, PlanError> {
        let refuse = |what, got: String, bounds| Err(PlanError::Load { what, got, bounds });
        if !(1..=MAX_PACKS).contains(&packs) {
            return refuse("packs of a step", packs.to_string(), "1 to 65536");
        }
        if !(2..=MAX_TOKENS).contains(&tokens) {
            return refuse("tokens of a pack", tokens.to_string(), "2 to 65536");
        }
        if !(0.0..=0.95).contains(&picture_share) {
            return refuse("share of tokens that are pictures'", picture_share.to_string(), "0 to 0.95");
        }
        let merge = config.vision.spatial_merge_size as u32;
        let wanted = (f64::from(tokens) * picture_share) as u32;
        let side = (1..=USUAL_SIDE / merge).rev().find(|side| side * side <= wanted).unwrap_or(0);
        let pictures = if side == 0 { 0 } else { wanted / (side * side) };
        Ok(Self { packs, tokens, pictures, picture_side: side * merge })
    }

    /// Patches of a pack.
    pub fn patches(&self) -> u64 {
        u64::from(self.pictures) * u64::from(self.picture_side).pow(2)
    }

    /// Rows of decoder and tower that a pack takes.
    fn rows(&self) -> u64 {
        u64::from(self.tokens) + self.patches() + u64::from(self.pictures)
    }

    /// Packs that go through the model together.
    pub fn together(&self) -> u32 {
        let fit = (GROUP_ROWS as u64 / self.rows()).max(1);
        u32::try_from(fit).unwrap_or(u32::MAX).min(self.packs)
    }

    /// Packs of a shorter step that is like the whole one: what comes after its second group changes nothing.
    pub(super) fn rehearsed(&self) -> u32 {
        self.packs.min(2 * self.together())
    }

    /// The packs of such a step.
    pub(super) fn samples(&self, config: &ModelConfig) -> Vec<Vec<Sample>> {
        let pack: Vec<Sample> = (0..self.pictures.max(1)).map(|i| self.sample(config, i)).collect();
        vec![pack; self.rehearsed() as usize]
    }

    fn sample(&self, config: &ModelConfig, i: u32) -> Sample {
        let (of, side) = (self.pictures.max(1), self.picture_side as usize);
        // the first ones are a token longer where it doesn't divide
        let length = (self.tokens / of + u32::from(i < self.tokens % of)) as usize;
        let picture = Picture {
            rows: side,
            columns: side,
            patches: vec![0.0; side * side * config.vision.patch_values()],
        };
        let seen = side * side / config.vision.patches_per_token();
        let word = u32::from(config.image_token_id == 0);
        let mut tokens = vec![config.image_token_id; seen];
        tokens.resize(length.max(seen), word);
        let label = |at: usize| if at > seen { i64::from(word) } else { NOT_LEARNED };
        let labels = (0..tokens.len()).map(label).collect();
        let pictures = if self.pictures > 0 { vec![picture] } else { Vec::new() };
        Sample { tokens, labels, pictures }
    }
}

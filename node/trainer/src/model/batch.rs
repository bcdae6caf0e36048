//! Samples laid out as rows: which row holds what, and who looks at whom.

use crate::{
    backend::Segment,
    batch::{NOT_LEARNED, Pack},
    config::ModelConfig,
    patches::{Picture, merge_order},
};

/// One sample: tokens that see one another, and their pictures.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sample {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// Unshifted labels, as many as tokens; [`NOT_LEARNED`] where nothing is learned.
    pub labels: Vec<i64>,
    /// The pictures, in order of their image tokens.
    pub pictures: Vec<Picture>,
}

impl Sample {
    /// Cuts a pack into its samples and its pictures into patches.
    ///
    /// The pack must have passed [`Pack::check`] for this config.
    pub fn from_pack(pack: &Pack, config: &ModelConfig) -> Vec<Self> {
        let mut images = pack.images.iter();
        let mut start = 0;
        let cut = |&length: &u32| {
            let place = start..start + length as usize;
            start = place.end;
            let tokens = pack.tokens[place.clone()].to_vec();
            let mut open = tokens.iter().filter(|&&token| token == config.image_token_id).count();
            let mut pictures = Vec::new();
            while open > 0
                && let Some(image) = images.next()
            {
                open = open.saturating_sub(image.tokens(config));
                pictures.push(Picture::new(image, &config.vision));
            }
            Self { tokens, labels: pack.labels[place].to_vec(), pictures }
        };
        pack.sample_lengths.iter().map(cut).collect()
    }

    /// Positions that count in the loss.
    pub fn learned(&self) -> usize {
        self.labels.iter().skip(1).filter(|&&label| label != NOT_LEARNED).count()
    }
}

/// Samples made ready for the model.
#[derive(Debug, Default)]
pub struct Batch {
    /// Position of every text row in its sample.
    pub(super) positions: Vec<u32>,
    /// A segment for every sample.
    pub(super) samples: Vec<Segment>,
    /// Text rows that hold a token of the vocabulary, and those tokens.
    pub(super) word_rows: Vec<u32>,
    pub(super) words: Vec<u32>,
    /// Text rows that hold a row of the merger, in order.
    pub(super) image_rows: Vec<u32>,
    /// Text rows whose output predicts a learned token, and that token.
    pub(super) target_rows: Vec<u32>,
    pub(super) targets: Vec<u32>,
    /// A segment of vision rows for every picture: its class row, then its patches.
    pub(super) pictures: Vec<Segment>,
    /// For every vision row its place on the grid; none for a class row.
    pub(super) cells: Vec<Option<(u32, u32)>>,
    /// Vision rows that hold a class token, and those that hold a patch.
    pub(super) class_rows: Vec<u32>,
    pub(super) patch_rows: Vec<u32>,
    /// Numbers of all patches, in order.
    pub(super) patches: Vec<f32>,
}

impl Batch {
    /// Lays out samples. Their pictures must fill their image tokens exactly.
    pub fn new<'a>(samples: impl IntoIterator<Item = &'a Sample>, config: &ModelConfig) -> Self {
        let mut batch = Self::default();
        for sample in samples {
            batch.add_text(sample, config.image_token_id);
            for picture in &sample.pictures {
                batch.add_picture(picture, config.vision.spatial_merge_size);
            }
        }
        batch
    }

    /// Rows of the decoder.
    pub fn rows(&self) -> usize {
        self.positions.len()
    }

    /// Rows of the vision tower, class rows included.
    pub fn vision_rows(&self) -> usize {
        self.cells.len()
    }

    /// Positions that count in the loss.
    pub fn learned(&self) -> usize {
        self.targets.len()
    }

    pub(super) fn has_pictures(&self) -> bool {
        !self.pictures.is_empty()
    }

    fn add_text(&mut self, sample: &Sample, image_token: u32) {
        let start = self.rows();
        for (i, &token) in sample.tokens.iter().enumerate() {
            let row = (start + i) as u32;
            self.positions.push(i as u32);
            if token == image_token {
                self.image_rows.push(row);
            } else {
                self.word_rows.push(row);
                self.words.push(token);
            }
        }
        for (i, &label) in sample.labels.iter().enumerate().skip(1) {
            if label != NOT_LEARNED {
                self.target_rows.push((start + i - 1) as u32);
                self.targets.push(label as u32);
            }
        }
        self.samples.push(Segment::own(start..self.rows()));
    }

    fn add_picture(&mut self, picture: &Picture, merge: usize) {
        let start = self.vision_rows();
        self.class_rows.push(start as u32);
        self.cells.push(None);
        for (y, x) in merge_order(picture.rows, picture.columns, merge) {
            self.patch_rows.push(self.cells.len() as u32);
            self.cells.push(Some((y as u32, x as u32)));
        }
        self.patches.extend_from_slice(&picture.patches);
        self.pictures.push(Segment::own(start..self.vision_rows()));
    }

    /// Rows of the tower that go into the merger, one for each patch.
    pub(super) fn kept_rows(&self, as_released: bool) -> Vec<u32> {
        if !as_released {
            return self.patch_rows.clone();
        }
        // the released code counts patches alone, so picture k begins k rows too early
        let mut patches = 0;
        let mut kept = Vec::with_capacity(self.patch_rows.len());
        for picture in &self.pictures {
            let own = picture.queries.len() - 1;
            kept.extend((patches + 1..patches + 1 + own).map(|row| row as u32));
            patches += own;
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_released_code_shifts_later_pictures_back() {
        let picture = |rows, columns| Picture { rows, columns, patches: Vec::new() };
        let mut batch = Batch::default();
        for picture in [picture(2, 2), picture(2, 2), picture(2, 4)] {
            batch.add_picture(&picture, 2);
        }
        assert_eq!(batch.kept_rows(false), [1, 2, 3, 4, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 18]);
        assert_eq!(batch.kept_rows(true), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
    }

    #[test]
    fn a_label_is_predicted_by_the_row_before_it_and_never_across_samples() {
        let sample = |labels: &[i64]| Sample {
            tokens: labels.iter().map(|&l| l.max(1) as u32).collect(),
            labels: labels.to_vec(),
            pictures: Vec::new(),
        };
        let samples = [sample(&[5, 6, NOT_LEARNED, 7]), sample(&[8, 9])];
        let mut batch = Batch::default();
        samples.iter().for_each(|sample| batch.add_text(sample, 99));
        assert_eq!((batch.target_rows, batch.targets), (vec![0, 2, 4], vec![6, 7, 9]));
        assert_eq!(samples.iter().map(Sample::learned).sum::<usize>(), 3);
    }
}

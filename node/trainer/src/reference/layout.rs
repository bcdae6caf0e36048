//! Samples laid out as rows, so that attention works on runs of equally long sequences.

use candle_core::{Device, Result, Tensor};

use crate::{batch::NOT_LEARNED, config::ModelConfig, model::Sample, patches::Picture};

/// `count` sequences of `length` rows each, from row `start` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) start: usize,
    pub(crate) count: usize,
    pub(crate) length: usize,
}

impl Run {
    pub(crate) fn rows(&self) -> usize {
        self.count * self.length
    }
}

/// Samples made ready for the model: which row holds what.
///
/// Samples of similar length share a run and are padded at its end to the run's length; causal attention never looks
/// back at padding, so padding changes nothing. Pictures of the same size share a run without any padding.
#[derive(Debug)]
pub struct Batch {
    pub(crate) text_runs: Vec<Run>,
    pub(crate) vision_runs: Vec<Run>,
    /// Position of every text row in its sample.
    pub(crate) positions: Vec<u32>,
    /// Ids of the rows that come from the embedding.
    pub(crate) embedded: Vec<u32>,
    /// For every text row its index among embedded rows followed by merger rows.
    pub(crate) spliced: Vec<u32>,
    /// Rows whose output predicts a learned token, and that token.
    pub(crate) target_rows: Vec<u32>,
    pub(crate) targets: Vec<u32>,
    pub(crate) pictures: usize,
    /// Patches of all pictures in run order, `[patches, values]`.
    pub(crate) patches: Tensor,
    /// Row and column of every vision row's patch in run order; none for a class row.
    pub(crate) cells: Vec<Option<(u32, u32)>>,
    sample_starts: Vec<usize>,
    sample_lengths: Vec<usize>,
    picture_starts: Vec<usize>,
    picture_lengths: Vec<usize>,
}

impl Batch {
    /// Lays out samples. Their pictures must fill their image tokens exactly.
    ///
    /// # Errors
    ///
    /// A tensor error when patches and grids don't agree.
    pub fn new(samples: &[Sample], config: &ModelConfig) -> Result<Self> {
        let pictures: Vec<&Picture> = samples.iter().flat_map(|sample| &sample.pictures).collect();
        let lengths: Vec<usize> = samples.iter().map(|sample| sample.tokens.len()).collect();
        let (text_runs, sample_starts) = text_runs(&lengths);
        let mut batch = Self {
            positions: text_runs
                .iter()
                .flat_map(|run| (0..run.rows()).map(|i| (i % run.length) as u32))
                .collect(),
            text_runs,
            vision_runs: Vec::new(),
            embedded: Vec::new(),
            spliced: Vec::new(),
            target_rows: Vec::new(),
            targets: Vec::new(),
            pictures: pictures.len(),
            patches: Tensor::zeros((0, config.vision.patch_values()), candle_core::DType::F32, &Device::Cpu)?,
            cells: Vec::new(),
            sample_starts,
            sample_lengths: lengths,
            picture_starts: vec![0; pictures.len()],
            picture_lengths: pictures.iter().map(|picture| picture.len()).collect(),
        };
        batch.splice(samples, config.image_token_id);
        batch.lay_pictures(&pictures, config)?;
        Ok(batch)
    }

    /// Rows of the decoder, padding included.
    pub fn rows(&self) -> usize {
        self.positions.len()
    }

    /// Positions that count in the loss.
    pub fn learned(&self) -> usize {
        self.targets.len()
    }

    /// For every token of every sample, in order, its row in the decoder.
    pub fn token_rows(&self) -> Vec<u32> {
        let places = self.sample_starts.iter().zip(&self.sample_lengths);
        places.flat_map(|(&start, &length)| start as u32..(start + length) as u32).collect()
    }

    /// For every picture, in order, its class row and then its patch rows in the vision tower.
    pub fn vision_rows(&self) -> Vec<u32> {
        let places = self.picture_starts.iter().zip(&self.picture_lengths);
        places.flat_map(|(&start, &length)| start as u32..(start + length + 1) as u32).collect()
    }

    fn splice(&mut self, samples: &[Sample], image_token: u32) {
        let texts: usize =
            samples.iter().flat_map(|s| &s.tokens).filter(|&&token| token != image_token).count();
        self.spliced = vec![0; self.positions.len()];
        let mut pictured = texts as u32;
        for (sample, &start) in samples.iter().zip(&self.sample_starts) {
            for (i, &token) in sample.tokens.iter().enumerate() {
                if token == image_token {
                    self.spliced[start + i] = pictured;
                    pictured += 1;
                } else {
                    self.spliced[start + i] = self.embedded.len() as u32;
                    self.embedded.push(token);
                }
            }
            for (i, &label) in sample.labels.iter().enumerate().skip(1) {
                if label != NOT_LEARNED {
                    self.target_rows.push((start + i - 1) as u32);
                    self.targets.push(label as u32);
                }
            }
        }
    }

    fn lay_pictures(&mut self, pictures: &[&Picture], config: &ModelConfig) -> Result<()> {
        let mut order: Vec<usize> = (0..pictures.len()).collect();
        order.sort_by_key(|&i| (pictures[i].rows, pictures[i].columns));
        let mut values = Vec::new();
        for &i in &order {
            let picture = pictures[i];
            let (start, length) = (self.cells.len(), picture.len() + 1);
            self.picture_starts[i] = start;
            match self.vision_runs.last_mut() {
                Some(run) if run.length == length => run.count += 1,
                _ => self.vision_runs.push(Run { start, count: 1, length }),
            }
            let merge = config.vision.spatial_merge_size;
            let cells = crate::patches::merge_order(picture.rows, picture.columns, merge);
            self.cells.push(None);
            self.cells.extend(cells.map(|(y, x)| Some((y as u32, x as u32))));
            values.extend_from_slice(&picture.patches);
        }
        let shape = (self.cells.len() - pictures.len(), config.vision.patch_values());
        self.patches = Tensor::from_vec(values, shape, &Device::Cpu)?;
        Ok(())
    }

    /// Rows of the tower that go into the merger, in order of the pictures in the sequence.
    pub(crate) fn kept_vision_rows(&self, as_released: bool) -> Vec<u32> {
        let all = self.vision_rows();
        let mut kept = Vec::with_capacity(all.len());
        let mut before = 0;
        for (k, &length) in self.picture_lengths.iter().enumerate() {
            // `before` counts patches alone; the right start also counts the class rows before this picture
            let first = if as_released { before + 1 } else { before + k + 1 };
            kept.extend_from_slice(&all[first..first + length]);
            before += length;
        }
        kept
    }
}

/// Longest first; a run takes samples while padding stays below an eighth of the run's length.
fn text_runs(lengths: &[usize]) -> (Vec<Run>, Vec<usize>) {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(lengths[i]));
    let mut runs: Vec<Run> = Vec::new();
    let mut starts = vec![0; lengths.len()];
    let mut end = 0;
    for i in order {
        match runs.last_mut() {
            Some(run) if 8 * (run.length - lengths[i]) <= run.length => run.count += 1,
            _ => runs.push(Run { start: end, count: 1, length: lengths[i] }),
        }
        starts[i] = end;
        end += runs.last().map_or(0, |run| run.length);
    }
    (runs, starts)
}

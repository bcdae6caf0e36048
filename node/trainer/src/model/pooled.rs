//! One row for a whole sample: what pictures and texts are compared by when there is no better encoder.

use super::{Batch, Model, ModelError};
use crate::backend::Backend;

impl<B: Backend> Model<'_, B> {
    /// The mean of the rows that enter the decoder, for each sample of `batch`: `[samples, H]`, row-major.
    ///
    /// Pictures and words meet in these rows: the merger's outputs stand among the rows of the token table. Sums are
    /// in f64, in ascending order of rows, so a sample's mean does not depend on what it is in a batch with. A sample
    /// without tokens has a row of NaN.
    ///
    /// # Errors
    ///
    /// [`ModelError::Backend`] when the device fails.
    pub fn pooled(&self, batch: &Batch) -> Result<Vec<f32>, ModelError> {
        let width = self.config.text.hidden_size;
        let rows = self.backend.download(&self.embed(batch, &mut None)?)?;
        let mut means = Vec::with_capacity(batch.samples.len() * width);
        for sample in &batch.samples {
            let mut sums = vec![0.0f64; width];
            let own = &rows[sample.queries.start * width..sample.queries.end * width];
            for row in own.chunks_exact(width) {
                sums.iter_mut().zip(row).for_each(|(sum, &number)| *sum += f64::from(number));
            }
            let count = sample.queries.len() as f64;
            means.extend(sums.into_iter().map(|sum| (sum / count) as f32));
        }
        Ok(means)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        batch::{Image, NOT_LEARNED, Pack},
        cpu::Cpu,
        model::Sample,
        presets::demo_model,
        state::State,
    };

    #[test]
    fn a_samples_mean_does_not_depend_on_its_neighbours() {
        let config = demo_model(64);
        let (state, cpu) = (State::initial(&config, 5), Cpu::default());
        let model = Model::new(&cpu, &config, &state).unwrap();
        let width = config.text.hidden_size;
        let pack = |tokens: Vec<u32>, images: Vec<Image>| Pack {
            labels: vec![NOT_LEARNED; tokens.len()],
            sample_lengths: vec![tokens.len() as u32],
            tokens,
            images,
        };
        let picture =
            Image { width: 56, height: 28, rgb: (0..56 * 28 * 3).map(|at| (at % 251) as u8).collect() };
        let packs = [pack(vec![3, 9, 3], vec![]), pack(vec![config.image_token_id; 2], vec![picture])];
        let samples: Vec<Sample> = packs.iter().flat_map(|pack| Sample::from_pack(pack, &config)).collect();
        let together = model.pooled(&Batch::new(&samples, &config)).unwrap();
        let alone: Vec<f32> = samples
            .iter()
            .flat_map(|sample| model.pooled(&Batch::new(std::slice::from_ref(sample), &config)).unwrap())
            .collect();
        assert_eq!(together, alone);
        let table = &state.tensors["model.embed_tokens.weight"].values;
        let mean = |at: usize| {
            let of = |token: usize| f64::from(table[token * width + at]);
            ((of(3) + of(9) + of(3)) / 3.0) as f32
        };
        assert_eq!(together[..width], (0..width).map(mean).collect::<Vec<_>>(), "the words' mean");
    }
}

//! New tokens of some texts through all layers, which add them to the cache.

use std::ops::Range;

use super::{Generator, cache::Cache};
use crate::{
    backend::{Attention, Backend, Done, Segment},
    model::{Batch, ModelError, Sample},
};

/// New rows of some texts.
struct Places {
    /// Position of every row in its text.
    positions: Vec<u32>,
    /// Rows of the cache where they go.
    own: Vec<u32>,
    /// What each text's new rows look at: all its rows in the cache.
    segments: Vec<Segment>,
}

impl<B: Backend> Generator<'_, B> {
    /// A cache with room for texts of these lengths.
    pub(super) fn cache(&self, capacities: impl IntoIterator<Item = usize>) -> Result<Cache<B>, ModelError> {
        Ok(Cache::new(self.model.backend(), self.config(), capacities)?)
    }

    /// Adds `samples` to the texts in `lanes`, which differ, and gives the row of each one's last token, `[samples, H]`.
    pub(super) fn prefill(
        &self,
        cache: &mut Cache<B>,
        lanes: &[usize],
        samples: &[Sample],
    ) -> Result<B::Buffer, ModelError> {
        let hidden = self.extend(cache, lanes, samples)?;
        let mut end = 0;
        let last = |sample: &Sample| {
            end += sample.tokens.len();
            end as u32 - 1
        };
        let last: Vec<u32> = samples.iter().map(last).collect();
        Ok(self.model.pick(&hidden, &last)?)
    }

    /// Adds one token, which stands for no picture, to each of the texts in `lanes`; gives their rows.
    pub(super) fn step(
        &self,
        cache: &mut Cache<B>,
        lanes: &[usize],
        tokens: &[u32],
    ) -> Result<B::Buffer, ModelError> {
        let sample = |&token: &u32| Sample { tokens: vec![token], ..Sample::default() };
        self.extend(cache, lanes, &tokens.iter().map(sample).collect::<Vec<_>>())
    }

    /// Adds `samples` to the texts in `lanes`, which differ, and gives the rows of all their tokens behind the last
    /// layer, one text behind the other.
    pub(super) fn extend(
        &self,
        cache: &mut Cache<B>,
        lanes: &[usize],
        samples: &[Sample],
    ) -> Result<B::Buffer, ModelError> {
        let counts: Vec<usize> = samples.iter().map(|sample| sample.tokens.len()).collect();
        let places = places(cache, lanes, &counts);
        let x = self.model.backend().inside(|| {
            let turns = self.model.text_turns(&places.positions)?;
            let mut x = self.model.embed(&Batch::new(samples, self.config()), &mut None)?;
            for i in 0..self.config().text.num_hidden_layers {
                x = self.layer(i, cache, &places, &turns, &x)?;
            }
            Ok::<_, ModelError>(x)
        })?;
        lanes.iter().zip(counts).for_each(|(&lane, count)| cache.advance(lane, count));
        Ok(x)
    }

    /// One layer: keys and values go to the cache, and every query looks at its own text up to itself.
    fn layer(
        &self,
        i: usize,
        cache: &mut Cache<B>,
        places: &Places,
        turns: &B::Buffer,
        x: &B::Buffer,
    ) -> Done<B::Buffer> {
        let (backend, width) = (self.model.backend(), cache.width());
        let projected = self.model.project(i, x, turns)?;
        let kept = cache.layer(i);
        let all: Vec<u32> = (0..places.own.len() as u32).collect();
        backend.copy_rows(width, &projected.k_turned, &all, &mut kept.keys, &places.own)?;
        backend.copy_rows(width, &projected.v, &all, &mut kept.values, &places.own)?;
        let attention: Attention<'_> = self.model.text_attention(&places.segments);
        let mut mixed = backend.scratch(backend.len(&projected.q_turned))?;
        let mut statistics = backend.scratch(all.len() * attention.heads * 2)?;
        let qkv = self.model.columns(&projected.q_turned, &kept.keys, &kept.values);
        backend.attention(attention, qkv, &mut mixed, &mut statistics)?;
        self.model.finish_layer(i, x, &mixed)
    }

    /// Logits behind some rows, row after row: one number for each token id.
    pub(super) fn logits(&self, hidden: &B::Buffer, rows: &[u32]) -> Result<Vec<f32>, ModelError> {
        let normed = self.model.final_norm(&self.model.pick(hidden, rows)?)?;
        self.model.logits(&normed)
    }
}

/// Where `counts` new tokens of the texts in `lanes` go.
fn places<B: Backend>(cache: &Cache<B>, lanes: &[usize], counts: &[usize]) -> Places {
    let mut places = Places { positions: Vec::new(), own: Vec::new(), segments: Vec::new() };
    for (&lane, &count) in lanes.iter().zip(counts) {
        let (own, keys) = cache.place(lane, count);
        let first = places.own.len();
        places.positions.extend(numbers(cache.length(lane)..cache.length(lane) + count));
        places.own.extend(numbers(own));
        places.segments.push(Segment { queries: first..first + count, keys });
    }
    places
}

fn numbers(rows: Range<usize>) -> Range<u32> {
    rows.start as u32..rows.end as u32
}

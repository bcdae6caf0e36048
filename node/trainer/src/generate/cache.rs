//! Keys and values of every layer, kept while texts grow.
//!
//! ```text
//! rows of a layer:  | lane 0: used ..... free | lane 1: used .. free | ...
//! ```
//!
//! A lane is the room of one text. All lanes of a layer lie in one buffer, so that one operation looks at the rows of all
//! texts.

use std::ops::Range;

use crate::{
    backend::{Backend, Done},
    config::ModelConfig,
};

/// The room of one text, in rows.
#[derive(Debug, Clone, Copy)]
struct Lane {
    start: usize,
    length: usize,
    capacity: usize,
}

/// Turned keys, and values, of one layer, `[rows, groups * d]` each.
#[derive(Debug)]
pub(super) struct Layer<B: Backend> {
    pub(super) keys: B::Buffer,
    pub(super) values: B::Buffer,
}

/// What the layers remember of some texts.
#[derive(Debug)]
pub(super) struct Cache<B: Backend> {
    lanes: Vec<Lane>,
    layers: Vec<Layer<B>>,
    width: usize,
}

impl<B: Backend> Cache<B> {
    /// Room for texts of these lengths.
    pub(super) fn new(
        backend: &B,
        config: &ModelConfig,
        capacities: impl IntoIterator<Item = usize>,
    ) -> Done<Self> {
        let mut rows = 0;
        let lane = |capacity| {
            let start = rows;
            rows += capacity;
            Lane { start, length: 0, capacity }
        };
        let lanes: Vec<Lane> = capacities.into_iter().map(lane).collect();
        let width = width(config);
        let layer =
            |_| Ok(Layer { keys: backend.scratch(rows * width)?, values: backend.scratch(rows * width)? });
        let layers = (0..config.text.num_hidden_layers).map(layer).collect::<Done<_>>()?;
        Ok(Self { lanes, layers, width })
    }

    /// Numbers in a row of keys, and in one of values.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Tokens of a text so far.
    pub(super) fn length(&self, lane: usize) -> usize {
        self.lanes[lane].length
    }

    /// Forgets what a text has behind its first `length` tokens.
    pub(super) fn truncate(&mut self, lane: usize, length: usize) {
        self.lanes[lane].length = self.lanes[lane].length.min(length);
    }

    /// Makes room for `more` tokens in the last lane, doubling it at least when it is full.
    pub(super) fn reserve(&mut self, backend: &B, more: usize) -> Done {
        let Some(lane) = self.lanes.last_mut() else { return Ok(()) };
        let wanted = lane.length + more;
        if wanted <= lane.capacity {
            return Ok(());
        }
        let capacity = wanted.max(2 * lane.capacity);
        let kept: Vec<u32> = (0..(lane.start + lane.length) as u32).collect();
        for layer in &mut self.layers {
            for buffer in [&mut layer.keys, &mut layer.values] {
                let mut larger = backend.scratch((lane.start + capacity) * self.width)?;
                backend.copy_rows(self.width, buffer, &kept, &mut larger, &kept)?;
                *buffer = larger;
            }
        }
        lane.capacity = capacity;
        Ok(())
    }

    /// Rows of a layer where `new` tokens of a text go, and those that they look at: the text so far and themselves.
    pub(super) fn place(&self, lane: usize, new: usize) -> (Range<usize>, Range<usize>) {
        let Lane { start, length, capacity } = self.lanes[lane];
        assert!(length + new <= capacity, "a text of {length} tokens and {new} more has room for {capacity}");
        let end = start + length + new;
        (start + length..end, start..end)
    }

    /// A layer's keys and values.
    pub(super) fn layer(&mut self, layer: usize) -> &mut Layer<B> {
        &mut self.layers[layer]
    }

    /// Counts `new` tokens as part of a text, once every layer has their rows.
    pub(super) fn advance(&mut self, lane: usize, new: usize) {
        self.lanes[lane].length += new;
    }
}

/// Bytes that one token takes in all layers.
pub(super) fn bytes_per_row(config: &ModelConfig) -> usize {
    2 * size_of::<f32>() * width(config) * config.text.num_hidden_layers
}

fn width(config: &ModelConfig) -> usize {
    config.text.num_key_value_heads * config.text.head_dim
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cpu::Cpu, presets::demo_model};

    #[test]
    fn lanes_do_not_overlap_and_growing_keeps_what_is_there() {
        let (cpu, config) = (Cpu::default(), demo_model(64));
        let mut cache = Cache::new(&cpu, &config, [3, 2]).unwrap();
        let width = cache.width();
        assert_eq!((cache.place(0, 3), cache.place(1, 2)), ((0..3, 0..3), (3..5, 3..5)));
        cache.advance(0, 3);
        cache.advance(1, 1);
        assert_eq!(cache.place(1, 1), (4..5, 3..5));
        let numbers: Vec<f32> = (0..5 * width).map(|i| i as f32).collect();
        cache.layer(2).keys = cpu.upload(&numbers).unwrap();
        cache.reserve(&cpu, 1).unwrap();
        assert_eq!(cpu.len(&cache.layer(2).keys), 5 * width, "there was room");
        cache.reserve(&cpu, 2).unwrap();
        let grown = cpu.download(&cache.layer(2).keys).unwrap();
        assert_eq!(grown.len(), 7 * width, "doubled");
        assert_eq!(grown[..4 * width], numbers[..4 * width]);
        assert_eq!(cache.place(1, 3), (4..7, 3..7));
        cache.truncate(1, 0);
        assert_eq!((cache.length(0), cache.length(1)), (3, 0));
    }

    #[test]
    #[should_panic(expected = "has room for 2")]
    fn a_text_never_runs_into_the_next_one() {
        Cache::new(&Cpu::default(), &demo_model(64), [2, 9]).unwrap().place(0, 3);
    }
}

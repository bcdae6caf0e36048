//! Attention: tiles of rows for the kernels to own, one pass forward, two backward.

use talkoot_trainer::backend::{Attention, Backend, Columns, ColumnsMut, Done, Qkv, Segment};

use super::Fast;
use crate::{
    buffer::{Buffer, Lent},
    cuda::launch::{columns, columns_mut, count, grid, line, size},
    device::{Argument, Device},
    kernels::{
        FAST_ATTENTION_64, FAST_ATTENTION_128, FAST_ATTENTION_KEYS_64, FAST_ATTENTION_KEYS_128,
        FAST_ATTENTION_QUERIES_64, FAST_ATTENTION_QUERIES_128, FAST_ROW_PRODUCTS, Kernel,
    },
};

/// Rows that a block owns, as the kernels have it.
const TILE: usize = 64;
const THREADS: u32 = 128;
/// Numbers of a tile.
const NUMBERS: usize = 5;

/// Kernels for heads of one width or less: forward, gradient of queries, gradients of keys and values.
pub(super) type Kernels = [Kernel; 3];

/// The kernels for heads of this width; none, where heads are too wide.
pub(super) fn kernels_of(width: usize) -> Option<Kernels> {
    match width {
        0..=64 => Some([FAST_ATTENTION_64, FAST_ATTENTION_QUERIES_64, FAST_ATTENTION_KEYS_64]),
        65..=128 => Some([FAST_ATTENTION_128, FAST_ATTENTION_QUERIES_128, FAST_ATTENTION_KEYS_128]),
        _ => None,
    }
}

/// Tiles of some rows of each segment, as `Tile` of `kernels/shared/heads.cuh` has it.
fn tiles(segments: &[Segment], rows: impl Fn(&Segment) -> usize) -> Vec<u32> {
    let of = |segment: &Segment| {
        let (queries, keys) = (segment.queries.clone(), segment.keys.clone());
        let firsts = (0..rows(segment)).step_by(TILE);
        firsts.flat_map(move |first| {
            [first, queries.start, queries.len(), keys.start, keys.len()].map(|number| number as u32)
        })
    };
    segments.iter().flat_map(of).collect()
}

/// Rows of queries and of keys that segments reach.
fn reach(segments: &[Segment]) -> (usize, usize) {
    let last = |end: fn(&Segment) -> usize| segments.iter().map(end).max().unwrap_or(0);
    (last(|segment| segment.queries.end), last(|segment| segment.keys.end))
}

/// Queries, keys and values with their strides.
fn operands<'a, D: Device>(
    attention: &Attention<'_>,
    qkv: &Qkv<Columns<'a, Buffer<D>>>,
) -> Vec<Argument<'a, D::Memory>> {
    let (queries, keys) = reach(attention.segments);
    let (q_width, k_width) = (attention.heads * attention.width, attention.groups * attention.width);
    vec![
        columns(&qkv.q, queries, q_width),
        count(qkv.q.stride),
        columns(&qkv.k, keys, k_width),
        count(qkv.k.stride),
        columns(&qkv.v, keys, k_width),
        count(qkv.v.stride),
    ]
}

/// Tiles and sizes.
fn sizes<'a, D: Device>(attention: &Attention<'_>, tiles: &'a Lent<D>) -> [Argument<'a, D::Memory>; 6] {
    [
        Argument::Memory(tiles.memory(), 0),
        size(attention.heads),
        size(attention.groups),
        size(attention.width),
        Argument::U32(u32::from(attention.causal)),
        Argument::F32((1.0 / (attention.width as f64).sqrt()) as f32),
    ]
}

impl<D: Device> Fast<D> {
    pub(super) fn attend(
        &self,
        [forward, ..]: Kernels,
        attention: Attention<'_>,
        qkv: &Qkv<Columns<'_, Buffer<D>>>,
        y: &Buffer<D>,
        statistics: &Buffer<D>,
    ) -> Done {
        const NAME: &str = "attention";
        let Attention { segments, heads, width, .. } = attention;
        let list = tiles(segments, |segment| segment.queries.len());
        if list.is_empty() {
            return Ok(());
        }
        let tiles = self.indices(NAME, &list)?;
        let (queries, _) = reach(segments);
        let mut arguments = operands(&attention, qkv);
        arguments.extend(sizes(&attention, &tiles));
        arguments.push(y.all().holding(queries * heads * width));
        arguments.push(statistics.all().holding(queries * heads * 2));
        self.run(NAME, forward, grid([list.len() / NUMBERS, heads], THREADS), &arguments)
    }

    pub(super) fn attend_backward(
        &self,
        [_, of_queries, of_keys]: Kernels,
        attention: Attention<'_>,
        qkv: &Qkv<Columns<'_, Buffer<D>>>,
        (y, statistics, dy): (&Buffer<D>, &Buffer<D>, &Buffer<D>),
        gradients: &Qkv<ColumnsMut<'_, Buffer<D>>>,
    ) -> Done {
        const NAME: &str = "backward of attention";
        let Attention { segments, heads, groups, width, .. } = attention;
        let (queries, keys) = reach(segments);
        let products = self.scratch(queries * heads)?;
        let arguments = [
            y.all().holding(queries * heads * width),
            dy.all().holding(queries * heads * width),
            size(queries * heads),
            size(width),
            products.all().holding(queries * heads),
        ];
        // eight warps a block, a row each
        self.run(NAME, FAST_ROW_PRODUCTS, line(queries * heads, 8, 256), &arguments)?;
        let kept = || {
            [
                dy.all().holding(queries * heads * width),
                statistics.all().holding(queries * heads * 2),
                products.all().holding(queries * heads),
            ]
        };
        let list = tiles(segments, |segment| segment.queries.len());
        let query_tiles = self.indices(NAME, &list)?;
        let blocks = grid([list.len() / NUMBERS, heads], THREADS);
        let mut arguments = operands(&attention, qkv);
        arguments.extend(kept());
        arguments.extend(sizes(&attention, &query_tiles));
        arguments.push(columns_mut(&gradients.q, queries, heads * width));
        arguments.push(count(gradients.q.stride));
        self.run(NAME, of_queries, blocks, &arguments)?;

        let list = tiles(segments, |segment| segment.keys.len());
        let key_tiles = self.indices(NAME, &list)?;
        let blocks = grid([list.len() / NUMBERS, groups], THREADS);
        let mut arguments = operands(&attention, qkv);
        arguments.extend(kept());
        arguments.extend(sizes(&attention, &key_tiles));
        for to in [&gradients.k, &gradients.v] {
            arguments.push(columns_mut(to, keys, groups * width));
            arguments.push(count(to.stride));
        }
        self.run(NAME, of_keys, blocks, &arguments)
    }
}

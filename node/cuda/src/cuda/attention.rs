//! Attention inside segments.

use talkoot_trainer::backend::{Attention, Backend, BackendError, Columns, ColumnsMut, Done, Qkv, Segment};

use super::{
    Cuda,
    launch::{columns, columns_mut, count, grid, line, size},
};
use crate::{
    buffer::{Buffer, Lent},
    class::Class,
    device::{Argument, Device},
    kernels::{
        ATTENTION_64, ATTENTION_128, ATTENTION_256, ATTENTION_KEYS_64, ATTENTION_KEYS_128,
        ATTENTION_KEYS_256, ATTENTION_QUERIES_64, ATTENTION_QUERIES_128, ATTENTION_QUERIES_256, Kernel,
        ROW_PRODUCTS,
    },
};

/// Queries that are looked at together. Part of the exact class.
const TILE: usize = 84;
/// Keys whose gradients a block makes.
const KEYS: usize = 32;
/// Threads of a block for a tile of queries.
const QUERY_THREADS: u32 = 448;
/// Threads of a block for keys.
const KEY_THREADS: u32 = 256;

/// Kernels for heads of at most so many numbers: forward, gradient of queries, gradients of keys and values.
const WIDTHS: [(usize, [Kernel; 3]); 3] = [
    (64, [ATTENTION_64, ATTENTION_QUERIES_64, ATTENTION_KEYS_64]),
    (128, [ATTENTION_128, ATTENTION_QUERIES_128, ATTENTION_KEYS_128]),
    (256, [ATTENTION_256, ATTENTION_QUERIES_256, ATTENTION_KEYS_256]),
];

/// The kernels for heads of this width.
fn kernels_of(operation: &'static str, width: usize) -> Done<[Kernel; 3]> {
    let found = WIDTHS.iter().find(|(most, _)| width <= *most).map(|(_, kernels)| *kernels);
    found.ok_or_else(|| BackendError::Device {
        operation,
        reason: format!("heads of {width} numbers; kernels are made for 256 at most"),
    })
}

/// Pieces of segments, as kernels read them: see `Work` in `attention.cuh`.
fn pieces(segments: &[Segment], each: usize, of: impl Fn(&Segment) -> usize) -> Vec<u32> {
    let small = |n: usize| u32::try_from(n).expect("rows are counted in 32 bits");
    let piece = |segment: &Segment, start| {
        let Segment { queries, keys } = segment;
        [queries.start, queries.len(), keys.start, keys.len(), start].map(small)
    };
    // longest segments first, so that blocks end together
    let mut segments: Vec<&Segment> = segments.iter().collect();
    segments.sort_by_key(|segment| std::cmp::Reverse(segment.queries.len() * segment.keys.len()));
    let of_segment = |segment: &Segment| -> Vec<[u32; 5]> {
        (0..of(segment)).step_by(each).map(|start| piece(segment, start)).collect()
    };
    segments.into_iter().flat_map(of_segment).flatten().collect()
}

/// Numbers of one [`pieces`].
const PIECE: usize = 5;

/// Rows of queries and of keys that segments reach.
fn reach(attention: &Attention<'_>) -> (usize, usize) {
    let queries = attention.segments.iter().map(|segment| segment.queries.end).max();
    let keys = attention.segments.iter().map(|segment| segment.keys.end).max();
    (queries.unwrap_or(0), keys.unwrap_or(0))
}

/// Queries, keys and values with their strides.
fn operands<'a, D: Device>(
    attention: &Attention<'_>,
    qkv: &Qkv<Columns<'a, Buffer<D>>>,
) -> Vec<Argument<'a, D::Memory>> {
    let (queries, keys) = reach(attention);
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

/// Work and sizes.
fn sizes<'a, D: Device>(attention: &Attention<'_>, work: &'a Lent<D>) -> [Argument<'a, D::Memory>; 6] {
    let scale = (1.0 / (attention.width as f64).sqrt()) as f32;
    [
        Argument::Memory(work.memory(), 0),
        size(attention.heads),
        size(attention.groups),
        size(attention.width),
        Argument::F32(scale),
        Argument::U32(u32::from(attention.causal)),
    ]
}

impl<D: Device, C: Class> Cuda<D, C> {
    pub(crate) fn attention_forward(
        &self,
        attention: Attention<'_>,
        qkv: &Qkv<Columns<'_, Buffer<D>>>,
        y: &Buffer<D>,
        statistics: &Buffer<D>,
    ) -> Done {
        const NAME: &str = "attention";
        let [forward, ..] = kernels_of(NAME, attention.width)?;
        let tiles = pieces(attention.segments, TILE, |segment| segment.queries.len());
        let work = self.indices(NAME, &tiles)?;
        let (queries, _) = reach(&attention);
        let mut arguments = operands(&attention, qkv);
        arguments.extend(sizes(&attention, &work));
        arguments.push(y.all().holding(queries * attention.heads * attention.width));
        arguments.push(statistics.all().holding(queries * attention.heads * 2));
        self.run(NAME, forward, grid([tiles.len() / PIECE, attention.heads], QUERY_THREADS), &arguments)
    }

    pub(crate) fn attention_gradients(
        &self,
        attention: Attention<'_>,
        qkv: &Qkv<Columns<'_, Buffer<D>>>,
        y: &Buffer<D>,
        statistics: &Buffer<D>,
        dy: &Buffer<D>,
        gradients: &Qkv<ColumnsMut<'_, Buffer<D>>>,
    ) -> Done {
        const NAME: &str = "attention_backward";
        let [_, of_queries, of_keys] = kernels_of(NAME, attention.width)?;
        let Attention { segments, heads, groups, width, .. } = attention;
        let (queries, keys) = reach(&attention);
        let d = self.scratch(queries * heads)?;
        let arguments = [
            dy.all().holding(queries * heads * width),
            y.all().holding(queries * heads * width),
            d.all().holding(queries * heads),
            size(queries * heads),
            size(width),
        ];
        self.run(NAME, ROW_PRODUCTS, line(queries * heads, 16, 256), &arguments)?;
        let tiles = pieces(segments, TILE, |segment| segment.queries.len());
        let blocks = pieces(segments, KEYS, |segment| segment.keys.len());
        let [tile_work, block_work] = [self.indices(NAME, &tiles)?, self.indices(NAME, &blocks)?];
        let inputs = |work| {
            let mut arguments = operands(&attention, qkv);
            arguments.push(statistics.all().holding(queries * heads * 2));
            arguments.push(d.all().holding(queries * heads));
            arguments.push(dy.all().holding(queries * heads * width));
            arguments.extend(sizes(&attention, work));
            arguments
        };
        let mut arguments = inputs(&tile_work);
        arguments.push(columns_mut(&gradients.q, queries, heads * width));
        arguments.push(count(gradients.q.stride));
        self.run(NAME, of_queries, grid([tiles.len() / PIECE, heads], QUERY_THREADS), &arguments)?;
        let mut arguments = inputs(&block_work);
        for to in [&gradients.k, &gradients.v] {
            arguments.push(columns_mut(to, keys, groups * width));
            arguments.push(count(to.stride));
        }
        self.run(NAME, of_keys, grid([blocks.len() / PIECE, groups], KEY_THREADS), &arguments)
    }
}

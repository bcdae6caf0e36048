//! Forward: weighted values, and what the backward needs of each row.

use rayon::prelude::*;

use super::{
    Block, TILE, Task, head_of, heads_of, put_down, scale_of, tasks,
    tile::{self, Sight},
    tiles,
};
use crate::{
    backend::{Attention, Columns, Qkv},
    cpu::{
        Buffer, Cpu,
        gemm::{Matrix, MatrixMut, Packed, Start, multiply_packed},
    },
};

/// What a task makes of one head.
struct Head {
    /// First row of the queries.
    row: usize,
    head: usize,
    /// `[queries, d]`.
    y: Buffer,
    /// `[queries, 2]`.
    statistics: Vec<[f32; 2]>,
}

/// `y [n, heads * d]` and `statistics [n, heads, 2]`.
pub(in crate::cpu) fn forward(
    cpu: &Cpu,
    attention: Attention<'_>,
    qkv: &Qkv<Columns<'_, Buffer>>,
    y: &mut [f32],
    statistics: &mut [f32],
) {
    let work = tasks(&attention).into_par_iter();
    let made: Vec<Head> = work.flat_map_iter(|task| heads(cpu, &attention, qkv, task)).collect();
    let (width, row) = (attention.width, attention.heads * attention.width);
    let outputs = made.iter().map(|h| Block { row: h.row, column: h.head * width, numbers: &h.y });
    put_down(outputs.collect(), width, y, row);
    let kept =
        made.iter().map(|h| Block { row: h.row, column: 2 * h.head, numbers: h.statistics.as_flattened() });
    put_down(kept.collect(), 2, statistics, 2 * attention.heads);
}

/// The heads of one group of one segment: keys and values are packed once for all of them.
fn heads(cpu: &Cpu, attention: &Attention<'_>, qkv: &Qkv<Columns<'_, Buffer>>, task: Task<'_>) -> Vec<Head> {
    let (width, rows, keys) = (attention.width, task.segment.queries.len(), task.segment.keys.len());
    let part = |columns| head_of(columns, &task.segment.keys, task.group, width);
    let keys_across = Packed::new(cpu.isa, cpu.products, &cpu.pool, part(&qkv.k).transposed());
    let values = Packed::new(cpu.isa, cpu.products, &cpu.pool, part(&qkv.v));
    let mut scores = cpu.pool.take(TILE.min(rows) * keys);
    let one = |head| {
        let queries = head_of(&qkv.q, &task.segment.queries, head, width);
        let (mut y, mut statistics) = (cpu.pool.take(rows * width), vec![[0.0f32; 2]; rows]);
        for tile in tiles(rows) {
            let sight = Sight::new(attention, rows, keys, &tile);
            let (count, seen) = (tile.len(), sight.of(tile.len() - 1));
            let (scores, statistics) = (&mut scores[..count * seen], &mut statistics[tile.clone()]);
            let y = &mut y[tile.start * width..tile.end * width];
            let into = MatrixMut::new(scores, count, seen);
            multiply_packed(cpu.isa, queries.rows(tile), &keys_across, Start::Zero, into);
            tile::exponentials(cpu.isa, scores, seen, scale_of(attention), sight, statistics);
            let weights = Matrix::new(scores, count, seen);
            multiply_packed(cpu.isa, weights, &values, Start::Zero, MatrixMut::new(y, count, width));
            tile::scale_rows(cpu.isa, y, width, statistics);
        }
        Head { row: task.segment.queries.start, head, y, statistics }
    };
    heads_of(attention, task.group).map(one).collect()
}

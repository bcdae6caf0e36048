//! Backward: the weights are computed again from queries, keys and kept statistics.

use rayon::prelude::*;

use super::{
    Block, TILE, Task, head_of, heads_of, put_down, scale_of, tasks,
    tile::{self, Sight},
    tiles,
};
use crate::{
    backend::{Attention, Columns, ColumnsMut, Qkv},
    cpu::{
        Buffer, Cpu,
        gemm::{Matrix, MatrixMut, Packed, Start, multiply_alone, multiply_packed},
    },
};

/// What the backward reads besides queries, keys and values.
struct Kept<'a> {
    /// Outputs `[n, heads * d]`.
    y: &'a [f32],
    /// `[n, heads, 2]`.
    statistics: &'a [f32],
    /// Gradient of the outputs `[n, heads * d]`.
    dy: &'a [f32],
}

/// Gradients of one group of one segment.
struct Group<'a> {
    task: Task<'a>,
    /// Per head of the group `[queries, d]`.
    dq: Vec<Buffer>,
    /// `[keys, d]`.
    dk: Buffer,
    /// `[keys, d]`.
    dv: Buffer,
}

/// Gradients of queries, keys and values, replaced.
pub(in crate::cpu) fn backward(
    cpu: &Cpu,
    attention: Attention<'_>,
    qkv: &Qkv<Columns<'_, Buffer>>,
    y: &[f32],
    statistics: &[f32],
    dy: &[f32],
    gradients: Qkv<ColumnsMut<'_, Buffer>>,
) {
    let kept = Kept { y, statistics, dy };
    let work = tasks(&attention).into_par_iter();
    let made: Vec<Group<'_>> = work.map(|task| group(cpu, &attention, qkv, &kept, task)).collect();
    let width = attention.width;
    let (mut queries, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for Group { task, dq, dk, dv } in &made {
        let (row, column) = (task.segment.keys.start, task.group * width);
        keys.push(Block { row, column, numbers: dk });
        values.push(Block { row, column, numbers: dv });
        let (row, heads) = (task.segment.queries.start, heads_of(&attention, task.group));
        queries.extend(heads.zip(dq).map(|(head, dq)| Block { row, column: head * width, numbers: dq }));
    }
    for (blocks, to) in [(queries, gradients.q), (keys, gradients.k), (values, gradients.v)] {
        put_down(blocks, width, &mut to.buffer[to.start..], to.stride);
    }
}

fn group<'a>(
    cpu: &Cpu,
    attention: &Attention<'_>,
    qkv: &Qkv<Columns<'_, Buffer>>,
    kept: &Kept<'_>,
    task: Task<'a>,
) -> Group<'a> {
    let (width, rows, keys) = (attention.width, task.segment.queries.len(), task.segment.keys.len());
    let (k, v) = (
        head_of(&qkv.k, &task.segment.keys, task.group, width),
        head_of(&qkv.v, &task.segment.keys, task.group, width),
    );
    let keys_down = Packed::new(cpu.isa, cpu.products, &cpu.pool, k);
    let keys_across = Packed::new(cpu.isa, cpu.products, &cpu.pool, k.transposed());
    let values_across = Packed::new(cpu.isa, cpu.products, &cpu.pool, v.transposed());
    let (mut dk, mut dv) = (cpu.pool.zeros(keys * width), cpu.pool.zeros(keys * width));
    let mut room = [(); 2].map(|()| cpu.pool.take(TILE.min(rows) * keys));
    let row = attention.heads * width;
    let one = |head: usize| {
        let q = head_of(&qkv.q, &task.segment.queries, head, width);
        let first = task.segment.queries.start;
        let of_head = |numbers: &'_ [f32]| -> usize { numbers.len().min(first * row + head * width) };
        let (y, dy) = (&kept.y[of_head(kept.y)..], &kept.dy[of_head(kept.dy)..]);
        let mut dq = cpu.pool.take(rows * width);
        for tile in tiles(rows) {
            let sight = Sight::new(attention, rows, keys, &tile);
            let (count, seen) = (tile.len(), sight.of(tile.len() - 1));
            let [p, ds] = room.each_mut().map(|room| &mut room[..count * seen]);
            let statistics: Vec<[f32; 2]> = tile
                .clone()
                .map(|i| {
                    let at = ((first + i) * attention.heads + head) * 2;
                    [kept.statistics[at], kept.statistics[at + 1]]
                })
                .collect();
            let scale = scale_of(attention);
            let q = q.rows(tile.clone());
            multiply_packed(cpu.isa, q, &keys_across, Start::Zero, MatrixMut::new(p, count, seen));
            tile::weights(cpu.isa, p, seen, scale, sight, &statistics);

            let dy_tile = Matrix::strided(&dy[tile.start * row..], count, width, row);
            multiply_packed(cpu.isa, dy_tile, &values_across, Start::Zero, MatrixMut::new(ds, count, seen));
            let mut d = vec![0.0f32; count];
            tile::row_products(
                cpu.isa,
                &dy[tile.start * row..],
                row,
                &y[tile.start * row..],
                row,
                width,
                &mut d,
            );
            tile::score_gradients(cpu.isa, p, ds, seen, scale, &d);

            let (p, ds) = (Matrix::new(p, count, seen), Matrix::new(ds, count, seen));
            let dq = &mut dq[tile.start * width..tile.end * width];
            multiply_packed(cpu.isa, ds, &keys_down, Start::Zero, MatrixMut::new(dq, count, width));
            let add = |a: Matrix<'_>, b, to: &mut [f32]| {
                let to = MatrixMut::new(&mut to[..seen * width], seen, width);
                multiply_alone(cpu.isa, cpu.products, a.transposed(), b, Start::Continue, to);
            };
            add(ds, q, &mut dk);
            add(p, dy_tile, &mut dv);
        }
        dq
    };
    let dq = heads_of(attention, task.group).map(one).collect();
    Group { task, dq, dk, dv }
}

//! Rows of tables, copied and added, and sums over rows.
//!
//! An embedding is a copy from the rows of its table, its gradient an addition to them; the same two operations put
//! pictures into a row of text and take them out again. Additions to one row keep their order.

pub(super) mod parallel;

use rayon::prelude::*;

use self::parallel::{columns_of_task, numbers_of_task, rows_of_task};
use super::isa::{Isa, for_each_isa};

/// A row that is to be read, and where it goes.
#[derive(Clone, Copy)]
struct Move {
    to: u32,
    from: u32,
}

/// `to[to_rows[i]] = from[from_rows[i]]`; no row is written twice.
pub(super) fn copy(width: usize, from: &[f32], from_rows: &[u32], to: &mut [f32], to_rows: &[u32]) {
    let moves = by_destination(from_rows, to_rows);
    debug_assert!(moves.windows(2).all(|pair| pair[0].to < pair[1].to), "no row is written twice");
    move_rows(width, &moves, to, 0, &|moves, to, first| {
        for &Move { to: row, from: source } in moves {
            row_mut(to, width, row as usize - first).copy_from_slice(row_of(from, width, source as usize));
        }
    });
}

/// `to[to_rows[i]] += from[from_rows[i]]`, in ascending order of `i` for every row that is written.
pub(super) fn add(isa: Isa, width: usize, from: &[f32], from_rows: &[u32], to: &mut [f32], to_rows: &[u32]) {
    let moves = by_destination(from_rows, to_rows);
    move_rows(width, &moves, to, 0, &|moves, to, first| add_moves(isa, width, moves, from, to, first));
}

/// `y += x`.
pub(super) fn add_all(isa: Isa, x: &[f32], y: &mut [f32]) {
    let part = numbers_of_task(y.len());
    y.par_chunks_mut(part).zip(x.par_chunks(part)).for_each(|(y, x)| add_part(isa, x, y));
}

/// `sums [w] +=` the sums of the columns of `x [n, w]`, rows in ascending order.
pub(super) fn add_column_sums(isa: Isa, x: &[f32], sums: &mut [f32]) {
    let width = sums.len();
    let part = columns_of_task(width, x.len() / width.max(1));
    let parts = sums.par_chunks_mut(part).enumerate();
    parts.for_each(|(i, sums)| sum_columns(isa, width, i * part, x, sums));
}

/// Moves in ascending order of the row they write; those to one row stay in their order.
fn by_destination(from_rows: &[u32], to_rows: &[u32]) -> Vec<Move> {
    assert_eq!(from_rows.len(), to_rows.len(), "every row that is read goes somewhere");
    let mut moves: Vec<Move> = from_rows.iter().zip(to_rows).map(|(&from, &to)| Move { to, from }).collect();
    moves.sort_by_key(|row| row.to);
    moves
}

/// Gives every thread a range of the rows that are written, with about half of the moves on each side of a cut. `to`
/// begins at row `first`, which `serve` is told with its part.
fn move_rows<F>(width: usize, moves: &[Move], to: &mut [f32], first: usize, serve: &F)
where
    F: Fn(&[Move], &mut [f32], usize) + Sync,
{
    let few = moves.len() <= rows_of_task(width, moves.len() * width);
    let Some(cut) = cut_near_half(moves).filter(|_| !few) else {
        return serve(moves, to, first);
    };
    let (early, late) = moves.split_at(cut);
    let row = late[0].to as usize;
    let (above, below) = to.split_at_mut((row - first) * width);
    rayon::join(
        || move_rows(width, early, above, first, serve),
        || move_rows(width, late, below, row, serve),
    );
}

/// Where moves can be cut without cutting those to one row: before the row that the middle one goes to, or behind it
/// where that row is the first. `None` where all go to one row.
fn cut_near_half(moves: &[Move]) -> Option<usize> {
    let middle = moves.get(moves.len() / 2)?.to;
    let cuts = [moves.partition_point(|row| row.to < middle), moves.partition_point(|row| row.to <= middle)];
    cuts.into_iter().find(|cut| (1..moves.len()).contains(cut))
}

#[inline(always)]
fn row_of(table: &[f32], width: usize, row: usize) -> &[f32] {
    &table[row * width..(row + 1) * width]
}

#[inline(always)]
fn row_mut(table: &mut [f32], width: usize, row: usize) -> &mut [f32] {
    &mut table[row * width..(row + 1) * width]
}

for_each_isa! {
    fn add_moves(width: usize, moves: &[Move], from: &[f32], to: &mut [f32], first: usize) {
        for &Move { to: row, from: source } in moves {
            let x = row_of(from, width, source as usize);
            for (y, x) in row_mut(to, width, row as usize - first).iter_mut().zip(x) {
                *y += x;
            }
        }
    }
}

for_each_isa! {
    fn add_part(x: &[f32], y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y += x;
        }
    }
}

for_each_isa! {
    fn sum_columns(width: usize, first: usize, x: &[f32], sums: &mut [f32]) {
        for x in x.chunks_exact(width) {
            for (sum, x) in sums.iter_mut().zip(&x[first..]) {
                *sum += x;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testkit::{Case, WIDTHS, check_gradients, random, same_bits_everywhere};

    /// `count` row numbers below `rows`, with repetitions.
    fn some_rows(count: usize, rows: usize, seed: u64) -> Vec<u32> {
        random(count, seed).iter().map(|x| ((x + 2.0) / 4.0 * rows as f32) as u32).collect()
    }

    /// Addition as it is defined, in ascending order of `i`.
    fn defined(width: usize, from: &[f32], from_rows: &[u32], to: &mut [f32], to_rows: &[u32]) {
        for (&a, &b) in from_rows.iter().zip(to_rows) {
            for column in 0..width {
                to[b as usize * width + column] += from[a as usize * width + column];
            }
        }
    }

    #[test]
    fn added_rows_keep_their_order_to_the_bit() {
        for width in WIDTHS {
            let (from, start) = (random(50 * width, 1), random(9 * width, 2));
            let (from_rows, to_rows) = (some_rows(120, 50, 3), some_rows(120, 9, 4));
            let (mut ours, mut expected) = (start.clone(), start);
            add(Isa::best(), width, &from, &from_rows, &mut ours, &to_rows);
            defined(width, &from, &from_rows, &mut expected, &to_rows);
            assert_eq!(ours, expected, "width {width}");
        }
    }

    #[test]
    fn adding_rows_is_the_gradient_of_copying_them() {
        let (table, dy) = (random(6 * 5, 1), random(8 * 5, 2));
        let (tokens, places) = ([0, 5, 2, 2, 0, 2, 1, 4], [0, 1, 2, 3, 4, 5, 6, 7]);
        let mut dtable = vec![0.0; 30];
        add(Isa::best(), 5, &dy, &places, &mut dtable, &tokens);
        let formula = |a: &[Vec<f64>]| {
            tokens.iter().flat_map(|&token| a[0][token as usize * 5..][..5].to_vec()).collect()
        };
        let case = Case { what: "embedding", arguments: &[&table], dy: &dy };
        check_gradients(&case, formula, &[Some(&dtable)]);
        let mut y = vec![f32::NAN; 40];
        copy(5, &table, &tokens, &mut y, &places);
        assert!(y.chunks(5).zip(tokens).all(|(row, token)| row == row_of(&table, 5, token as usize)));
    }

    #[test]
    fn copies_reach_their_rows_and_no_others() {
        let (rows, width) = (4000, 33);
        let from = random(rows * width, 1);
        // every other row, in an order of its own
        let to_rows: Vec<u32> = (0..rows as u32 / 2).map(|i| i * 1237 % 2000 * 2).collect();
        let from_rows: Vec<u32> = to_rows.iter().rev().copied().collect();
        let mut to = vec![7.0; rows * width];
        copy(width, &from, &from_rows, &mut to, &to_rows);
        for (&a, &b) in from_rows.iter().zip(&to_rows) {
            assert_eq!(row_of(&to, width, b as usize), row_of(&from, width, a as usize));
        }
        assert!((0..rows / 2).all(|i| row_of(&to, width, 2 * i + 1).iter().all(|&x| x == 7.0)));
    }

    #[test]
    fn cuts_fall_between_rows() {
        let moves = |rows: &[u32]| by_destination(rows, rows);
        assert_eq!(cut_near_half(&moves(&[4, 1, 7, 4, 9, 4])), Some(1));
        assert_eq!(cut_near_half(&moves(&[1, 1, 1, 1, 7])), Some(4));
        assert_eq!(cut_near_half(&moves(&[3, 3, 3])), None);
        assert_eq!(cut_near_half(&[]), None);
    }

    #[test]
    fn nothing_to_move_moves_nothing() {
        let mut to = vec![1.0; 4];
        copy(2, &[], &[], &mut to, &[]);
        add(Isa::best(), 2, &[], &[], &mut to, &[]);
        add_column_sums(Isa::best(), &[], &mut to);
        assert_eq!(to, [1.0; 4]);
    }

    #[test]
    fn column_sums_go_on_from_what_stands_there() {
        let x = random(9 * 7, 1);
        let mut sums = vec![0.5; 7];
        add_column_sums(Isa::best(), &x[..4 * 7], &mut sums);
        add_column_sums(Isa::best(), &x[4 * 7..], &mut sums);
        let expected: Vec<f32> = (0..7).map(|c| (0..9).fold(0.5, |sum, r| sum + x[r * 7 + c])).collect();
        assert_eq!(sums, expected);
    }

    #[test]
    fn bits_are_the_same_everywhere() {
        let (rows, width) = (900, 130);
        let (from, start) = (random(rows * width, 1), random(rows * width, 2));
        let mut to_rows = some_rows(3000, rows, 4);
        // a row that a third of all goes to
        to_rows[..1000].fill(5);
        let from_rows = some_rows(3000, rows, 3);
        same_bits_everywhere("rows", |isa| {
            let (mut to, mut sums, mut all) = (start.clone(), vec![0.0; width], start.clone());
            add(isa, width, &from, &from_rows, &mut to, &to_rows);
            add_column_sums(isa, &from, &mut sums);
            add_all(isa, &from, &mut all);
            vec![to, sums, all]
        });
        let mut expected = start.clone();
        defined(width, &from, &from_rows, &mut expected, &to_rows);
        let mut ours = start;
        add(Isa::best(), width, &from, &from_rows, &mut ours, &to_rows);
        assert_eq!(ours, expected);
    }
}

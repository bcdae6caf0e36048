//! Dot products of rows with the rows of a table that is packed once: what a search for similar rows is made of.

use std::fmt;

use super::{
    Cpu,
    gemm::{self, Matrix, MatrixMut, Panels, Start},
};

/// Rows of numbers, packed for many products.
pub struct PackedRows {
    panels: Panels,
}

impl PackedRows {
    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.panels.columns()
    }

    /// Numbers of a row.
    pub fn width(&self) -> usize {
        self.panels.rows()
    }
}

impl fmt::Debug for PackedRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows of {} numbers", self.rows(), self.width())
    }
}

impl Cpu {
    /// Packs `table [t, width]`, row after row, on the calling thread.
    ///
    /// # Panics
    ///
    /// When `table` is no whole number of rows.
    pub fn pack_rows(&self, table: &[f32], width: usize) -> PackedRows {
        let rows = table.len() / width.max(1);
        assert_eq!(rows * width, table.len(), "whole rows of {width} numbers");
        let columns = Matrix::new(table, rows, width).transposed();
        PackedRows { panels: Panels::new(self.isa, &self.pool, columns) }
    }

    /// `y [n, t]`: the dot product of each row of `x [n, width]` with each of the `t` rows of `table`, on the calling
    /// thread.
    ///
    /// Always in fixed order, each one chain of fused multiply-adds over ascending columns: the bits are the same on
    /// every machine, and however rows are put together to be multiplied.
    ///
    /// # Panics
    ///
    /// When `x` is no whole number of rows, or `y` is not `n` times `t` numbers.
    pub fn dots(&self, x: &[f32], table: &PackedRows, y: &mut [f32]) {
        let (width, columns) = (table.width(), table.rows());
        let rows = x.len() / width.max(1);
        assert_eq!(rows * width, x.len(), "whole rows of {width} numbers");
        assert_eq!(rows * columns, y.len(), "{rows} x {columns} products");
        let (x, y) = (Matrix::new(x, rows, width), MatrixMut::new(y, rows, columns));
        gemm::multiply_panels(self.isa, x, &table.panels, Start::Zero, y);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testkit::{random, same_bits_everywhere};
    use crate::cpu::{Isa, Products};

    #[test]
    fn products_are_chains_in_order_whatever_they_are_put_together_with() {
        for (rows, columns, width) in [(1, 1, 1), (5, 3, 17), (50, 33, 700), (85, 31, 64)] {
            let (x, table) = (random(rows * width, 1), random(columns * width, 2));
            let chain = |i: usize, j: usize| {
                (0..width).fold(0.0f32, |sum, k| x[i * width + k].mul_add(table[j * width + k], sum))
            };
            let expected: Vec<f32> =
                (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))).map(|(i, j)| chain(i, j)).collect();
            same_bits_everywhere("dots", |isa| {
                let cpu = Cpu::new(isa, Products::GemmCrate);
                let packed = cpu.pack_rows(&table, width);
                assert_eq!((packed.rows(), packed.width()), (columns, width));
                let mut y = vec![f32::NAN; rows * columns];
                cpu.dots(&x, &packed, &mut y);
                vec![y]
            });
            let cpu = Cpu::new(Isa::best(), Products::FixedOrder);
            let packed = cpu.pack_rows(&table, width);
            let mut y = vec![f32::NAN; rows * columns];
            let cut = rows / 2;
            let (first, second) = y.split_at_mut(cut * columns);
            cpu.dots(&x[..cut * width], &packed, first);
            cpu.dots(&x[cut * width..], &packed, second);
            assert_eq!(y, expected, "{rows} x {columns} x {width}");
        }
    }
}

//! Views of numbers as matrices.

use std::ops::Range;

/// A matrix to read: element `(i, j)` is `numbers[i * row_stride + j * column_stride]`.
#[derive(Debug, Clone, Copy)]
pub(in crate::cpu) struct Matrix<'a> {
    pub(super) numbers: &'a [f32],
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// `rows x columns` numbers, row after row.
    pub(in crate::cpu) fn new(numbers: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(numbers, rows, columns, columns)
    }

    /// The same with rows `stride` numbers apart.
    ///
    /// # Panics
    ///
    /// When there are not as many numbers.
    pub(in crate::cpu) fn strided(numbers: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        let matrix = Self { numbers, rows, columns, row_stride: stride, column_stride: 1 };
        assert!(matrix.extent() <= numbers.len(), "{rows} rows of {columns}, {stride} apart, lie outside");
        matrix
    }

    /// Rows for columns.
    pub(in crate::cpu) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// Some of the rows.
    pub(in crate::cpu) fn rows(self, rows: Range<usize>) -> Self {
        assert!(rows.start <= rows.end && rows.end <= self.rows, "rows of a matrix");
        let numbers = &self.numbers[(rows.start * self.row_stride).min(self.numbers.len())..];
        Self { numbers, rows: rows.len(), ..self }
    }

    /// Some of the columns.
    pub(in crate::cpu) fn columns(self, columns: Range<usize>) -> Self {
        self.transposed().rows(columns).transposed()
    }

    /// Numbers from the first to the last element.
    fn extent(&self) -> usize {
        if self.rows == 0 || self.columns == 0 {
            return 0;
        }
        (self.rows - 1) * self.row_stride + (self.columns - 1) * self.column_stride + 1
    }
}

/// A matrix to write, row after row, rows `stride` numbers apart.
#[derive(Debug)]
pub(in crate::cpu) struct MatrixMut<'a> {
    pub(super) numbers: &'a mut [f32],
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) stride: usize,
}

impl<'a> MatrixMut<'a> {
    /// `rows x columns` numbers, row after row.
    pub(in crate::cpu) fn new(numbers: &'a mut [f32], rows: usize, columns: usize) -> Self {
        Self::strided(numbers, rows, columns, columns)
    }

    /// The same with rows `stride` numbers apart.
    ///
    /// # Panics
    ///
    /// When there are not as many numbers, or rows overlap.
    pub(in crate::cpu) fn strided(
        numbers: &'a mut [f32],
        rows: usize,
        columns: usize,
        stride: usize,
    ) -> Self {
        assert!(columns <= stride, "rows of a result do not overlap");
        let extent = if rows == 0 { 0 } else { (rows - 1) * stride + columns };
        assert!(extent <= numbers.len(), "{rows} rows of {columns}, {stride} apart, lie outside");
        Self { numbers, rows, columns, stride }
    }
}

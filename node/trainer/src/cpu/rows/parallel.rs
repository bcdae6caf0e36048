//! How work is cut for threads. No cut changes a bit: elements and rows are independent, and sums over rows are cut
//! between columns.

/// Numbers below which a second thread costs more than it brings.
const ALONE: usize = 32_768;

/// Numbers of one task: 64 KiB of each operand, which stays in the second cache.
const TASK: usize = 16_384;

/// Columns of a task at least, so that a row's part fills whole cache lines.
const COLUMNS: usize = 64;

/// Numbers of a task of an elementwise operation on `len`; never zero.
pub(in crate::cpu) fn numbers_of_task(len: usize) -> usize {
    rows_of_task(1, len)
}

/// Rows of a task of a row operation on `len` numbers in rows of `width`; never zero.
pub(in crate::cpu) fn rows_of_task(width: usize, len: usize) -> usize {
    let numbers = if len < ALONE { len } else { TASK };
    (numbers / width).max(1)
}

/// Columns of a task of a sum over `rows` rows of `width` numbers; never zero.
pub(in crate::cpu) fn columns_of_task(width: usize, rows: usize) -> usize {
    if width * rows < ALONE {
        return width.max(1);
    }
    // one part a thread: the wider it is, the better memory is read
    width.div_ceil(rayon::current_num_threads()).next_multiple_of(16).max(COLUMNS)
}

//! Rows of tables.

use talkoot_trainer::backend::Done;

use super::{
    Cuda,
    launch::{line, size},
};
use crate::{
    buffer::Buffer,
    class::Class,
    device::{Argument, Device},
    kernels::{ADD_ROWS, COPY_ROWS, COPY_ROWS_HALF},
};

/// Numbers of a table up to the last of these rows.
fn reach(rows: &[u32], width: usize) -> usize {
    rows.iter().max().map_or(0, |&last| (last as usize + 1) * width)
}

impl<D: Device, C: Class> Cuda<D, C> {
    pub(super) fn copy_table_rows(
        &self,
        width: usize,
        from: &Buffer<D>,
        from_rows: &[u32],
        to: &mut Buffer<D>,
        to_rows: &[u32],
    ) -> Done {
        const NAME: &str = "copy_rows";
        assert_eq!(from_rows.len(), to_rows.len(), "every row that is read goes somewhere");
        if to_rows.is_empty() {
            return Ok(());
        }
        let [sources, targets] = [self.indices(NAME, from_rows)?, self.indices(NAME, to_rows)?];
        let (table, kernel) = from.all().either(reach(from_rows, width), [COPY_ROWS, COPY_ROWS_HALF]);
        let arguments = [
            table,
            Argument::Memory(sources.memory(), 0),
            to.all().holding(reach(to_rows, width)),
            Argument::Memory(targets.memory(), 0),
            size(width),
        ];
        self.run(NAME, kernel, line(to_rows.len(), 1, 128), &arguments)
    }

    /// Moves are put in the order of the rows that they write, those to one row in their own order: a block then has all
    /// of a row.
    pub(super) fn add_table_rows(
        &self,
        width: usize,
        from: &Buffer<D>,
        from_rows: &[u32],
        to: &mut Buffer<D>,
        to_rows: &[u32],
    ) -> Done {
        const NAME: &str = "add_rows";
        assert_eq!(from_rows.len(), to_rows.len(), "every row that is read goes somewhere");
        if to_rows.is_empty() {
            return Ok(());
        }
        let mut moves: Vec<(u32, u32)> = to_rows.iter().copied().zip(from_rows.iter().copied()).collect();
        moves.sort_by_key(|&(to, _)| to);
        let (mut firsts, mut written, mut read) = (Vec::new(), Vec::new(), Vec::new());
        for (place, &(to, from)) in (0..).zip(&moves) {
            if written.last() != Some(&to) {
                firsts.push(place);
                written.push(to);
            }
            read.push(from);
        }
        firsts.push(u32::try_from(moves.len()).expect("rows are counted in 32 bits"));
        let [sources, targets] = [self.indices(NAME, &read)?, self.indices(NAME, &written)?];
        let bounds = self.indices(NAME, &firsts)?;
        let arguments = [
            from.all().holding(reach(from_rows, width)),
            Argument::Memory(sources.memory(), 0),
            to.all().holding(reach(to_rows, width)),
            Argument::Memory(targets.memory(), 0),
            Argument::Memory(bounds.memory(), 0),
            size(width),
        ];
        self.run(NAME, ADD_ROWS, line(written.len(), 1, 128), &arguments)
    }
}

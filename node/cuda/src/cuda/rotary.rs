//! Rotary positions.

use talkoot_trainer::backend::{Columns, ColumnsMut, Done, HeadShape, Turn};

use super::{
    Cuda,
    launch::{columns, columns_mut, count, line, size},
};
use crate::{
    buffer::Buffer,
    class::Class,
    device::{Argument, Device},
    kernels::{ANGLE_GRADIENT, ROTATE},
};

impl<D: Device, C: Class> Cuda<D, C> {
    pub(super) fn turn(
        &self,
        operation: &'static str,
        shape: HeadShape,
        turns: &Buffer<D>,
        turn: Turn,
        x: ColumnsMut<'_, Buffer<D>>,
    ) -> Done {
        let HeadShape { rows, heads, width } = shape;
        let sign = if turn == Turn::Forward { 1.0 } else { -1.0 };
        let arguments = [
            turns.all().holding(rows * width),
            columns_mut(&x, rows, heads * width),
            size(rows),
            size(heads),
            size(width),
            count(x.stride),
            Argument::F32(sign),
        ];
        self.run(operation, ROTATE, line(rows * heads * (width / 2), 256, 256), &arguments)
    }

    pub(super) fn gradient_of_angles(
        &self,
        shape: HeadShape,
        rows: &[u32],
        y: Columns<'_, Buffer<D>>,
        dy: Columns<'_, Buffer<D>>,
        dangles: &mut Buffer<D>,
    ) -> Done {
        const NAME: &str = "angle_gradient";
        let HeadShape { heads, width, .. } = shape;
        let reach = rows.iter().max().map_or(0, |&last| last as usize + 1);
        if reach == 0 {
            return Ok(());
        }
        let indices = self.indices(NAME, rows)?;
        let arguments = [
            Argument::Memory(indices.memory(), 0),
            size(rows.len()),
            columns(&y, reach, heads * width),
            count(y.stride),
            columns(&dy, reach, heads * width),
            count(dy.stride),
            dangles.all().holding(width / 2),
            size(heads),
            size(width),
        ];
        self.run(NAME, ANGLE_GRADIENT, line(width / 2, 256, 256), &arguments)
    }
}

//! Norms and their gradients; sums over rows.

use talkoot_trainer::backend::{Backend, Done};

use super::{
    Cuda,
    launch::{line, size},
};
use crate::{
    buffer::Buffer,
    class::Class,
    device::{Argument, Device, Shape},
    kernels::{
        COLUMN_SUMS, INVERSES_OF, LAYER_NORM, LAYER_NORM_BACKWARD, LAYER_NORM_PARAMETER_GRADIENTS, RMS_NORM,
        RMS_NORM_BACKWARD, RMS_NORM_BACKWARD_IN_PLACE, RMS_WEIGHT_GRADIENT,
    },
};

/// Sixteen threads a row.
fn row_shape(rows: usize) -> Shape {
    line(rows, 16, 256)
}

/// A thread a column.
fn column_shape(width: usize) -> Shape {
    line(width, 64, 64)
}

/// Rows of `width` in so many numbers.
fn rows_of(len: usize, width: usize) -> usize {
    let rows = len / width.max(1);
    assert_eq!(rows * width, len, "whole rows of {width} numbers");
    rows
}

impl<D: Device, C: Class> Cuda<D, C> {
    pub(super) fn layer_norm_forward(
        &self,
        width: usize,
        eps: f32,
        x: &Buffer<D>,
        weight: &Buffer<D>,
        bias: &Buffer<D>,
        y: &mut Buffer<D>,
    ) -> Done {
        let rows = rows_of(x.len, width);
        let arguments = [
            x.all().holding(x.len),
            weight.all().holding(width),
            bias.all().holding(width),
            y.all().holding(x.len),
            size(rows),
            size(width),
            Argument::F32(eps),
        ];
        self.run("layer_norm", LAYER_NORM, row_shape(rows), &arguments)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "a backward takes what its forward took, and the gradients"
    )]
    pub(super) fn layer_norm_gradients(
        &self,
        width: usize,
        eps: f32,
        x: &Buffer<D>,
        weight: &Buffer<D>,
        dy: &Buffer<D>,
        dx: &mut Buffer<D>,
        parameters: Option<(&mut Buffer<D>, &mut Buffer<D>)>,
    ) -> Done {
        const NAME: &str = "layer_norm_backward";
        let rows = rows_of(x.len, width);
        let (means, inverses) = (self.scratch(rows)?, self.scratch(rows)?);
        let arguments = [
            x.all().holding(x.len),
            weight.all().holding(width),
            dy.all().holding(x.len),
            dx.all().holding(x.len),
            means.all().holding(rows),
            inverses.all().holding(rows),
            size(rows),
            size(width),
            Argument::F32(eps),
        ];
        self.run(NAME, LAYER_NORM_BACKWARD, row_shape(rows), &arguments)?;
        let Some((dweight, dbias)) = parameters else { return Ok(()) };
        let arguments = [
            x.all().holding(x.len),
            means.all().holding(rows),
            inverses.all().holding(rows),
            dy.all().holding(x.len),
            dweight.all().holding(width),
            dbias.all().holding(width),
            size(rows),
            size(width),
        ];
        self.run(NAME, LAYER_NORM_PARAMETER_GRADIENTS, column_shape(width), &arguments)
    }

    pub(super) fn rms_norm_forward(
        &self,
        operation: &'static str,
        width: usize,
        eps: f32,
        x: &Buffer<D>,
        weight: &Buffer<D>,
        y: &mut Buffer<D>,
    ) -> Done {
        let rows = rows_of(x.len, width);
        let arguments = [
            x.all().holding(x.len),
            weight.all().holding(width),
            y.all().holding(x.len),
            size(rows),
            size(width),
            Argument::F32(eps),
        ];
        self.run(operation, RMS_NORM, row_shape(rows), &arguments)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "a backward takes what its forward took, and the gradients"
    )]
    pub(super) fn rms_norm_gradients(
        &self,
        width: usize,
        eps: f32,
        x: &Buffer<D>,
        weight: &Buffer<D>,
        dy: &Buffer<D>,
        dx: &mut Buffer<D>,
        dweight: Option<&mut Buffer<D>>,
    ) -> Done {
        const NAME: &str = "rms_norm_backward";
        let rows = rows_of(x.len, width);
        let inverses = self.scratch(rows)?;
        let arguments = [
            x.all().holding(x.len),
            weight.all().holding(width),
            dy.all().holding(x.len),
            dx.all().holding(x.len),
            inverses.all().holding(rows),
            size(rows),
            size(width),
            Argument::F32(eps),
        ];
        self.run(NAME, RMS_NORM_BACKWARD, row_shape(rows), &arguments)?;
        let Some(dweight) = dweight else { return Ok(()) };
        self.rms_weight_gradient(NAME, width, x, &inverses, dy, dweight)
    }

    /// Turns `dy` into the gradient of `x`.
    pub(super) fn rms_norm_gradients_in_place(
        &self,
        width: usize,
        eps: f32,
        x: &Buffer<D>,
        weight: &Buffer<D>,
        dy: &mut Buffer<D>,
        dweight: Option<&mut Buffer<D>>,
    ) -> Done {
        const NAME: &str = "norm_and_rotate_backward";
        let rows = rows_of(x.len, width);
        if let Some(dweight) = dweight {
            let inverses = self.scratch(rows)?;
            let arguments = [
                x.all().holding(x.len),
                inverses.all().holding(rows),
                size(rows),
                size(width),
                Argument::F32(eps),
            ];
            self.run(NAME, INVERSES_OF, row_shape(rows), &arguments)?;
            self.rms_weight_gradient(NAME, width, x, &inverses, dy, dweight)?;
        }
        let arguments = [
            x.all().holding(x.len),
            weight.all().holding(width),
            dy.all().holding(x.len),
            size(rows),
            size(width),
            Argument::F32(eps),
        ];
        self.run(NAME, RMS_NORM_BACKWARD_IN_PLACE, row_shape(rows), &arguments)
    }

    fn rms_weight_gradient(
        &self,
        operation: &'static str,
        width: usize,
        x: &Buffer<D>,
        inverses: &Buffer<D>,
        dy: &Buffer<D>,
        dweight: &mut Buffer<D>,
    ) -> Done {
        let rows = rows_of(x.len, width);
        let arguments = [
            x.all().holding(x.len),
            inverses.all().holding(rows),
            dy.all().holding(x.len),
            dweight.all().holding(width),
            size(rows),
            size(width),
        ];
        self.run(operation, RMS_WEIGHT_GRADIENT, column_shape(width), &arguments)
    }

    /// `sums [w] +=` the sums of the columns of `x [n, w]`.
    pub(super) fn add_column_sums(&self, x: &Buffer<D>, sums: &mut Buffer<D>) -> Done {
        let width = sums.len;
        let rows = rows_of(x.len, width);
        let arguments = [x.all().holding(x.len), sums.all().holding(width), size(rows), size(width)];
        self.run("linear_backward_bias", COLUMN_SUMS, column_shape(width), &arguments)
    }
}

//! Linear maps: `y = x W^T + b`, with `x [n, in]`, `W [out, in]`, `b [out]`.
//!
//! Backward: `dx = dy W`, `dW = dy^T x`, `db =` column sums of `dy`.

use super::{
    Cpu,
    gemm::{self, Finish, Matrix, MatrixMut, Start},
};
use crate::backend::{LinearShape, Store};

/// `y [n, out] = x [n, in] * weight^T`, then `+ bias`, then `+ residual [n, out]`.
pub(super) fn forward(
    cpu: &Cpu,
    shape: LinearShape,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    residual: Option<&[f32]>,
    y: &mut [f32],
) {
    let LinearShape { rows, inputs, outputs } = shape;
    gemm::multiply(
        cpu.isa,
        cpu.products,
        Matrix::new(x, rows, inputs),
        Matrix::new(weight, outputs, inputs).transposed(),
        Start::Zero,
        Finish { bias, residual },
        MatrixMut::new(y, rows, outputs),
    );
}

/// `dx [n, in] = dy [n, out] * weight`, or the chains go on from what stands in `dx`.
pub(super) fn backward_input(
    cpu: &Cpu,
    shape: LinearShape,
    dy: &[f32],
    weight: &[f32],
    store: Store,
    dx: &mut [f32],
) {
    let LinearShape { rows, inputs, outputs } = shape;
    gemm::multiply(
        cpu.isa,
        cpu.products,
        Matrix::new(dy, rows, outputs),
        Matrix::new(weight, outputs, inputs),
        store.into(),
        Finish::default(),
        MatrixMut::new(dx, rows, inputs),
    );
}

/// `dweight [out, in] = dy^T * x`, chains over the rows, or they go on from what stands in `dweight`.
pub(super) fn backward_weight(
    cpu: &Cpu,
    shape: LinearShape,
    x: &[f32],
    dy: &[f32],
    store: Store,
    dweight: &mut [f32],
) {
    let LinearShape { rows, inputs, outputs } = shape;
    gemm::multiply(
        cpu.isa,
        cpu.products,
        Matrix::new(dy, rows, outputs).transposed(),
        Matrix::new(x, rows, inputs),
        store.into(),
        Finish::default(),
        MatrixMut::new(dweight, outputs, inputs),
    );
}

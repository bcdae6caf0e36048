//! The linear map, with only those gradients that somebody wants.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, backend::BackendStorage};

/// `x [n, in]` times the transpose of `weight [out, in]`.
///
/// candle's own matmul always computes both gradients, and that of a transposed weight comes out transposed; here a
/// frozen weight costs nothing and the gradient of a trained one is written as the weight is stored.
pub(super) struct Linear {
    /// Whether the input's gradient leads to a trained parameter.
    pub(super) input_wanted: bool,
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, inputs) = l1.shape().dims2()?;
        let (outputs, _) = l2.shape().dims2()?;
        let y = s1.matmul(s2, (1, rows, outputs, inputs), l1, &l2.transpose(0, 1)?)?;
        Ok((y, (rows, outputs).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let d_x = self.input_wanted.then(|| gradient.matmul(weight)).transpose()?;
        // a reshaped weight (the patch kernel) is no variable itself but leads to one
        let weight_wanted = weight.is_variable() || weight.track_op();
        let d_weight = weight_wanted.then(|| gradient.t()?.matmul(x)).transpose()?;
        Ok((d_x, d_weight))
    }
}

//! Values and gradients of the same operation in candle.

use candle_core::{Device, Result, Tensor, Var};

/// What candle makes of an operation.
pub(in crate::cpu) struct Graph {
    /// Its results.
    pub(in crate::cpu) y: Vec<f32>,
    /// Gradients of all arguments.
    pub(in crate::cpu) gradients: Vec<Vec<f32>>,
}

/// Runs `operation` on arguments with these numbers and shapes; `dy` is the gradient of its result.
pub(in crate::cpu) fn graph(
    arguments: &[(&[f32], &[usize])],
    dy: &[f32],
    operation: impl Fn(&[Tensor]) -> Result<Tensor>,
) -> Graph {
    let run = || {
        let variable = |(values, shape): &(&[f32], &[usize])| {
            Ok(Var::from_tensor(&Tensor::from_slice(values, *shape, &Device::Cpu)?)?.as_tensor().clone())
        };
        let tensors = arguments.iter().map(variable).collect::<Result<Vec<_>>>()?;
        let y = operation(&tensors)?;
        let weights = Tensor::from_slice(dy, y.shape(), &Device::Cpu)?;
        let gradients = (&y * weights)?.sum_all()?.backward()?;
        let of = |tensor| gradients.get(tensor).expect("every argument of a plain form has a gradient");
        let gradients =
            tensors.iter().map(|t| of(t).flatten_all()?.to_vec1()).collect::<Result<Vec<Vec<f32>>>>()?;
        Ok::<_, candle_core::Error>(Graph { y: y.flatten_all()?.to_vec1()?, gradients })
    };
    run().unwrap()
}

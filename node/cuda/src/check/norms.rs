use talkoot_trainer::backend::Backend;

use super::{Case, Results, downloaded, random};

/// Rows and widths: one, odd, below, at and above sixteen lanes and blocks of rows.
const SHAPES: [[usize; 2]; 7] = [[1, 1], [3, 7], [16, 16], [17, 13], [33, 72], [5, 257], [40, 20]];
const EPS: f32 = 1e-6;

pub(super) fn cases<B: Backend + 'static>() -> Vec<Case<B>> {
    let of_shape = |[rows, width]: [usize; 2]| {
        let layer = move |backend: &B| layer_norm(backend, rows, width);
        let rms = move |backend: &B| rms_norm(backend, rows, width);
        [
            Case::new(format!("layer norm, {rows} rows of {width}"), layer),
            Case::new(format!("RMS norm, {rows} rows of {width}"), rms),
        ]
    };
    SHAPES.into_iter().flat_map(of_shape).collect()
}

fn layer_norm<B: Backend>(backend: &B, rows: usize, width: usize) -> Results {
    let numbers = |len, seed| backend.upload(&random(len, seed));
    let (x, dy) = (numbers(rows * width, 1)?, numbers(rows * width, 4)?);
    let (weight, bias) = (numbers(width, 2)?, numbers(width, 3)?);
    let mut y = backend.scratch(rows * width)?;
    backend.layer_norm(width, EPS, &x, &weight, &bias, &mut y)?;
    let mut dx = numbers(rows * width, 5)?;
    backend.layer_norm_backward(width, EPS, &x, &weight, &dy, &mut dx, None)?;
    let (mut dweight, mut dbias) = (backend.zeros(width)?, numbers(width, 6)?);
    let both = Some((&mut dweight, &mut dbias));
    backend.layer_norm_backward(width, EPS, &x, &weight, &dy, &mut dx, both)?;
    downloaded(backend, [&y, &dx, &dweight, &dbias])
}

fn rms_norm<B: Backend>(backend: &B, rows: usize, width: usize) -> Results {
    let numbers = |len, seed| backend.upload(&random(len, seed));
    let (x, dy, weight) = (numbers(rows * width, 1)?, numbers(rows * width, 4)?, numbers(width, 2)?);
    let mut y = backend.scratch(rows * width)?;
    backend.rms_norm(width, EPS, &x, &weight, &mut y)?;
    let (mut dx, mut dweight) = (numbers(rows * width, 5)?, numbers(width, 6)?);
    backend.rms_norm_backward(width, EPS, &x, &weight, &dy, &mut dx, None)?;
    backend.rms_norm_backward(width, EPS, &x, &weight, &dy, &mut dx, Some(&mut dweight))?;
    downloaded(backend, [&y, &dx, &dweight])
}

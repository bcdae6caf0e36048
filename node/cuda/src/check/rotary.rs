use talkoot_trainer::backend::{Backend, Columns, ColumnsMut, HeadShape, Turn};

use super::{Case, Results, downloaded, random};

const SHAPES: [HeadShape; 4] = [
    HeadShape { rows: 1, heads: 1, width: 2 },
    HeadShape { rows: 7, heads: 3, width: 12 },
    HeadShape { rows: 33, heads: 5, width: 20 },
    HeadShape { rows: 9, heads: 2, width: 128 },
];

pub(super) fn cases<B: Backend + 'static>() -> Vec<Case<B>> {
    let of_shape = |shape: HeadShape| {
        let HeadShape { rows, heads, width } = shape;
        let name = |what| format!("{what}, {rows} rows of {heads} heads of {width}");
        [
            Case::new(name("rotation"), move |backend: &B| turns(backend, shape)),
            Case::new(name("norm and rotation"), move |backend: &B| norms(backend, shape)),
            Case::new(name("angles"), move |backend: &B| angles(backend, shape)),
        ]
    };
    SHAPES.into_iter().flat_map(of_shape).collect()
}

/// Inside wider rows.
fn turns<B: Backend>(backend: &B, shape: HeadShape) -> Results {
    let row = shape.heads * shape.width;
    let stride = 3 * row + 1;
    let mut x = backend.upload(&random((shape.rows - 1) * stride + 2 * row, 1))?;
    let turns = backend.upload(&random(shape.rows * shape.width, 2))?;
    let mut results = Vec::new();
    for turn in [Turn::Forward, Turn::Back, Turn::Back] {
        let columns = ColumnsMut { buffer: &mut x, start: row, stride };
        backend.rotate(shape, &turns, turn, columns)?;
        results.push(backend.download(&x)?);
    }
    Ok(results)
}

fn norms<B: Backend>(backend: &B, shape: HeadShape) -> Results {
    let HeadShape { rows, heads, width } = shape;
    let numbers = |len, seed| backend.upload(&random(len, seed));
    let len = rows * heads * width;
    let (x, weight, turns) = (numbers(len, 1)?, numbers(width, 3)?, numbers(rows * width, 4)?);
    let mut y = backend.scratch(len)?;
    backend.norm_and_rotate(shape, 1e-6, &x, &weight, &turns, &mut y)?;
    let (mut dx, mut dweight) = (numbers(len, 2)?, numbers(width, 5)?);
    backend.norm_and_rotate_backward(shape, 1e-6, &x, &weight, &turns, &mut dx, Some(&mut dweight))?;
    let mut frozen = numbers(len, 2)?;
    backend.norm_and_rotate_backward(shape, 1e-6, &x, &weight, &turns, &mut frozen, None)?;
    downloaded(backend, [&y, &dx, &dweight, &frozen])
}

fn angles<B: Backend>(backend: &B, shape: HeadShape) -> Results {
    let row = shape.heads * shape.width;
    let stride = 2 * row;
    let chosen: Vec<u32> = (0..).take(shape.rows).step_by(3).collect();
    let (y, dy) =
        (backend.upload(&random(shape.rows * stride, 1))?, backend.upload(&random(shape.rows * stride, 2))?);
    let mut dangles = backend.upload(&random(shape.width / 2, 3))?;
    for rows in [&chosen[..], &[]] {
        let y = Columns { buffer: &y, start: 0, stride };
        let dy = Columns { buffer: &dy, start: row, stride };
        backend.angle_gradient(shape, rows, y, dy, &mut dangles)?;
    }
    downloaded(backend, [&dangles])
}

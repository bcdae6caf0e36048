use talkoot_trainer::backend::Backend;

use super::{Case, Results, downloaded, random, some_rows};

pub(super) fn cases<B: Backend + 'static>() -> Vec<Case<B>> {
    let of_width = |width: usize| {
        [
            Case::new(format!("added rows of {width}"), move |backend: &B| added(backend, width)),
            Case::new(format!("copied rows of {width}"), move |backend: &B| copied(backend, width)),
        ]
    };
    [1, 7, 128, 300].into_iter().flat_map(of_width).collect()
}

fn added<B: Backend>(backend: &B, width: usize) -> Results {
    let (from_rows, mut to_rows) = (some_rows(200, 50, 3), some_rows(200, 9, 4));
    // a row that many go to
    to_rows[20..90].fill(5);
    let from = backend.upload(&random(50 * width, 1))?;
    let mut to = backend.upload(&random(9 * width, 2))?;
    backend.add_rows(width, &from, &from_rows, &mut to, &to_rows)?;
    backend.add_rows(width, &from, &[], &mut to, &[])?;
    downloaded(backend, [&to])
}

/// Every second row, in an order of its own; the others stay.
fn copied<B: Backend>(backend: &B, width: usize) -> Results {
    let to_rows: Vec<u32> = (0..40).map(|i| i * 37 % 40 * 2).collect();
    let from = backend.upload(&random(50 * width, 1))?;
    let mut to = backend.upload(&random(80 * width, 2))?;
    backend.copy_rows(width, &from, &some_rows(40, 50, 3), &mut to, &to_rows)?;
    backend.copy_rows(width, &from, &[], &mut to, &[])?;
    downloaded(backend, [&to])
}

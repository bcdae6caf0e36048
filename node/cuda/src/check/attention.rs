use talkoot_trainer::backend::{Attention, Backend, Columns, ColumnsMut, Qkv, Segment};

use super::{Case, Results, downloaded, random};

/// What a case is made of. Queries, keys and values stand side by side in one buffer.
#[derive(Debug, Clone)]
struct Shape {
    segments: Vec<Segment>,
    heads: usize,
    groups: usize,
    width: usize,
    causal: bool,
}

/// Segments of these lengths, each looking at itself.
fn own(lengths: &[usize], [heads, groups, width]: [usize; 3], causal: bool) -> Shape {
    let mut start = 0;
    let next = |&length: &usize| {
        start += length;
        Segment::own(start - length..start)
    };
    Shape { segments: lengths.iter().map(next).collect(), heads, groups, width, causal }
}

pub(super) fn cases<B: Backend + 'static>() -> Vec<Case<B>> {
    let mut shapes = vec![
        own(&[1, 2, 13, 40], [6, 3, 20], true),
        own(&[1, 5, 31, 33], [5, 5, 12], false),
        // longer than a tile of queries and a block of keys
        own(&[84, 85], [4, 2, 8], true),
        own(&[200, 3], [2, 1, 20], true),
        own(&[170], [2, 2, 12], false),
    ];
    // every width that kernels are made for, and just above
    shapes.extend([2, 64, 66, 128, 130, 256].map(|width| own(&[37], [2, 1, width], true)));
    // fewer queries than keys, as in the middle of a text
    let segments = vec![Segment { queries: 0..3, keys: 0..50 }, Segment { queries: 3..103, keys: 50..160 }];
    shapes.extend([true, false].map(|causal| Shape {
        segments: segments.clone(),
        heads: 4,
        groups: 2,
        width: 16,
        causal,
    }));
    let case = |shape: Shape| {
        Case::new(format!("attention, {shape:?}"), move |backend: &B| both_ways(backend, &shape))
    };
    shapes.into_iter().map(case).collect()
}

fn both_ways<B: Backend>(backend: &B, shape: &Shape) -> Results {
    let &Shape { ref segments, heads, groups, width, causal } = shape;
    let rows = segments.iter().map(|segment| segment.keys.end).max().unwrap_or(0);
    let (wide, narrow) = (heads * width, groups * width);
    let row = wide + 2 * narrow;
    let attention = Attention { segments, heads, groups, width, causal };
    let (buffer, dy) = (backend.upload(&random(rows * row, 1))?, backend.upload(&random(rows * wide, 2))?);
    let part = |start| Columns { buffer: &buffer, start, stride: row };
    let qkv = || Qkv { q: part(0), k: part(wide), v: part(wide + narrow) };
    let (mut y, mut statistics) = (backend.zeros(rows * wide)?, backend.zeros(rows * heads * 2)?);
    backend.attention(attention, qkv(), &mut y, &mut statistics)?;
    let mut dq = backend.zeros(rows * row)?;
    let (mut dk, mut dv) = (backend.zeros(rows * narrow)?, backend.zeros(rows * narrow)?);
    let gradients = Qkv {
        q: ColumnsMut { buffer: &mut dq, start: 0, stride: row },
        k: ColumnsMut { buffer: &mut dk, start: 0, stride: narrow },
        v: ColumnsMut { buffer: &mut dv, start: 0, stride: narrow },
    };
    backend.attention_backward(attention, qkv(), &y, &statistics, &dy, gradients)?;
    downloaded(backend, [&y, &statistics, &dq, &dk, &dv])
}

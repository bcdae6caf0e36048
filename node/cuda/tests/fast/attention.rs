use talkoot_emulator::Order;
use talkoot_trainer::{
    backend::{Attention, Backend, Columns, ColumnsMut, Done, Qkv, Segment},
    cpu::Cpu,
};

use crate::testkit::{assert_near, fast, random};

#[derive(Debug)]
struct Case {
    heads: usize,
    groups: usize,
    width: usize,
    causal: bool,
    /// Queries and keys of every segment.
    lengths: &'static [(usize, usize)],
}

/// Tiles of 64 rows, of 32 and of 16: below, at and above; widths of both kernels and in between.
const CASES: [Case; 6] = [
    Case { heads: 2, groups: 1, width: 6, causal: true, lengths: &[(3, 3), (1, 1), (70, 70)] },
    Case { heads: 3, groups: 3, width: 24, causal: false, lengths: &[(5, 5), (90, 90)] },
    Case { heads: 4, groups: 2, width: 64, causal: true, lengths: &[(130, 130), (65, 65)] },
    Case { heads: 2, groups: 2, width: 128, causal: true, lengths: &[(1, 9), (2, 70), (40, 100)] },
    Case { heads: 2, groups: 1, width: 80, causal: false, lengths: &[(30, 150)] },
    // too wide for tensor cores' kernels: the exact class's
    Case { heads: 1, groups: 1, width: 130, causal: true, lengths: &[(20, 20)] },
];

fn attend<B: Backend>(backend: &B, case: &Case) -> Done<Vec<Vec<f32>>> {
    let (mut query, mut key) = (0, 0);
    let segment = |&(queries, keys): &(usize, usize)| {
        (query, key) = (query + queries, key + keys);
        Segment { queries: query - queries..query, keys: key - keys..key }
    };
    let segments: Vec<Segment> = case.lengths.iter().map(segment).collect();
    let &Case { heads, groups, width, causal, .. } = case;
    let attention = Attention { segments: &segments, heads, groups, width, causal };
    let (wide, narrow) = (heads * width, groups * width);
    let q = backend.upload(&random(query * wide, 1))?;
    // keys and values side by side
    let kv = backend.upload(&random(key * 2 * narrow, 2))?;
    let dy = backend.upload(&random(query * wide, 3))?;
    let qkv = || Qkv {
        q: Columns { buffer: &q, start: 0, stride: wide },
        k: Columns { buffer: &kv, start: 0, stride: 2 * narrow },
        v: Columns { buffer: &kv, start: narrow, stride: 2 * narrow },
    };
    let (mut y, mut statistics) = (backend.scratch(query * wide)?, backend.scratch(query * heads * 2)?);
    backend.attention(attention, qkv(), &mut y, &mut statistics)?;
    let mut dq = backend.scratch(query * wide)?;
    let [mut dk, mut dv] = [backend.scratch(key * narrow)?, backend.scratch(key * narrow)?];
    let gradients = Qkv {
        q: ColumnsMut { buffer: &mut dq, start: 0, stride: wide },
        k: ColumnsMut { buffer: &mut dk, start: 0, stride: narrow },
        v: ColumnsMut { buffer: &mut dv, start: 0, stride: narrow },
    };
    backend.attention_backward(attention, qkv(), &y, &statistics, &dy, gradients)?;
    [&y, &dq, &dk, &dv].into_iter().map(|result| backend.download(result)).collect()
}

#[test]
fn attention_and_its_gradients_are_near_the_exact_ones() {
    for case in &CASES {
        let expected = attend(&Cpu::default(), case).unwrap();
        let mut first = None;
        for order in Order::ALL {
            let Some(fast) = fast(order) else { return };
            let found = attend(&fast, case).unwrap();
            // three roundings to bf16, of up to 2^-9 each, one behind the other
            assert_near(&format!("{case:?}"), order, &found, &expected, 0.015, &mut first);
        }
    }
}

use super::*;
use crate::{
    backend::{ColumnsMut, Qkv},
    cpu::{Cpu, testkit},
};

/// Sizes, and segments as pairs of `(queries, keys)` lengths; keys stand one behind the other like queries.
struct Setting {
    heads: usize,
    groups: usize,
    width: usize,
    causal: bool,
    lengths: &'static [(usize, usize)],
}

const SETTINGS: [Setting; 7] = [
    Setting { heads: 1, groups: 1, width: 1, causal: false, lengths: &[(1, 1)] },
    Setting { heads: 2, groups: 1, width: 5, causal: true, lengths: &[(3, 3), (1, 1), (7, 7)] },
    Setting { heads: 3, groups: 3, width: 8, causal: false, lengths: &[(5, 5), (90, 90)] },
    Setting { heads: 4, groups: 2, width: 16, causal: true, lengths: &[(200, 200), (85, 85)] },
    Setting { heads: 2, groups: 2, width: 6, causal: true, lengths: &[(1, 9), (2, 300), (84, 100)] },
    Setting { heads: 6, groups: 2, width: 12, causal: true, lengths: &[(84, 84), (83, 83)] },
    Setting { heads: 2, groups: 2, width: 64, causal: false, lengths: &[(30, 600)] },
];

impl Setting {
    fn segments(&self) -> Vec<Segment> {
        let (mut query, mut key) = (0, 0);
        let segment = |&(queries, keys): &(usize, usize)| {
            (query, key) = (query + queries, key + keys);
            Segment { queries: query - queries..query, keys: key - keys..key }
        };
        self.lengths.iter().map(segment).collect()
    }

    fn attention<'a>(&self, segments: &'a [Segment]) -> Attention<'a> {
        Attention { segments, heads: self.heads, groups: self.groups, width: self.width, causal: self.causal }
    }
}

/// Everything by the formulas in f64: output, and gradients of queries, keys and values for `dy`.
fn plain(
    setting: &Setting,
    segments: &[Segment],
    q: &[f32],
    k: &[f32],
    v: &[f32],
    dy: &[f32],
) -> [Vec<f32>; 4] {
    let (d, row, group_row) = (setting.width, setting.heads * setting.width, setting.groups * setting.width);
    let scale = 1.0 / (d as f64).sqrt();
    let mut out = [vec![0.0f64; q.len()], vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]];
    for segment in segments {
        for head in 0..setting.heads {
            let column = head * d;
            let shared = head / (setting.heads / setting.groups) * d;
            for (i, query) in segment.queries.clone().enumerate() {
                let seen = if setting.causal {
                    segment.keys.len() - segment.queries.len() + i + 1
                } else {
                    segment.keys.len()
                };
                let keys = segment.keys.start..segment.keys.start + seen;
                let dot = |a: &[f32], at: usize, b: &[f32], to: usize| -> f64 {
                    (0..d).map(|x| f64::from(a[at + x]) * f64::from(b[to + x])).sum()
                };
                let q_at = query * row + column;
                let k_at = |key: usize| key * group_row + shared;
                let scores: Vec<f64> = keys.clone().map(|key| dot(q, q_at, k, k_at(key)) * scale).collect();
                let largest = scores.iter().copied().fold(f64::MIN, f64::max);
                let sum: f64 = scores.iter().map(|s| (s - largest).exp()).sum();
                let p: Vec<f64> = scores.iter().map(|s| (s - largest).exp() / sum).collect();
                let dp: Vec<f64> = keys.clone().map(|key| dot(dy, q_at, v, k_at(key))).collect();
                let mean: f64 = p.iter().zip(&dp).map(|(p, dp)| p * dp).sum();
                for ((key, p), dp) in keys.zip(&p).zip(&dp) {
                    let ds = p * (dp - mean) * scale;
                    for x in 0..d {
                        out[0][q_at + x] += p * f64::from(v[k_at(key) + x]);
                        out[1][q_at + x] += ds * f64::from(k[k_at(key) + x]);
                        out[2][k_at(key) + x] += ds * f64::from(q[q_at + x]);
                        out[3][k_at(key) + x] += p * f64::from(dy[q_at + x]);
                    }
                }
            }
        }
    }
    out.map(|values| values.into_iter().map(|x| x as f32).collect())
}

/// The same by the backend, with queries, keys and values side by side in one buffer where they have as many rows.
fn found(cpu: &Cpu, setting: &Setting, q: &[f32], k: &[f32], v: &[f32], dy: &[f32]) -> [Vec<f32>; 4] {
    let segments = setting.segments();
    let attention = setting.attention(&segments);
    let (row, group_row) = (setting.heads * setting.width, setting.groups * setting.width);
    let buffer = |values: &[f32]| {
        let mut buffer = cpu.pool.take(values.len());
        buffer.copy_from_slice(values);
        buffer
    };
    let (q, k, v, dy) = (buffer(q), buffer(k), buffer(v), buffer(dy));
    fn whole(buffer: &Buffer, stride: usize) -> Columns<'_, Buffer> {
        Columns { buffer, start: 0, stride }
    }
    let qkv = Qkv { q: whole(&q, row), k: whole(&k, group_row), v: whole(&v, group_row) };
    let rows = q.len() / row;
    let (mut y, mut statistics) = (cpu.pool.take(q.len()), cpu.pool.take(rows * setting.heads * 2));
    y.fill(f32::NAN);
    statistics.fill(f32::NAN);
    forward(cpu, attention, &qkv, &mut y, &mut statistics);
    let mut gradients = [cpu.pool.take(q.len()), cpu.pool.take(k.len()), cpu.pool.take(v.len())];
    gradients.iter_mut().for_each(|gradient| gradient.fill(f32::NAN));
    let [dq, dk, dv] = &mut gradients;
    fn whole_mut(buffer: &mut Buffer, stride: usize) -> ColumnsMut<'_, Buffer> {
        ColumnsMut { buffer, start: 0, stride }
    }
    let into = Qkv { q: whole_mut(dq, row), k: whole_mut(dk, group_row), v: whole_mut(dv, group_row) };
    backward(cpu, attention, &qkv, &y, &statistics, &dy, into);
    let [dq, dk, dv] = gradients.each_ref().map(|gradient| gradient.to_vec());
    [y.to_vec(), dq, dk, dv]
}

fn inputs(setting: &Setting) -> [Vec<f32>; 4] {
    let segments = setting.segments();
    let (queries, keys) = (segments.last().unwrap().queries.end, segments.last().unwrap().keys.end);
    let (row, group_row) = (setting.heads * setting.width, setting.groups * setting.width);
    [queries * row, keys * group_row, keys * group_row, queries * row]
        .map(|len| testkit::random(len, len as u64 + 1))
}

#[test]
fn output_and_gradients_are_those_of_the_formulas() {
    for (i, setting) in SETTINGS.iter().enumerate() {
        let [q, k, v, dy] = inputs(setting);
        let expected = plain(setting, &setting.segments(), &q, &k, &v, &dy);
        let got = found(&Cpu::default(), setting, &q, &k, &v, &dy);
        for (what, (got, expected)) in ["y", "dq", "dk", "dv"].iter().zip(got.iter().zip(&expected)) {
            testkit::close(&format!("setting {i}: {what}"), got, expected, 1e-5);
        }
    }
}

#[test]
fn threads_and_vectors_change_no_bit() {
    use crate::cpu::{Isa, Level, Products};
    for setting in &SETTINGS {
        let [q, k, v, dy] = inputs(setting);
        let expected = found(&Cpu::default(), setting, &q, &k, &v, &dy);
        for isa in Level::ALL.into_iter().filter_map(Isa::new) {
            for threads in [1, 3] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let cpu = Cpu::new(isa, Products::FixedOrder);
                let got = pool.install(|| found(&cpu, setting, &q, &k, &v, &dy));
                assert!(expected == got, "{:?}, {threads} threads", isa.level());
            }
        }
    }
}

#[test]
fn a_causal_query_does_not_see_what_comes_behind_it() {
    let setting = &SETTINGS[3];
    let [q, k, v, dy] = inputs(setting);
    let [before, ..] = found(&Cpu::default(), setting, &q, &k, &v, &dy);
    let (mut k, mut v) = (k, v);
    let group_row = setting.groups * setting.width;
    // everything from row 50 of the first segment on
    for row in 50..200 {
        k[row * group_row..(row + 1) * group_row].fill(9.0);
        v[row * group_row..(row + 1) * group_row].fill(-9.0);
    }
    let [after, ..] = found(&Cpu::default(), setting, &q, &k, &v, &dy);
    let seen = 50 * setting.heads * setting.width;
    assert!(before[..seen] == after[..seen], "rows before 50 see nothing of it");
    assert!(before[seen..seen + 8] != after[seen..seen + 8], "row 50 sees itself");
}

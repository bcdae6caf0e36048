//! The outer step against its definition, written plainly.

use proptest::prelude::*;

use super::*;
use crate::contribution::{ErrorFeedback, Origin, decode, encode};

const SETTINGS: CodecSettings = CodecSettings { chunk: 64, k: 9, bits: 2, error_feedback: 0.95 };

fn layout() -> Layout {
    Layout::new(vec![("a".to_owned(), 40_000), ("b".to_owned(), 5), ("c".to_owned(), 130)]).unwrap()
}

fn values(seed: u64) -> Vec<Vec<f32>> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / 16_777_216.0 - 0.5
    };
    layout().tensors().iter().map(|(_, n)| (0..*n).map(|_| next() * next() + next()).collect()).collect()
}

fn blob(member: u8, round: u64, seed: u64) -> Vec<u8> {
    let origin = Origin { round, member: [member; 32], steps: 1, tokens: 1 };
    let delta = values(seed);
    let delta: Vec<&[f32]> = delta.iter().map(Vec::as_slice).collect();
    encode(&SETTINGS, &layout(), &origin, &delta, &mut ErrorFeedback::zero(&layout())).unwrap()
}

fn step(
    state: &mut [Vec<f32>],
    list: &[(&[u8], Weight)],
    rate: f32,
) -> Result<AggregateReport, AggregateError> {
    let mut state: Vec<&mut [f32]> = state.iter_mut().map(Vec::as_mut_slice).collect();
    outer_step(&mut state, list, &SETTINGS, &layout(), rate, Rule::Mean)
}

/// The definition at the head of the module, element by element.
fn plainly(state: &mut [Vec<f32>], list: &[(&[u8], Weight)], rate: f32) {
    let total: u64 = list.iter().map(|(_, weight)| weight.0).sum();
    let mut mean: Vec<Vec<f32>> = state.iter().map(|tensor| vec![0.0; tensor.len()]).collect();
    for (bytes, weight) in list {
        let share = weight.0 as f32 / total as f32;
        for (mean, sent) in mean.iter_mut().zip(decode(bytes, &SETTINGS, &layout()).unwrap().tensors) {
            for (at, value) in sent.positions.into_iter().zip(sent.values) {
                mean[at as usize] += share * value;
            }
        }
    }
    for (tensor, mean) in state.iter_mut().zip(mean) {
        for (theta, mean) in tensor.iter_mut().zip(mean) {
            *theta -= rate * mean;
        }
    }
}

fn bits(state: &[Vec<f32>]) -> Vec<u32> {
    state.iter().flatten().map(|value| value.to_bits()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn the_outer_step_is_its_definition_bit_by_bit(
        members in prop::collection::vec((any::<u64>(), 1u64..1 << 40), 1..6),
        rate in 0.01f32..2.0,
        threads in 1usize..4,
    ) {
        let blobs: Vec<Vec<u8>> = members.iter().zip(0..).map(|(m, id)| blob(id, 1, m.0)).collect();
        let list: Vec<(&[u8], Weight)> =
            blobs.iter().zip(&members).map(|(blob, m)| (blob.as_slice(), Weight(m.1))).collect();
        let mut state = values(77);
        state[0][0] = -0.0;
        let mut expected = state.clone();
        plainly(&mut expected, &list, rate);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let report = pool.install(|| step(&mut state, &list, rate)).unwrap();
        prop_assert_eq!(bits(&state), bits(&expected));
        prop_assert_eq!((report.round, report.contributions), (1, members.len()));
    }
}

#[test]
fn one_contribution_at_rate_one_takes_off_what_it_sends() {
    let one = blob(1, 1, 5);
    let mut mean = values(0);
    let mut out: Vec<&mut [f32]> = mean.iter_mut().map(Vec::as_mut_slice).collect();
    let report =
        aggregate_into(&mut out, &[(&one, Weight(12_345))], &SETTINGS, &layout(), Rule::Mean).unwrap();
    let decoded = decode(&one, &SETTINGS, &layout()).unwrap();
    let sent: usize = decoded.tensors.iter().map(|tensor| tensor.positions.len()).sum();
    assert_eq!((report.entries, report.moved), (sent as u64, sent as u64));
    for (mean, sent) in mean.iter().zip(&decoded.tensors) {
        assert_eq!(mean.iter().filter(|&&value| value != 0.0).count(), sent.positions.len());
        assert!(sent.positions.iter().zip(&sent.values).all(|(&at, value)| mean[at as usize] == *value));
    }
    let measured = measure(&one, &SETTINGS, &layout()).unwrap();
    assert!((measured.norm - report.norm).abs() < 1e-9 * report.norm);
    assert_eq!(measured.entries, sent as u64);
}

#[test]
fn a_bad_contribution_changes_nothing_and_is_named() {
    let (one, two) = (blob(1, 1, 5), blob(2, 1, 6));
    let state = values(9);
    let refused = |list: &[(&[u8], Weight)]| {
        let mut moved = state.clone();
        let error = step(&mut moved, list, 1.0).unwrap_err();
        assert_eq!(bits(&moved), bits(&state));
        error
    };
    let last = two.len() - 1;
    let mut torn = two.clone();
    torn[last] = 0xff;
    let mut other = two.clone();
    other[12] ^= 1;
    let w = Weight(1);
    assert!(matches!(refused(&[(&one, w), (&torn, w)]), AggregateError::Decode { index: 1, .. }));
    assert!(matches!(refused(&[(&one, w), (&two[..last], w)]), AggregateError::Decode { index: 1, .. }));
    assert!(matches!(
        refused(&[(&other, w), (&one, w)]),
        AggregateError::Decode { index: 0, source: DecodeError::Settings { .. } }
    ));
    assert_eq!(refused(&[(&one, w), (&one, w)]), AggregateError::Repeated { first: 0, second: 1 });
    let later = blob(3, 2, 1);
    assert_eq!(refused(&[(&one, w), (&later, w)]), AggregateError::Round { index: 1, expected: 1, got: 2 });
    assert_eq!(refused(&[(&one, Weight(0))]), AggregateError::Weight { index: 0, weight: 0 });
    assert_eq!(
        refused(&[(&one, Weight(u64::MAX)), (&two, w)]),
        AggregateError::Weight { index: 1, weight: 1 }
    );
    assert_eq!(refused(&[]), AggregateError::Empty);
}

#[test]
fn shapes_and_rates_are_checked() {
    let one = blob(1, 1, 5);
    let mut state = values(9);
    state.pop();
    assert_eq!(
        step(&mut state, &[(&one, Weight(1))], 1.0),
        Err(AggregateError::Shape { tensor: 2, expected: 130, got: 0 })
    );
    for rate in [0.0, -1.0, f32::INFINITY] {
        let refused = step(&mut values(9), &[(&one, Weight(1))], rate);
        assert_eq!(refused, Err(AggregateError::LearningRate { got: rate }));
    }
}

#[test]
fn the_norm_gate_holds_to_the_median() {
    let gate = NormGate::default();
    let history = [5.0, 1.0, 100.0, 2.0];
    assert_eq!(gate.check(3.5 * 3.0, &history), Ok(()));
    assert_eq!(gate.check(3.5 * 0.2, &history), Ok(()));
    assert!(matches!(gate.check(10.6, &history), Err(GateError::Norm { median: 3.5, .. })));
    assert!(gate.check(0.69, &history).is_err());
    assert!(gate.check(f64::NAN, &history).is_err());
    assert_eq!(gate.check(7.0, &[]), Ok(()));
    assert!(gate.check(f64::INFINITY, &[]).is_err());
}

#[test]
fn overlap_is_one_for_a_copy_and_small_for_strangers() {
    let (one, two) = (blob(1, 1, 5), blob(2, 1, 6));
    let same = overlap(&one, &one, &SETTINGS, &layout()).unwrap();
    assert!(same.shared == same.fewest && same.fraction() == 1.0);
    let strangers = overlap(&one, &two, &SETTINGS, &layout()).unwrap();
    let chance = f64::from(SETTINGS.k) / f64::from(SETTINGS.chunk);
    assert!((strangers.fraction() - chance).abs() < 0.05, "{strangers:?}");
}

/// The robust rules against their definitions on dense values.
mod robust {
    use super::*;

    fn combined(list: &[Vec<u8>], rule: Rule) -> Vec<Vec<f32>> {
        let mut out = values(0);
        let mut slices: Vec<&mut [f32]> = out.iter_mut().map(Vec::as_mut_slice).collect();
        let list: Vec<(&[u8], Weight)> = list.iter().map(|blob| (blob.as_slice(), Weight(10))).collect();
        aggregate_into(&mut slices, &list, &SETTINGS, &layout(), rule).unwrap();
        out
    }

    fn dense(blob: &[u8]) -> Vec<f64> {
        let mut all = Vec::new();
        for (sent, (_, elements)) in
            decode(blob, &SETTINGS, &layout()).unwrap().tensors.iter().zip(layout().tensors())
        {
            let mut values = vec![0f64; *elements as usize];
            for (&at, &value) in sent.positions.iter().zip(&sent.values) {
                values[at as usize] = f64::from(value);
            }
            all.extend(values);
        }
        all
    }

    fn norm(values: &[f64]) -> f64 {
        values.iter().map(|v| v * v).sum::<f64>().sqrt()
    }

    /// A contribution of `factor` times the usual size.
    fn loud(member: u8, seed: u64, factor: f32) -> Vec<u8> {
        let origin = Origin { round: 1, member: [member; 32], steps: 1, tokens: 1 };
        let delta: Vec<Vec<f32>> =
            values(seed).into_iter().map(|t| t.into_iter().map(|v| v * factor).collect()).collect();
        let delta: Vec<&[f32]> = delta.iter().map(Vec::as_slice).collect();
        encode(&SETTINGS, &layout(), &origin, &delta, &mut ErrorFeedback::zero(&layout())).unwrap()
    }

    #[test]
    fn the_trimmed_mean_is_its_definition() {
        let blobs: Vec<Vec<u8>> = (1..6).map(|id| blob(id, 1, u64::from(id))).collect();
        let found: Vec<f32> = combined(&blobs, Rule::Trimmed { trim: 0.2 }).concat();
        let all: Vec<Vec<f64>> = blobs.iter().map(|blob| dense(blob)).collect();
        for (at, found) in found.iter().enumerate() {
            let mut said: Vec<f32> = all.iter().map(|values| values[at] as f32).collect();
            said.sort_by(f32::total_cmp);
            let expected = said[1..4].iter().sum::<f32>() / 3.0;
            assert_eq!(*found, expected, "element {at} of {said:?}");
        }
    }

    #[test]
    fn nothing_trimmed_is_the_plain_mean() {
        let blobs: Vec<Vec<u8>> = (1..4).map(|id| blob(id, 1, u64::from(id))).collect();
        let (trimmed, mean) = (combined(&blobs, Rule::Trimmed { trim: 0.0 }), combined(&blobs, Rule::Mean));
        for (one, other) in trimmed.iter().flatten().zip(mean.iter().flatten()) {
            assert!((one - other).abs() <= 1e-5 * other.abs().max(1e-3), "{one} {other}");
        }
    }

    #[test]
    fn centered_clipping_is_its_definition() {
        let mut blobs: Vec<Vec<u8>> = (1..6).map(|id| blob(id, 1, u64::from(id))).collect();
        blobs.push(loud(9, 77, 40.0));
        let found: Vec<f32> = combined(&blobs, Rule::CenteredClip { clip: 1.5 }).concat();
        let all: Vec<Vec<f64>> = blobs.iter().map(|blob| dense(blob)).collect();
        let mut norms: Vec<f64> = all.iter().map(|x| norm(x)).collect();
        norms.sort_by(f64::total_cmp);
        let tau = 1.5 * (norms[2] + norms[3]) / 2.0;
        let mut centre = vec![0f64; found.len()];
        for _ in 0..3 {
            let mut next = centre.clone();
            for x in &all {
                let apart: Vec<f64> = x.iter().zip(&centre).map(|(x, v)| x - v).collect();
                let kept = (tau / norm(&apart)).min(1.0);
                for (next, apart) in next.iter_mut().zip(apart) {
                    *next += apart * kept / 6.0;
                }
            }
            centre = next;
        }
        for (found, expected) in found.iter().zip(&centre) {
            let close = (f64::from(*found) - expected).abs() < 1e-5 * norm(&centre);
            assert!(close, "{found} {expected}");
        }
    }

    #[test]
    fn a_loud_liar_moves_the_mean_far_and_the_robust_rules_little() {
        let honest: Vec<Vec<u8>> = (1..6).map(|id| blob(id, 1, u64::from(id))).collect();
        let mut with_liar = honest.clone();
        with_liar.push(loud(9, 77, 1_000.0));
        let moved = |rule| {
            let apart: Vec<f64> = combined(&with_liar, rule)
                .concat()
                .iter()
                .zip(combined(&honest, rule).concat())
                .map(|(one, other)| f64::from(one - other))
                .collect();
            norm(&apart)
        };
        let usual = norm(&dense(&honest[0]));
        assert!(moved(Rule::Mean) > 50.0 * usual);
        assert!(moved(Rule::CenteredClip { clip: 1.0 }) < usual);
        assert!(moved(Rule::Trimmed { trim: 0.2 }) < usual);
    }
}

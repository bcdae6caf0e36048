use proptest::prelude::*;

use super::*;

fn choose(sampling: Sampling, logits: &[f32]) -> u32 {
    Sampler::new(sampling, 0, &[]).unwrap().choose(logits).unwrap()
}

/// How often each token comes in `draws` draws.
fn histogram(sampling: Sampling, logits: &[f32], draws: usize) -> Vec<usize> {
    let mut sampler = Sampler::new(sampling, 0, &[]).unwrap();
    let mut counts = vec![0; logits.len()];
    for _ in 0..draws {
        counts[sampler.choose(logits).unwrap() as usize] += 1;
    }
    counts
}

fn warm() -> Sampling {
    Sampling { temperature: 1.0, ..Sampling::default() }
}

#[test]
fn greedy_takes_the_likeliest_and_of_equals_the_lowest_id() {
    assert_eq!(choose(Sampling::default(), &[0.5, 2.0, 2.0, -1.0]), 1);
    assert_eq!(choose(Sampling::default(), &[f32::NEG_INFINITY, -3.0]), 1);
    assert_eq!(choose(Sampling::default(), &[-0.0, 0.0]), 0);
}

#[test]
fn draws_follow_the_probabilities_at_their_temperature() {
    // probabilities 0.5, 0.25, 0.25; at half the temperature 2/3, 1/6, 1/6
    let logits = [4.0f32.ln(), 2.0f32.ln(), 2.0f32.ln()];
    let counts = histogram(Sampling { seed: 1, ..warm() }, &logits, 20_000);
    for (count, expected) in counts.iter().zip([10_000.0, 5_000.0, 5_000.0]) {
        // five standard deviations are at most 354
        assert!((*count as f64 - expected).abs() < 360.0, "{counts:?}");
    }
    let counts = histogram(Sampling { temperature: 0.5, seed: 1, ..warm() }, &logits, 20_000);
    for (count, expected) in counts.iter().zip([13_333.3, 3_333.3, 3_333.3]) {
        assert!((*count as f64 - expected).abs() < 340.0, "{counts:?}");
    }
}

#[test]
fn each_limit_leaves_what_it_should() {
    // probabilities 0.4, 0.3, 0.2, 0.1
    let logits = [0.4f32.ln(), 0.3f32.ln(), 0.2f32.ln(), 0.1f32.ln()];
    let left = |sampling| histogram(sampling, &logits, 2_000).iter().map(|&n| n > 0).collect::<Vec<_>>();
    assert_eq!(left(warm()), [true; 4]);
    assert_eq!(left(Sampling { top_k: 2, ..warm() }), [true, true, false, false]);
    assert_eq!(left(Sampling { top_k: 1, ..warm() }), [true, false, false, false]);
    assert_eq!(left(Sampling { top_k: 9, ..warm() }), [true; 4]);
    // 0.4 is not yet 0.65, 0.7 is
    assert_eq!(left(Sampling { top_p: 0.65, ..warm() }), [true, true, false, false]);
    assert_eq!(left(Sampling { top_p: 0.85, ..warm() }), [true, true, true, false]);
    assert_eq!(left(Sampling { top_p: 1e-9, ..warm() }), [true, false, false, false]);
    // 0.2 is half of 0.4, 0.1 is not
    assert_eq!(left(Sampling { min_p: 0.49, ..warm() }), [true, true, true, false]);
    assert_eq!(left(Sampling { min_p: 1.0, ..warm() }), [true, false, false, false]);
    // top p counts within what top k left: 0.4 of 0.7 is 0.57
    assert_eq!(left(Sampling { top_k: 2, top_p: 0.56, ..warm() }), [true, false, false, false]);
}

#[test]
fn among_equals_top_k_keeps_the_lowest_ids() {
    let counts = histogram(Sampling { top_k: 3, ..warm() }, &[1.0; 8], 500);
    assert!(counts[..3].iter().all(|&n| n > 0) && counts[3..].iter().all(|&n| n == 0), "{counts:?}");
}

#[test]
fn what_was_said_is_less_likely_to_be_said_again() {
    let sampling = Sampling { repetition_penalty: 2.0, ..Sampling::default() };
    let mut sampler = Sampler::new(sampling, 0, &[]).unwrap();
    // 3 stands in the prompt: its logit 3 becomes 1.5; then 1 has been said: 2 becomes 1; then 1.5 is largest
    sampler.observe(&[3]);
    let logits = [0.5, 2.0, -1.0, 3.0];
    assert_eq!(sampler.choose(&logits), Ok(1));
    assert_eq!(sampler.choose(&logits), Ok(3));
    // a negative logit is multiplied: -1 becomes -2, so -1.5 is likelier
    let mut sampler = Sampler::new(sampling, 0, &[]).unwrap();
    sampler.observe(&[0]);
    assert_eq!(sampler.choose(&[-1.0, -1.5]), Ok(1));
}

#[test]
fn broken_logits_and_settings_are_named() {
    let mut sampler = Sampler::new(warm(), 0, &[1]).unwrap();
    assert!(matches!(sampler.choose(&[0.0, f32::NAN]), Err(SampleError::NotFinite { token: 1, .. })));
    assert!(matches!(sampler.choose(&[f32::INFINITY, 0.0]), Err(SampleError::NotFinite { token: 0, .. })));
    assert_eq!(sampler.choose(&[f32::NEG_INFINITY, 0.0]), Err(SampleError::NoCandidate { tokens: 2 }));
    assert_eq!(sampler.choose(&[]), Err(SampleError::NoCandidate { tokens: 0 }));
    for (named, sampling) in [
        ("temperature", Sampling { temperature: -1.0, ..warm() }),
        ("temperature", Sampling { temperature: f64::NAN, ..warm() }),
        ("temperature", Sampling { temperature: 1e-300, ..warm() }),
        ("top_p", Sampling { top_p: 0.0, ..warm() }),
        ("min_p", Sampling { min_p: 1.5, ..warm() }),
        ("repetition_penalty", Sampling { repetition_penalty: 0.0, ..warm() }),
    ] {
        let error = Sampler::new(sampling, 0, &[]).unwrap_err();
        assert!(matches!(error, SampleError::Setting { setting, .. } if setting == named), "{error}");
    }
}

fn any_sampling() -> impl Strategy<Value = Sampling> {
    let penalty = prop_oneof![Just(1.0), 0.5..2.0];
    (0.0..3.0f64, 0..12usize, 0.01..=1.0f64, 0.0..=1.0f64, penalty, any::<u64>()).prop_map(
        |(temperature, top_k, top_p, min_p, repetition_penalty, seed)| Sampling {
            temperature,
            top_k,
            top_p,
            min_p,
            repetition_penalty,
            seed,
        },
    )
}

fn any_logits() -> impl Strategy<Value = Vec<f32>> {
    let logit =
        prop_oneof![8 => -20.0..20.0f32, 1 => Just(f32::NEG_INFINITY), 1 => Just(3.0), 1 => -1e30..1e30f32];
    proptest::collection::vec(logit, 2..40)
}

proptest! {
    #[test]
    fn the_same_seed_draws_the_same_and_never_a_banned_token(
        sampling in any_sampling(),
        logits in any_logits(),
        banned in proptest::collection::vec(0..40u32, 0..3),
        answer in any::<u64>(),
    ) {
        let draw = || {
            let mut sampler = Sampler::new(sampling, answer, &banned).unwrap();
            (0..8).map(|_| sampler.choose(&logits)).collect::<Vec<_>>()
        };
        let first = draw();
        prop_assert_eq!(&first, &draw());
        for token in first {
            match token {
                Ok(token) => {
                    prop_assert!(!banned.contains(&token));
                    prop_assert!(logits[token as usize].is_finite());
                }
                Err(error) => {
                    let free = |(id, x): (usize, &f32)| x.is_finite() && !banned.contains(&(id as u32));
                    prop_assert!(!logits.iter().enumerate().any(free), "{}", error);
                }
            }
        }
    }

    #[test]
    fn without_heat_or_with_one_candidate_it_is_the_likeliest(
        logits in proptest::collection::vec(-20.0..20.0f32, 2..40),
        seed in any::<u64>(),
    ) {
        let greedy = choose(Sampling { seed, ..Sampling::default() }, &logits);
        let largest = logits.iter().copied().fold(f32::MIN, f32::max);
        prop_assert_eq!(Some(greedy as usize), logits.iter().position(|&x| x == largest));
        for sampling in [
            Sampling { top_k: 1, seed, ..warm() },
            Sampling { top_p: 1e-12, seed, ..warm() },
            Sampling { min_p: 1.0, top_k: 1, seed, ..warm() },
            Sampling { temperature: 1e-9, top_k: 1, seed, ..warm() },
        ] {
            prop_assert_eq!(choose(sampling, &logits), greedy);
        }
    }

    #[test]
    fn limits_only_ever_drop_less_likely_tokens(sampling in any_sampling(), logits in any_logits()) {
        let sampling = Sampling { repetition_penalty: 1.0, temperature: sampling.temperature + 0.1, ..sampling };
        let sampler = Sampler::new(sampling, 0, &[]).unwrap();
        let all = sampler.candidates(&logits);
        let mut kept = all.clone();
        sampler.narrow(&mut kept);
        prop_assert!(all.is_empty() || !kept.is_empty());
        prop_assert!(sampling.top_k == 0 || kept.len() <= sampling.top_k);
        if let Some(last) = kept.last() {
            for dropped in all.iter().filter(|candidate| !kept.contains(candidate)) {
                prop_assert!(likelier(last, dropped).is_lt());
            }
        }
    }
}

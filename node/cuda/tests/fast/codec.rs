use talkoot_cuda::{
    Cuda,
    codec::{ContributionError, encode, encode_from_host},
};
use talkoot_emulator::{Emulator, Fault, Order};
use talkoot_trainer::{
    backend::Backend,
    contribution::{self, CodecSettings, EncodeError, ErrorFeedback, Layout, Origin},
};

use crate::testkit::random;

const ORIGIN: Origin = Origin { round: 3, member: [7; 32], steps: 30, tokens: 4096 };

/// Numbers of many sizes, with ties, zeros of both signs, and some that are flushed.
fn delta(len: usize, seed: u64) -> Vec<f32> {
    let kind = |(i, x): (usize, f32)| match (i + seed as usize) % 11 {
        0 => 0.0,
        1 => -0.0,
        2 => 1.5,
        3 => -1.5,
        4 => x * 1e-31,
        5 => x * 100.0,
        6 => x * x * x,
        _ => x,
    };
    random(len, seed).into_iter().enumerate().map(kind).collect()
}

fn bytes_and_feedback_agree(settings: CodecSettings, lengths: &[usize], order: Order) {
    let Some(emulator) = Emulator::new(order) else { return };
    let cuda = Cuda::new(emulator);
    let entries = lengths.iter().enumerate().map(|(i, &len)| (format!("t{i:02}"), len as u64)).collect();
    let layout = Layout::new(entries).unwrap();
    let mut expected_feedback = ErrorFeedback::zero(&layout);
    let mut feedback: Vec<_> = lengths.iter().map(|&len| cuda.zeros(len).unwrap()).collect();
    for round in 0..3 {
        let deltas: Vec<Vec<f32>> =
            lengths.iter().enumerate().map(|(i, &len)| delta(len, 10 * round + i as u64)).collect();
        let slices: Vec<&[f32]> = deltas.iter().map(Vec::as_slice).collect();
        let expected =
            contribution::encode(&settings, &layout, &ORIGIN, &slices, &mut expected_feedback).unwrap();
        let there: Vec<_> = deltas.iter().map(|delta| cuda.upload(delta).unwrap()).collect();
        let there: Vec<_> = there.iter().collect();
        let found = encode(&cuda, &settings, &layout, &ORIGIN, &there, None, &mut feedback).unwrap();
        assert!(found == expected, "{settings:?}, round {round}: the bytes differ");
        for (found, expected) in feedback.iter().zip(expected_feedback.tensors()) {
            let bits = |numbers: &[f32]| numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&cuda.download(found).unwrap()), bits(expected), "{settings:?}, round {round}");
        }
    }
}

#[test]
fn the_blob_and_the_feedback_are_the_processors_to_the_bit() {
    for (bits, order) in [1, 2, 4, 8].into_iter().zip(Order::ALL.into_iter().cycle()) {
        for (chunk, k) in [(64, 5), (300, 300), (4096, 64), (1000, 1)] {
            let settings = CodecSettings { chunk, k, bits, error_feedback: 0.95 };
            bytes_and_feedback_agree(settings, &[1, 700, 4097, 64, 300], order);
        }
    }
}

#[test]
fn from_the_host_a_tensor_at_a_time_the_bytes_are_the_same_and_a_refusal_changes_nothing() {
    let Some(emulator) = Emulator::new(Order::Forward) else { return };
    let cuda = Cuda::new(emulator);
    let settings = CodecSettings { chunk: 64, k: 4, ..CodecSettings::default() };
    let layout = Layout::new(vec![("a".to_owned(), 300), ("b".to_owned(), 1)]).unwrap();
    let (mut found, mut expected) = (ErrorFeedback::zero(&layout), ErrorFeedback::zero(&layout));
    for round in 0..3 {
        let deltas = [delta(300, round), delta(1, round)];
        let deltas = deltas.each_ref().map(Vec::as_slice);
        let ours = encode_from_host(&cuda, &settings, &layout, &ORIGIN, &deltas, None, &mut found).unwrap();
        let theirs = contribution::encode(&settings, &layout, &ORIGIN, &deltas, &mut expected).unwrap();
        assert_eq!((ours, found.to_bytes()), (theirs, expected.to_bytes()), "round {round}");
    }
    let refused = encode_from_host(
        &cuda,
        &settings,
        &layout,
        &ORIGIN,
        &[&[f32::NAN; 300][..], &[0.0]],
        None,
        &mut found,
    );
    assert!(matches!(refused, Err(ContributionError::Refused(_))), "{refused:?}");
    let launches = cuda.device().faults().launches();
    cuda.device().faults().add(Fault::LostAt { launch: launches });
    let lost =
        encode_from_host(&cuda, &settings, &layout, &ORIGIN, &[&[1.0; 300][..], &[1.0]], None, &mut found);
    assert!(matches!(lost, Err(ContributionError::Device(_))), "{lost:?}");
    assert_eq!(found.to_bytes(), expected.to_bytes());
}

#[test]
fn numbers_that_have_diverged_are_refused_by_name_and_the_feedback_stays() {
    let Some(emulator) = Emulator::new(Order::Forward) else { return };
    let cuda = Cuda::new(emulator);
    let settings = CodecSettings { chunk: 64, k: 4, ..CodecSettings::default() };
    let layout = Layout::new(vec![("a".to_owned(), 100), ("b".to_owned(), 70)]).unwrap();
    let kept = random(70, 9);
    let mut feedback = vec![cuda.zeros(100).unwrap(), cuda.upload(&kept).unwrap()];
    for bad in [f32::NAN, f32::NEG_INFINITY, 5e9] {
        let mut delta = random(70, 2);
        delta[66] = bad;
        let there = [cuda.upload(&random(100, 1)).unwrap(), cuda.upload(&delta).unwrap()];
        let there: Vec<_> = there.iter().collect();
        let refused = encode(&cuda, &settings, &layout, &ORIGIN, &there, None, &mut feedback);
        let named = matches!(
            refused,
            Err(ContributionError::Refused(EncodeError::Absurd { tensor: 1, element: 66, .. }))
        );
        assert!(named, "{refused:?}");
        assert_eq!(cuda.download(&feedback[1]).unwrap(), kept);
    }
}

//! Moments in the host's memory: the bits of those on the device, in every order that a device's lanes allow.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]
#![allow(unsafe_code, reason = "launches are handed on, with the same promise")]

#[path = "offload/recorder.rs"]
mod recorder;

use recorder::{Preference, Recorder};
use talkoot_cuda::{Cuda, check::random, device::Lane, slab::Slab};
use talkoot_emulator::{Emulator, Order};
use talkoot_trainer::{
    backend::{AdamWStep, Backend},
    cpu::Cpu,
    moments::eight_bit::{Side, packed_words},
    plan::{OnHost, SLOTS},
};

/// Moments alone rest on the host.
const MOMENTS: OnHost = OnHost { moments: true, ..OnHost::NOTHING };

/// Words of a slice: two blocks of moments in eight bits.
const SLICE: usize = 130;

/// A tensor with its moments.
struct Tensor<B: Backend> {
    parameter: B::Buffer,
    first: B::Buffer,
    second: B::Buffer,
    len: usize,
}

/// What `steps` steps over tensors of these lengths make of parameters and moments, as bits. The moments of every second
/// tensor are zero at first, those of the others something.
fn trained<B: Backend>(backend: &B, lengths: &[usize], eight_bit: bool, steps: u64) -> Vec<Vec<u32>> {
    let mut tensors: Vec<Tensor<B>> = (0u64..)
        .zip(lengths)
        .map(|(seed, &len)| {
            let parameter = backend.upload(&random(len, seed)).unwrap();
            let words = if eight_bit { packed_words(len) } else { len };
            let (first, second) = if seed % 2 == 1 {
                (backend.zeros_at_rest(words).unwrap(), backend.zeros_at_rest(words).unwrap())
            } else {
                let squares: Vec<f32> = random(len, seed + 60).iter().map(|x| x * x).collect();
                let held = [(Side::First, random(len, seed + 50)), (Side::Second, squares)];
                let [first, second] = held.map(|(side, numbers)| {
                    backend.upload_at_rest(&if eight_bit { side.pack(&numbers) } else { numbers }).unwrap()
                });
                (first, second)
            };
            Tensor { parameter, first, second, len }
        })
        .collect();
    let step = AdamWStep {
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        step_size: 1e-2,
        root_correction: 0.7,
        gradient_factor: 0.25,
    };
    for round in 0..steps {
        for (seed, tensor) in (0u64..).zip(&mut tensors) {
            // a gradient that the kernels before made, and whose memory the next one takes
            let mut gradient = backend.upload(&random(tensor.len, 1000 * round + seed)).unwrap();
            backend.add(&tensor.parameter, &mut gradient).unwrap();
            let Tensor { parameter, first, second, .. } = tensor;
            if eight_bit {
                backend.adamw_eight_bit(step, 0.99, 1.5, &gradient, first, second, parameter).unwrap();
            } else {
                backend.adamw(step, 0.99, &gradient, first, second, parameter).unwrap();
            }
        }
    }
    let all = tensors.iter().flat_map(|tensor| [&tensor.parameter, &tensor.first, &tensor.second]);
    all.map(|buffer| backend.download(buffer).unwrap().iter().map(|x| x.to_bits()).collect()).collect()
}

/// Lengths with many slices and one, torn ones, and so few that a step begins before the last one's copies end.
const LENGTHS: [&[usize]; 4] = [&[700, 5, 300], &[5], &[130, 3], &[1400]];

#[test]
fn every_order_that_events_allow_gives_the_bits_of_moments_on_the_device() {
    for lengths in LENGTHS {
        for eight_bit in [false, true] {
            let expected = trained(&Cpu::default(), lengths, eight_bit, 4);
            for preference in Preference::all() {
                let Some(recorder) = Recorder::new(preference) else { return };
                let cuda = Cuda::resting(recorder, MOMENTS, SLICE).unwrap();
                let found = trained(&cuda, lengths, eight_bit, 4);
                assert_eq!(found, expected, "{lengths:?}, eight bits: {eight_bit}, {preference:?}");
            }
        }
    }
}

#[test]
fn copies_go_on_beside_kernels() {
    let copies_first = Preference::Lanes([Lane::ToDevice, Lane::ToHost, Lane::Kernels]);
    let Some(recorder) = Recorder::new(copies_first) else { return };
    let cuda = Cuda::resting(recorder, MOMENTS, SLICE).unwrap();
    trained(&cuda, &[1400], false, 1);
    // all slices but the first come while a kernel is still to run, and two at most are ahead of it
    assert!(cuda.device().overlaps() > 20, "{}", cuda.device().overlaps());
}

#[test]
fn moments_at_rest_take_no_memory_of_the_device_but_the_slots() {
    let slab = || Some(Slab::reserve(Emulator::new(Order::Forward)?, 1 << 20).unwrap());
    let (Some(with), Some(without)) = (slab(), slab()) else { return };
    let cuda = Cuda::resting(with, MOMENTS, SLICE).unwrap();
    let slots = cuda.device().taken();
    assert_eq!(slots, (SLOTS * (2 * 4 * SLICE).next_multiple_of(256)) as u64);
    let rest = cuda.zeros_at_rest(1 << 20).unwrap();
    assert_eq!(cuda.device().taken(), slots, "four times the slab, and none of it there");
    assert_eq!(cuda.download(&rest).unwrap(), vec![0.0; 1 << 20]);
    let plain = Cuda::new(without);
    plain.zeros_at_rest(100).unwrap();
    assert!(plain.zeros_at_rest(1 << 20).is_err(), "without offloading they are the device's");
}

#[test]
fn a_device_without_room_for_the_slots_says_so_before_anything_else() {
    let Some(emulator) = Emulator::new(Order::Forward) else { return };
    let slab = Slab::reserve(emulator, 2 << 10).unwrap();
    let refused = Cuda::resting(slab, MOMENTS, SLICE).unwrap_err();
    assert!(refused.to_string().contains("no room for 1040 more bytes"), "{refused}");
}

//! The emulator finds the faults that it is there to find, and runs kernels without them as they are meant.
#![cfg(unix)]
#![allow(unsafe_code, reason = "kernels are launched, broken ones on purpose")]
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::path::Path;

use talkoot_cuda::{
    device::{Argument, Device, DeviceError, Shape},
    kernels::{File, Kernel},
};
use talkoot_emulator::{Emulator, Memory, Order};

const PATH: &str = "broken/kernels.cu";

const fn kernel(name: &'static str) -> Kernel {
    Kernel { file: PATH, name }
}

const FILES: &[File] = &[File {
    path: PATH,
    kernels: &[
        kernel("reads_behind"),
        kernel("writes_before"),
        kernel("turns_without_waiting"),
        kernel("turns"),
        kernel("waits_apart"),
        kernel("sums_a_warp"),
        kernel("shows_fresh_memory"),
    ],
}];

fn emulator(order: Order) -> Option<Emulator> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernels");
    Emulator::new(order).map(|emulator| emulator.with_kernels(sources, FILES))
}

/// A buffer with these numbers.
fn buffer(emulator: &Emulator, numbers: &[f32]) -> Memory {
    let memory = emulator.allocate(size_of_val(numbers)).unwrap();
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    emulator.upload(&bytes, &memory, 0).unwrap();
    memory
}

fn numbers(emulator: &Emulator, memory: &Memory, count: usize) -> Vec<f32> {
    let mut bytes = vec![0; count * 4];
    emulator.download(memory, 0, &mut bytes).unwrap();
    bytes.as_chunks().0.iter().map(|&number| f32::from_le_bytes(number)).collect()
}

/// One block of 64 threads.
fn run(
    emulator: &Emulator,
    name: &'static str,
    arguments: &[Argument<'_, Memory>],
) -> Result<(), DeviceError> {
    let shape = Shape { grid: [1, 1, 1], block: [64, 1, 1], shared_bytes: 0 };
    // SAFETY: what the kernel does is the question, and the emulator has the answer.
    unsafe { emulator.launch(kernel(name), shape, arguments) }
}

fn message(result: Result<(), DeviceError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn a_read_behind_a_buffer_ends_the_launch_with_its_thread() {
    let Some(emulator) = emulator(Order::Forward) else { return };
    let (x, y) = (buffer(&emulator, &[1.0; 64]), buffer(&emulator, &[0.0; 64]));
    let arguments = [Argument::Memory(&x, 0), Argument::Memory(&y, 0), Argument::U32(64)];
    let said = message(run(&emulator, "reads_behind", &arguments));
    assert!(said.contains("thread (63, 0, 0): touches memory outside"), "{said}");
    // and the emulator goes on
    run(&emulator, "turns", &arguments[..2]).unwrap();
}

#[test]
fn a_write_before_a_buffer_is_found() {
    let Some(emulator) = emulator(Order::Forward) else { return };
    let y = buffer(&emulator, &[0.0; 64]);
    let said = message(run(&emulator, "writes_before", &[Argument::Memory(&y, 0)]));
    assert!(said.contains("beside a buffer"), "{said}");
}

#[test]
fn a_missing_barrier_shows_in_another_order() {
    let results = |name| -> Option<Vec<Vec<u32>>> {
        let of = |order| {
            let emulator = emulator(order)?;
            let x: Vec<f32> = (0..64).map(|i| i as f32).collect();
            let (x, y) = (buffer(&emulator, &x), buffer(&emulator, &[0.0; 64]));
            run(&emulator, name, &[Argument::Memory(&x, 0), Argument::Memory(&y, 0)]).unwrap();
            Some(numbers(&emulator, &y, 64).iter().map(|number| number.to_bits()).collect())
        };
        Order::ALL.into_iter().map(of).collect()
    };
    let Some(right) = results("turns") else { return };
    let turned: Vec<u32> = (0..64).rev().map(|i| (i as f32).to_bits()).collect();
    assert!(right.iter().all(|result| *result == turned));
    let wrong = results("turns_without_waiting").unwrap();
    assert!(wrong[0] != wrong[1] && wrong.iter().all(|result| *result != turned));
}

#[test]
fn threads_that_do_not_all_come_to_a_barrier_end_the_launch() {
    let Some(emulator) = emulator(Order::Random(3)) else { return };
    let y = buffer(&emulator, &[0.0; 64]);
    let said = message(run(&emulator, "waits_apart", &[Argument::Memory(&y, 0)]));
    assert!(said.contains("of 64 threads 24 ended and 40 wait at __syncthreads"), "{said}");
}

#[test]
fn lanes_of_a_warp_exchange_numbers() {
    for order in Order::ALL {
        let Some(emulator) = emulator(order) else { return };
        let x: Vec<f32> = (0..64).map(|i| i as f32).collect();
        let (x, y) = (buffer(&emulator, &x), buffer(&emulator, &[0.0; 64]));
        run(&emulator, "sums_a_warp", &[Argument::Memory(&x, 0), Argument::Memory(&y, 0)]).unwrap();
        let sums = numbers(&emulator, &y, 64);
        assert!(sums[..32].iter().all(|&sum| sum == 496.0) && sums[32..].iter().all(|&sum| sum == 1520.0));
    }
}

#[test]
fn what_nobody_wrote_is_not_a_number() {
    let Some(emulator) = emulator(Order::Forward) else { return };
    let y = emulator.allocate(256).unwrap();
    assert!(numbers(&emulator, &y, 64).iter().all(|number| number.is_nan()));
    for _ in 0..2 {
        run(&emulator, "shows_fresh_memory", &[Argument::Memory(&y, 0)]).unwrap();
        assert!(numbers(&emulator, &y, 64).iter().all(|number| number.is_nan()));
    }
}

#[test]
fn arguments_are_held_to_the_declaration() {
    let Some(emulator) = emulator(Order::Forward) else { return };
    let (x, y) = (buffer(&emulator, &[1.0; 65]), buffer(&emulator, &[0.0; 64]));
    let arguments = [Argument::Memory(&x, 0), Argument::Memory(&y, 0), Argument::U64(64)];
    let said = message(run(&emulator, "reads_behind", &arguments));
    assert!(said.contains("takes arguments 'ppu', not 'ppl'"), "{said}");
}

//! Numbers to try, and how near is near.

pub(crate) use talkoot_cuda::check::random;
use talkoot_cuda::{
    Cuda,
    device::Device,
    fast::{Fast, TensorCores},
};
use talkoot_emulator::{Emulator, Order};

/// The same numbers with the eight significant bits of bf16, nearest, ties to even.
pub(crate) fn rounded(numbers: &[f32]) -> Vec<f32> {
    let round = |x: &f32| {
        let bits = x.to_bits();
        f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000)
    };
    numbers.iter().map(round).collect()
}

/// The fast class with threads in an order; none where kernels cannot be emulated.
pub(crate) fn fast(order: Order) -> Option<Fast<Emulator>> {
    Some(in_fast(Emulator::new(order)?))
}

/// A device in the fast class.
pub(crate) fn in_fast<D: Device>(device: D) -> Fast<D> {
    let cuda = Cuda::new(device);
    let class = TensorCores::of(cuda.device()).unwrap();
    cuda.in_class(class)
}

/// The largest difference, relative to the largest expected number.
pub(crate) fn error(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len(), "lengths");
    let largest = expected.iter().fold(f32::MIN_POSITIVE, |most, x| most.max(x.abs()));
    let differs = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    // what is not a number is infinitely far
    differs.fold(0.0f32, |most, x| if x >= 0.0 { most.max(x) } else { f32::INFINITY }) / largest
}

/// Asserts that every list of results is within its bound, and the same bits as the first order's.
pub(crate) fn assert_near(
    what: &str,
    order: Order,
    found: &[Vec<f32>],
    expected: &[Vec<f32>],
    bound: f32,
    first: &mut Option<Vec<Vec<f32>>>,
) {
    for (result, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = error(found, expected);
        assert!(error <= bound, "{what}: result {result} is {error} off, more than {bound}");
    }
    let bits = |lists: &[Vec<f32>]| -> Vec<u32> { lists.iter().flatten().map(|x| x.to_bits()).collect() };
    let first = first.get_or_insert_with(|| found.to_vec());
    assert_eq!(bits(found), bits(first), "{what}: {order:?} gives other bits");
}

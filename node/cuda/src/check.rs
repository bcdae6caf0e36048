//! Every operation of the exact class on a device, held to the processor's bits.
//!
//! Shapes are odd: below, at and above tiles, lanes and blocks. The same cases run on emulated kernels in the tests, and on
//! a GPU by `talkoot bench device`.

mod attention;
mod elementwise;
mod frozen;
mod loss;
mod norms;
mod product;
mod rotary;
mod rows;

use talkoot_trainer::{
    backend::{Backend, Done},
    cpu::Cpu,
};

/// What a case gives: lists of numbers.
type Results = Done<Vec<Vec<f32>>>;

/// An operation on some numbers.
struct Case<B> {
    name: String,
    run: Box<dyn Fn(&B) -> Results>,
}

impl<B: Backend> Case<B> {
    fn new(name: impl Into<String>, run: impl Fn(&B) -> Results + 'static) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }
}

/// Groups of operations, by name, in the order in which they are checked.
pub const GROUPS: [&str; 8] =
    ["product", "norms", "rotary", "attention", "elementwise", "rows", "loss", "frozen"];

fn cases<B: Backend + 'static>(group: &str) -> Vec<Case<B>> {
    match group {
        "product" => product::cases(),
        "norms" => norms::cases(),
        "rotary" => rotary::cases(),
        "attention" => attention::cases(),
        "elementwise" => elementwise::cases(),
        "rows" => rows::cases(),
        "loss" => loss::cases(),
        "frozen" => frozen::cases(),
        _ => Vec::new(),
    }
}

/// What came out of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Cases that were run.
    pub cases: usize,
    /// What differs from the processor, or failed, in words; none when all is well.
    pub differences: Vec<String>,
}

/// Runs the cases of one of [`GROUPS`] on the processor and on `backend`, and compares the bits of all results.
pub fn check<B: Backend + 'static>(backend: &B, group: &str) -> Outcome {
    let processor = Cpu::default();
    let (expected, found) = (cases::<Cpu>(group), cases::<B>(group));
    let differences = expected.iter().zip(&found).filter_map(|(expected, found)| {
        let difference = match ((expected.run)(&processor), (found.run)(backend)) {
            (Ok(expected), Ok(found)) => difference(&found, &expected),
            (Err(error), _) => Some(format!("the processor fails: {error}")),
            (_, Err(error)) => Some(error.to_string()),
        };
        difference.map(|difference| format!("{}: {difference}", found.name))
    });
    Outcome { differences: differences.collect(), cases: found.len() }
}

/// The first number whose bits differ. Which NaN a NaN is, is not defined.
fn difference(found: &[Vec<f32>], expected: &[Vec<f32>]) -> Option<String> {
    if found.len() != expected.len() {
        return Some(format!("{} results, not {}", found.len(), expected.len()));
    }
    found.iter().zip(expected).enumerate().find_map(|(result, (found, expected))| {
        if found.len() != expected.len() {
            return Some(format!("result {result} has {} numbers, not {}", found.len(), expected.len()));
        }
        let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
        let place = found.iter().zip(expected).position(|pair| !same(pair))?;
        let (found, expected) = (found[place], expected[place]);
        Some(format!("number {place} of result {result} is {found:e}, on the processor {expected:e}"))
    })
}

/// Numbers between -2 and 2, the same for the same seed.
pub fn random(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 22) as f32 - 2.0
    };
    (0..len).map(|_| next()).collect()
}

/// `count` numbers below `below`, with repetitions.
fn some_rows(count: usize, below: usize, seed: u64) -> Vec<u32> {
    random(count, seed).iter().map(|x| ((x + 2.0) / 4.0 * below as f32) as u32).collect()
}

/// Copies of buffers on the host.
fn downloaded<B: Backend, const N: usize>(backend: &B, buffers: [&B::Buffer; N]) -> Results {
    buffers.into_iter().map(|buffer| backend.download(buffer)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_of_one_bit_is_found_and_nan_is_nan() {
        let numbers = vec![vec![1.0, f32::NAN], vec![0.0]];
        assert_eq!(difference(&numbers, &[vec![1.0, -f32::NAN], vec![0.0]]), None);
        let said = difference(&numbers, &[vec![1.0, f32::NAN], vec![-0.0]]).unwrap();
        assert!(said.contains("number 0 of result 1"), "{said}");
    }

    #[test]
    fn every_group_has_cases() {
        for group in GROUPS {
            assert!(!cases::<Cpu>(group).is_empty(), "{group}");
        }
    }
}

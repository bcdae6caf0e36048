//! The same bits with all vector instructions of this processor, and with one thread and three.

use rayon::ThreadPoolBuilder;

use crate::cpu::isa::{Isa, Level};

/// Runs an operation in all these ways and holds its results to the bits of the first. Results that are NaN are equal,
/// whichever NaN they are.
///
/// To be cut among threads, an operation has to be large: see [`crate::cpu::rows::parallel`].
#[track_caller]
pub(in crate::cpu) fn same_bits_everywhere(what: &str, run: impl Fn(Isa) -> Vec<Vec<f32>> + Sync) {
    let mut first: Option<Vec<Vec<f32>>> = None;
    for isa in Level::ALL.into_iter().filter_map(Isa::new) {
        for threads in [1, 3] {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let results = pool.install(|| run(isa));
            let way = format!("{what} with {} and {threads} threads", isa.level().name());
            match &first {
                None => first = Some(results),
                Some(first) => equal(&way, &results, first),
            }
        }
    }
}

#[track_caller]
fn equal(way: &str, results: &[Vec<f32>], first: &[Vec<f32>]) {
    assert_eq!(results.len(), first.len(), "{way}: results");
    for (which, (a, b)) in results.iter().zip(first).enumerate() {
        assert_eq!(a.len(), b.len(), "{way}: length of result {which}");
        for (i, (a, b)) in a.iter().zip(b).enumerate() {
            let same = a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
            assert!(same, "{way}: result {which} is {a:e} at {i}, it was {b:e}");
        }
    }
}

#[test]
#[should_panic(expected = "result 0")]
fn other_bits_with_more_threads_are_seen() {
    same_bits_everywhere("threads", |_| vec![vec![rayon::current_num_threads() as f32]]);
}

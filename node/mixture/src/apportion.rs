//! Whole numbers in proportion to weights.

/// Shares `total` out in proportion to `weights`, nobody above its `most`.
///
/// Who would get more than its most gets just that, and the rest is shared among the others, again in proportion. What
/// whole numbers leave over goes to the largest remainders (Hamilton's method), of equal ones to the first. The sum is
/// `total`, or less when everybody with a weight has its most.
///
/// Weights are finite and not negative; `total` is below 2^53.
pub(crate) fn apportion(total: u64, weights: &[f64], most: &[u64]) -> Vec<u64> {
    let mut given = vec![0; weights.len()];
    let mut open: Vec<usize> = (0..weights.len()).filter(|&at| weights[at] > 0.0 && most[at] > 0).collect();
    let mut left = total;
    while left > 0 && !open.is_empty() {
        let sum: f64 = open.iter().map(|&at| weights[at]).sum();
        let ideal = |at: usize| left as f64 * (weights[at] / sum);
        let (full, rest): (Vec<usize>, Vec<usize>) =
            open.iter().partition(|&&at| ideal(at) >= most[at] as f64);
        if full.is_empty() {
            round(left, &rest, ideal, &mut given);
            break;
        }
        for at in full {
            given[at] = most[at].min(left);
            left -= given[at];
        }
        open = rest;
    }
    given
}

/// Rounds the ideals of `open` to whole numbers that sum to `total`, as they do themselves.
fn round(total: u64, open: &[usize], ideal: impl Fn(usize) -> f64, given: &mut [u64]) {
    for &at in open {
        given[at] = ideal(at).floor() as u64;
    }
    let placed: u64 = open.iter().map(|&at| given[at]).sum();
    let mut by_remainder = open.to_vec();
    // Stable: of equal remainders the first comes first.
    by_remainder.sort_by(|&a, &b| ideal(b).fract().total_cmp(&ideal(a).fract()));
    for &at in by_remainder.iter().cycle().take(total.saturating_sub(placed) as usize) {
        given[at] += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn everything_is_given_in_proportion_and_nobody_gets_more_than_its_most(
            total in 0u64..5_000,
            shares in prop::collection::vec((prop_oneof![Just(0.0), 0.001f64..1e6], 0u64..900), 0..12),
        ) {
            let (weights, most): (Vec<f64>, Vec<u64>) = shares.into_iter().unzip();
            let given = apportion(total, &weights, &most);
            let room: u64 = weights.iter().zip(&most).filter(|(w, _)| **w > 0.0).map(|(_, most)| most).sum();
            prop_assert_eq!(given.iter().sum::<u64>(), total.min(room));
            for at in 0..given.len() {
                prop_assert!(given[at] <= most[at]);
                prop_assert!(weights[at] > 0.0 || given[at] == 0);
            }
            // Of any two that have room left, each has what the other's weight says, but for one.
            let open: Vec<usize> = (0..given.len()).filter(|&at| weights[at] > 0.0 && given[at] < most[at]).collect();
            for &a in &open {
                for &b in &open {
                    let due = given[b] as f64 * weights[a] / weights[b];
                    prop_assert!((given[a] as f64) < due + 1.0 + weights[a] / weights[b] + 1e-6);
                }
            }
        }
    }

    #[test]
    fn what_is_left_over_goes_to_the_largest_remainders_and_of_equal_ones_to_the_first() {
        let unbounded = [u64::MAX; 3];
        assert_eq!(apportion(10, &[1.0, 1.0, 1.0], &unbounded), [4, 3, 3]);
        assert_eq!(apportion(10, &[1.0, 2.6, 1.4], &unbounded), [2, 5, 3]);
        assert_eq!(apportion(10, &[8.0, 1.0, 1.0], &[3, 100, 100]), [3, 4, 3]);
        assert_eq!(apportion(10, &[8.0, 1.0, 0.0], &[3, 4, 100]), [3, 4, 0]);
        assert_eq!(apportion(10, &[], &[]), [0; 0]);
    }
}

use proptest::prelude::*;

use super::*;

const ROOMY: FitRules = FitRules { capacity: 10, max_segments: 100, balance: 0 };

fn counts(lengths: &[u32], capacity: u32) -> Vec<u64> {
    let mut counts = vec![0; capacity as usize + 1];
    lengths.iter().for_each(|&length| counts[length as usize] += 1);
    counts
}

/// All packs, each as its lengths.
fn packs(kinds: &[Kind]) -> Vec<Vec<u32>> {
    let pack = |kind: &Kind| {
        kind.lengths.iter().flat_map(|&(length, times)| std::iter::repeat_n(length, times as usize)).collect()
    };
    kinds.iter().flat_map(|kind| std::iter::repeat_n(pack(kind), kind.packs as usize)).collect()
}

/// The rule as textbooks have it, sample by sample; among equally full packs the cheapest, then the newest kind.
fn one_by_one(lengths: &[u32], capacity: u32) -> Vec<Vec<u32>> {
    let mut falling = lengths.to_vec();
    falling.sort_unstable_by_key(|&length| std::cmp::Reverse(length));
    let mut packs: Vec<Vec<u32>> = Vec::new();
    let cost = |pack: &[u32]| pack.iter().map(|&length| u64::from(length).pow(2)).sum::<u64>();
    for length in falling {
        let fits = |pack: &&mut Vec<u32>| pack.iter().sum::<u32>() + length <= capacity;
        let fullest = packs
            .iter_mut()
            .filter(fits)
            .min_by_key(|pack| (capacity - pack.iter().sum::<u32>(), cost(pack)));
        match fullest {
            Some(pack) => pack.push(length),
            None => packs.push(vec![length]),
        }
    }
    packs
}

#[test]
fn the_fullest_pack_with_room_is_chosen() {
    let mut packed = packs(&fit(&counts(&[5, 4, 7, 3, 1], 10), ROOMY));
    packed.sort();
    assert_eq!(packed, [vec![5, 4, 1], vec![7, 3]]);
}

#[test]
fn a_million_equal_samples_are_one_kind() {
    let mut many = vec![0; 11];
    many[3] = 1_000_001;
    let kinds = fit(&many, ROOMY);
    let full = Kind { lengths: vec![(3, 3)], packs: 333_333 };
    assert_eq!(kinds, [full, Kind { lengths: vec![(3, 2)], packs: 1 }]);
}

#[test]
fn packs_close_when_they_have_all_the_samples_they_may_have() {
    let kinds = fit(&counts(&[1; 10], 10), FitRules { max_segments: 4, ..ROOMY });
    assert_eq!(packs(&kinds), [vec![1; 4], vec![1; 4], vec![1; 2]]);
}

#[test]
fn a_balance_evens_out_what_attention_costs() {
    let lengths: Vec<u32> = (0..4_000u64).map(|i| 1 + (i * 2_654_435_761 % 977) as u32 % 200).collect();
    let spread = |balance| {
        let kinds = fit(&counts(&lengths, 400), FitRules { capacity: 400, max_segments: 64, balance });
        let packs: u64 = kinds.iter().map(|kind| kind.packs).sum();
        let costs: Vec<(f64, f64)> = kinds.iter().map(|k| (k.cost() as f64, k.packs as f64)).collect();
        let mean = costs.iter().map(|(cost, packs)| cost * packs).sum::<f64>() / packs as f64;
        let variance = costs.iter().map(|(cost, packs)| (cost - mean).powi(2) * packs).sum::<f64>();
        (variance / packs as f64).sqrt() / mean
    };
    assert!(spread(100) < 0.8 * spread(0), "{} {}", spread(100), spread(0));
}

proptest! {
    #[test]
    fn without_balance_packs_are_those_of_the_textbook(lengths in prop::collection::vec(1u32..=60, 0..200)) {
        let rules = FitRules { capacity: 60, max_segments: 1_000, balance: 0 };
        let fullness = |packs: Vec<Vec<u32>>| {
            let mut sums: Vec<u32> = packs.iter().map(|pack| pack.iter().sum()).collect();
            sums.sort_unstable();
            sums
        };
        let ours = fullness(packs(&fit(&counts(&lengths, 60), rules)));
        prop_assert_eq!(ours, fullness(one_by_one(&lengths, 60)));
    }

    #[test]
    fn every_sample_has_one_place_within_the_rules(
        lengths in prop::collection::vec(1u32..=100, 0..400),
        max_segments in 1u32..20,
        balance in 0u32..120,
    ) {
        let rules = FitRules { capacity: 100, max_segments, balance };
        let kinds = fit(&counts(&lengths, 100), rules);
        let mut placed: Vec<u32> = packs(&kinds).concat();
        placed.sort_unstable();
        let mut wanted = lengths.clone();
        wanted.sort_unstable();
        prop_assert_eq!(placed, wanted);
        for kind in &kinds {
            prop_assert!(kind.tokens() <= 100 && kind.segments() <= max_segments && kind.packs > 0);
        }
    }
}

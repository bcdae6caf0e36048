use std::convert::Infallible;

use proptest::prelude::*;

use super::*;
use crate::config::Amount;

fn id(number: u64) -> SampleId {
    SampleId::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes().first_chunk().unwrap())
}

/// Samples in memory, in pieces.
struct Pieces(Vec<Vec<(usize, Lot)>>);

impl Lots for Pieces {
    type Error = Infallible;

    fn pieces(&self) -> usize {
        self.0.len()
    }

    fn each(&self, piece: usize, take: &mut dyn FnMut(usize, &Lot)) -> Result<(), Infallible> {
        self.0[piece].iter().for_each(|(quota, lot)| take(*quota, lot));
        Ok(())
    }
}

fn shares_of(lots: &[(usize, Lot)], pieces: usize, quotas: &[Amount]) -> Vec<Share> {
    let pieces =
        (0..pieces).map(|piece| lots.iter().skip(piece).step_by(pieces).copied().collect()).collect();
    let Ok(shares) = shares(&Pieces(pieces), quotas);
    shares
}

proptest! {
    #[test]
    fn exactly_as_many_as_are_wanted_are_drawn_and_the_split_does_not_matter(
        weights in prop::collection::vec(1e-9f64..10.0, 1..200),
        repeats in 1u32..5,
        share in 0.01f64..1.0,
        seed: u64,
        pieces in 1usize..5,
    ) {
        let lots: Vec<(usize, Lot)> = weights
            .iter()
            .zip(0..)
            .map(|(&weight, number)| (number as usize % 2, Lot::new(id(number), number, weight, repeats, seed)))
            .collect();
        let quotas = [Amount::Share(share * f64::from(repeats)), Amount::Count(3)];
        let whole = shares_of(&lots, 1, &quotas);
        prop_assert_eq!(&shares_of(&lots, pieces, &quotas), &whole);
        for (quota, share) in whole.iter().enumerate() {
            let mine: Vec<&Lot> = lots.iter().filter(|lot| lot.0 == quota).map(|(_, lot)| lot).collect();
            let drawn: u64 = mine.iter().map(|lot| u64::from(lot.drawn(&share.limit))).sum();
            prop_assert_eq!(share.samples, mine.len() as u64);
            prop_assert_eq!(drawn, share.wanted.min(share.available));
            let of = |lot: &&Lot| lot.drawn(&share.limit) as usize;
            let last_in = mine.iter().flat_map(|lot| lot.tickets().take(of(lot)).collect::<Vec<_>>()).max();
            let first_out = mine.iter().flat_map(|lot| lot.tickets().skip(of(lot)).collect::<Vec<_>>()).min();
            if let (Some(last_in), Some(first_out)) = (last_in, first_out) {
                prop_assert!(last_in < first_out, "no copy that is left out comes before one that is drawn");
            }
        }
    }
}

#[test]
fn samples_are_drawn_in_proportion_to_their_weights() {
    // Twenty thousand of weight 1 and as many of weight 3; a quarter of all.
    let weight = |number: u64| if number.is_multiple_of(2) { 1.0 } else { 3.0 };
    let lots: Vec<(usize, Lot)> =
        (0..40_000).map(|number| (0, Lot::new(id(number), number, weight(number), 1, 7))).collect();
    let share = shares_of(&lots, 3, &[Amount::Count(10_000)])[0];
    let heavy = lots.iter().filter(|(_, lot)| lot.weight == 3.0 && lot.drawn(&share.limit) == 1).count();
    // 7,500 are expected, with a standard deviation below 60.
    assert!((7_200..7_800).contains(&heavy), "{heavy}");
}

#[test]
fn copies_are_as_many_as_the_weight_says_up_to_the_cap() {
    let weight = |number: u64| [1.0, 2.5, 100.0][number as usize % 3];
    let lots: Vec<(usize, Lot)> =
        (0..3_000).map(|number| (0, Lot::new(id(number), number, weight(number), 4, 1))).collect();
    let share = shares_of(&lots, 2, &[Amount::Count(7_500)])[0];
    let of = |weight: f64| -> u32 {
        lots.iter().filter(|(_, lot)| lot.weight == weight).map(|(_, lot)| lot.drawn(&share.limit)).sum()
    };
    assert_eq!(of(100.0), 4_000, "the cap");
    let (one, two) = (f64::from(of(1.0)), f64::from(of(2.5)));
    assert!((two / one - 2.5).abs() < 0.15, "{one} {two}");
    assert!(lots.iter().all(|(_, lot)| lot.weight != 2.5 || (2..=3).contains(&lot.drawn(&share.limit))));
}

#[test]
fn what_is_kept_comes_first_and_nothing_or_everything_can_be_wanted() {
    let mut lots: Vec<(usize, Lot)> =
        (0..50).map(|number| (0, Lot::new(id(number), number, 1e6, 2, 3))).collect();
    lots.extend((50..60).map(|number| (0, Lot::kept(id(number), number, 3))));
    let drawn = |amount: Amount| -> (u32, u32) {
        let limit = shares_of(&lots, 1, &[amount])[0].limit;
        let count = |lots: &[(usize, Lot)]| lots.iter().map(|(_, lot)| lot.drawn(&limit)).sum();
        (count(&lots[..50]), count(&lots[50..]))
    };
    assert_eq!(drawn(Amount::Count(12)), (2, 10));
    assert_eq!(drawn(Amount::Count(4)), (0, 4));
    assert_eq!(drawn(Amount::Count(110)), (100, 10));
    assert_eq!(drawn(Amount::Count(1_000)), (100, 10));
    assert_eq!(drawn(Amount::Share(0.001)), (0, 0));
}

#[test]
fn samples_with_the_same_key_are_told_apart_by_their_place() {
    let lots: Vec<(usize, Lot)> = (0..9).map(|place| (0, Lot::new(id(1), place, 1.0, 1, 0))).collect();
    let share = shares_of(&lots, 2, &[Amount::Count(4)])[0];
    let drawn: Vec<u64> =
        lots.iter().filter(|(_, lot)| lot.drawn(&share.limit) == 1).map(|(_, lot)| lot.place).collect();
    assert_eq!(drawn, [0, 1, 2, 3]);
}

/// More samples than are sorted in memory: forty pieces that are made when they are asked for.
struct Many;

impl Lots for Many {
    type Error = Infallible;

    fn pieces(&self) -> usize {
        40
    }

    fn each(&self, piece: usize, take: &mut dyn FnMut(usize, &Lot)) -> Result<(), Infallible> {
        for place in piece as u64 * 125_000..(piece as u64 + 1) * 125_000 {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&place.to_le_bytes());
            let chance = (place as f64 + 0.5) / 5_000_000.0;
            take(0, &Lot { id: SampleId::from_bytes(id), place, chance, weight: 1.0, most: 1 });
        }
        Ok(())
    }
}

#[test]
fn many_keys_are_narrowed_down_without_sorting_all_of_them() {
    let Ok(shares) = shares(&Many, &[Amount::Count(1_234_567)]);
    let Limit::UpTo(last) = shares[0].limit else { panic!("{shares:?}") };
    // Keys fall from place to place: the last one drawn is the 1,234,567th from the end.
    assert_eq!(last.place, 5_000_000 - 1_234_567);
}

use proptest::prelude::*;

use super::*;
use crate::print::Sketcher;

fn print(id: u64, brightness: u64, question: u32, pictures: u16) -> Print {
    Print { id, brightness, colour: 0, sketch: Sketch::default(), question, pictures, rank: 0 }
}

fn text(id: u64, words: &str) -> Print {
    Print { sketch: Sketcher::new(0, 5).sketch([words]), ..print(id, 0, 0, 0) }
}

fn kept(prints: &[Print], rules: &DuplicateRules) -> Vec<u32> {
    find(prints, rules, &()).kept_for
}

/// Duplicates by comparing each with each.
fn by_hand(prints: &[Print], rules: &DuplicateRules) -> Vec<u32> {
    let mut forest = Forest::new(prints.len());
    let relations = [pictures(rules), texts(rules)];
    for (a, one) in prints.iter().enumerate() {
        for (b, other) in prints.iter().enumerate().skip(a + 1) {
            let both_without = one.pictures == 0 && other.pictures == 0;
            let by_pictures = one.pictures > 0 && relations[0].holds(one, other);
            let by_texts = match rules.texts {
                TextRelation::WithoutPictures => both_without && relations[1].holds(one, other),
                TextRelation::Always => relations[1].holds(one, other),
                TextRelation::Never => false,
            };
            if by_pictures || by_texts {
                forest.join(a as u32, b as u32);
            }
        }
    }
    best_of_each(prints, forest)
}

#[test]
fn so_many_bits_may_differ_and_no_more() {
    let rules = DuplicateRules::default();
    let with = |bits: u64| kept(&[print(1, 0, 7, 1), print(2, bits, 7, 1)], &rules);
    assert_eq!(with(0x8000_1000_0000_0101), [0, 0], "four bits");
    assert_eq!(with(0x8000_1000_0010_0101), [0, 1], "five");
    let mut coloured = [print(1, 0, 7, 1), print(2, 0, 7, 1)];
    coloured[1].colour = 0b11;
    assert_eq!(kept(&coloured, &rules), [0, 0]);
    coloured[1].colour = 0b111;
    assert_eq!(kept(&coloured, &rules), [0, 1]);
}

#[test]
fn the_same_picture_with_another_question_is_a_duplicate_only_when_configured() {
    let mut prints = [print(1, 5, 7, 1), print(2, 5, 8, 1)];
    let with =
        |prints: &[Print], pictures| kept(prints, &DuplicateRules { pictures, ..DuplicateRules::default() });
    assert_eq!(with(&prints, PictureRelation::SameQuestion), [0, 1]);
    assert_eq!(with(&prints, PictureRelation::Always), [0, 0]);
    assert_eq!(with(&prints, PictureRelation::SimilarText), [0, 0], "their texts are the same");
    prints[1].sketch = text(0, "quite another text").sketch;
    assert_eq!(with(&prints, PictureRelation::SimilarText), [0, 1]);
    assert_eq!(with(&[print(1, 5, 7, 1), print(2, 5, 7, 1)], PictureRelation::Never), [0, 1]);
    assert_eq!(
        with(&[print(1, 5, 7, 1), print(2, 5, 7, 2)], PictureRelation::Always),
        [0, 1],
        "one picture and two"
    );
}

#[test]
fn similar_texts_are_duplicates_where_no_picture_is_in_the_way() {
    let long = "Describe how bread is baked at home, from the flour to the oven, in a few plain sentences. "
        .repeat(3);
    let near = long.replacen("flour", "dough", 1);
    let mut prints =
        [text(1, &long), text(2, &near), text(3, "Name the capital of France, please, in one word.")];
    let rules = DuplicateRules::default();
    assert_eq!(kept(&prints, &rules), [0, 0, 2]);
    assert_eq!(kept(&prints, &DuplicateRules { texts: TextRelation::Never, ..rules.clone() }), [0, 1, 2]);
    (prints[0].pictures, prints[1].pictures) = (1, 1);
    prints[1].brightness = u64::MAX;
    assert_eq!(kept(&prints, &rules), [0, 1, 2]);
    assert_eq!(kept(&prints, &DuplicateRules { texts: TextRelation::Always, ..rules }), [0, 0, 2]);
}

#[test]
fn the_best_is_kept_and_of_equals_the_smallest_id() {
    let rules = DuplicateRules::default();
    let mut prints = [print(5, 1, 7, 1), print(3, 1, 7, 1), print(9, 1, 7, 1)];
    assert_eq!(kept(&prints, &rules), [1, 1, 1]);
    prints[2].rank = 1;
    assert_eq!(kept(&prints, &rules), [2, 2, 2]);
}

#[test]
fn a_chain_is_one_cluster() {
    let chain: Vec<Print> = (0..4).map(|n| print(n, (1 << (3 * n)) - 1, 7, 1)).collect();
    let found = find(&chain, &DuplicateRules::default(), &());
    assert_eq!(found.kept_for, [0; 4]);
    assert_eq!(found.clusters(), (1, 4));
}

#[test]
fn crowds_are_compared_with_their_neighbours_and_it_is_told() {
    // More than 2,048 prints that agree in brightness and differ in colour, each from the next by one bit.
    let colour = |n: u64| n ^ n >> 1;
    let prints: Vec<Print> = (0..3_000).map(|n| Print { colour: colour(n), ..print(n, 1, 7, 1) }).collect();
    let found = find(&prints, &DuplicateRules { colour_bits: 1, ..DuplicateRules::default() }, &());
    assert!(found.skipped_pairs > 0);
    assert!(found.clusters().1 > 1, "{:?}", found.clusters());
    let few = find(&prints[..2_000], &DuplicateRules { colour_bits: 1, ..DuplicateRules::default() }, &());
    assert_eq!((few.skipped_pairs, few.clusters()), (0, (1, 2_000)));
}

#[test]
fn the_limit_of_similarity_is_a_number_of_equal_values() {
    for similarity in [0.5, 0.8, 0.93, 1.0] {
        let rules = DuplicateRules { text_similarity: similarity, ..DuplicateRules::default() };
        let equal = f64::from(min_equal(&rules));
        let estimate = |equal: f64| (equal / 64.0 - 1.0 / 16.0) / (1.0 - 1.0 / 16.0);
        assert!(estimate(equal) >= similarity && estimate(equal - 1.0) < similarity, "{similarity}: {equal}");
    }
}

prop_compose! {
    /// Prints that are near one another often.
    fn some_prints()(
        prints in prop::collection::vec(
            (any::<u64>(), 0u32..3, prop::collection::vec(0u32..64, 0..5), 0u32..2, 0u16..3, 0u16..3, 0u8..3),
            0..40,
        ),
    ) -> Vec<Print> {
        let each = |(id, base, bits, question, pictures, rank, words): (u64, u32, Vec<u32>, u32, u16, u16, u8)| {
            let base = u64::from(base).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let brightness = bits.iter().fold(base, |all, bit| all ^ 1 << bit);
            let sketch = text(0, ["some words in a row", "some words in a line", "nothing alike"][words as usize]).sketch;
            Print { id, brightness, colour: u64::from(rank), sketch, question, pictures, rank }
        };
        prints.into_iter().map(each).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn tables_find_what_comparing_each_with_each_finds(
        prints in some_prints(),
        brightness_bits in 0u32..=6,
        pictures in prop::sample::select(vec![PictureRelation::SameQuestion, PictureRelation::SimilarText, PictureRelation::Always, PictureRelation::Never]),
    ) {
        // Texts never: bands may miss a pair, which is the nature of the thing.
        let rules = DuplicateRules { brightness_bits, pictures, texts: TextRelation::Never, ..DuplicateRules::default() };
        prop_assert_eq!(kept(&prints, &rules), by_hand(&prints, &rules));
    }

    #[test]
    fn neither_order_nor_threads_matter(prints in some_prints(), turn in 0usize..40) {
        let rules = DuplicateRules { texts: TextRelation::Always, ..DuplicateRules::default() };
        let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let one = pool(1).install(|| find(&prints, &rules, &()));
        prop_assert_eq!(&pool(3).install(|| find(&prints, &rules, &())), &one);
        let mut turned = prints.clone();
        turned.rotate_left(turn % prints.len().max(1));
        let ids = |prints: &[Print], kept_for: &[u32]| {
            let mut ids: Vec<(u64, u64)> =
                prints.iter().zip(kept_for).map(|(print, &kept)| (print.id, prints[kept as usize].id)).collect();
            ids.sort_unstable();
            ids
        };
        prop_assert_eq!(ids(&turned, &kept(&turned, &rules)), ids(&prints, &one.kept_for));
    }
}

//! Moments: what is published comes back, lies are refused, and what is computed from it is what its definition says.

use proptest::prelude::*;

use super::{factors::value_of, *};
use crate::contribution::Layout;

/// Row-major values of a matrix that is exactly rank one, and its shape.
fn rank_one(rows: &[f32], columns: &[f32]) -> (Vec<f32>, MatrixShape) {
    let values = rows.iter().flat_map(|row| columns.iter().map(move |column| row * column)).collect();
    (values, MatrixShape { rows: rows.len(), columns: columns.len() })
}

fn layout(shapes: &[MatrixShape]) -> Layout {
    let of = |(at, shape): (usize, &MatrixShape)| (format!("t{at:02}"), (shape.rows * shape.columns) as u64);
    Layout::new(shapes.iter().enumerate().map(of).collect()).unwrap()
}

fn any_shapes() -> impl Strategy<Value = Vec<MatrixShape>> {
    let shape = (1usize..40, 1usize..700).prop_map(|(rows, columns)| MatrixShape { rows, columns });
    prop::collection::vec(shape, 0..5)
}

/// Second moments over many magnitudes, some of them zero.
fn any_values(count: usize) -> impl Strategy<Value = Vec<f32>> {
    let value = prop_oneof![1 => Just(0.0f32), 5 => (-60f32..20.0).prop_map(f32::exp2)];
    prop::collection::vec(value, count)
}

fn any_factors() -> impl Strategy<Value = (Vec<MatrixShape>, Factors)> {
    any_shapes().prop_flat_map(|shapes| {
        let values: Vec<_> = shapes.iter().map(|shape| any_values(shape.rows * shape.columns)).collect();
        (Just(shapes), values).prop_map(|(shapes, values)| {
            let of = |(values, shape): (&Vec<f32>, &MatrixShape)| ParameterFactors::of(values, *shape, 1.0);
            let factors = Factors(values.iter().zip(&shapes).map(of).collect());
            (shapes, factors)
        })
    })
}

proptest! {
    #[test]
    fn factors_come_back((shapes, factors) in any_factors()) {
        prop_assert_eq!(Factors::from_bytes(&factors.to_bytes(), &shapes), Ok(factors));
    }

    #[test]
    fn other_bytes_are_refused_or_spell_other_factors(
        (shapes, factors) in any_factors(),
        at in any::<prop::sample::Index>(),
        flip in 1u8..=255,
    ) {
        let mut bytes = factors.to_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(read) = Factors::from_bytes(&bytes, &shapes) {
            prop_assert_ne!(&read, &factors);
            prop_assert_eq!(read.to_bytes(), bytes, "one spelling each");
        }
        let shorter = &factors.to_bytes()[..at];
        prop_assert!(Factors::from_bytes(shorter, &shapes).is_err());
        let mut longer = factors.to_bytes();
        longer.push(flip);
        prop_assert_eq!(Factors::from_bytes(&longer, &shapes), Err(FactorsError::NotCanonical));
    }

    #[test]
    fn random_bytes_never_panic(shapes in any_shapes(), bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Factors::from_bytes(&bytes, &shapes);
    }

    #[test]
    fn means_are_within_an_eighth_and_none_is_absurdly_small(values in any_values(12 * 30)) {
        let shape = MatrixShape { rows: 12, columns: 30 };
        let factors = ParameterFactors::of(&values, shape, 1.0);
        let largest = factors.rows.iter().copied().max().unwrap_or(0);
        for (row, code) in values.chunks(30).zip(&factors.rows) {
            let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / 30.0;
            let said = f64::from(value_of(*code));
            let raised = *code > 0 && largest - *code == 31;
            prop_assert!((said / mean - 1.0).abs() <= 0.125 || raised || mean < 1e-30, "{mean:e} as {said:e}");
        }
    }

    #[test]
    fn a_minority_cannot_move_the_median(honest in 3u16..500, spread in 0u16..20, lie in 0u16..700) {
        let factors = |code: u16| Factors(vec![ParameterFactors {
            rows: vec![code + 108],
            columns: vec![code + 108],
        }]);
        let list = [factors(honest), factors(lie), factors(honest + spread), factors(lie), factors(honest + 1)];
        let said = Factors::median(&list).0[0].rows[0] - 108;
        prop_assert!((honest..=honest + spread.max(1)).contains(&said));
    }
}

#[test]
fn rank_one_moments_are_rebuilt() {
    // Powers of two, whose means over equal counts of each are powers of two times 1.5: codes without rounding.
    let (values, shape) = rank_one(&[1.0, 2.0, 1.0, 2.0], &[4.0, 8.0]);
    let factors = Factors(vec![ParameterFactors::of(&values, shape, 1.0)]);
    let zeros = vec![0.0; values.len()];
    let published = Published {
        aggregate: std::slice::from_ref(&zeros),
        factors: &factors,
        shapes: &[shape],
        rates: 1.0,
        epsilon: 1e-8,
    };
    let moments = public(&layout(&[shape]), &published);
    assert_eq!(moments.tensors["t00"], (zeros, values));
    assert_eq!(moments.steps, Moments::SETTLED);
}

#[test]
fn the_bias_is_taken_out() {
    let shape = MatrixShape { rows: 1, columns: 4 };
    let biased = ParameterFactors::of(&[0.25; 4], shape, 0.25);
    assert_eq!(biased, ParameterFactors::of(&[1.0; 4], shape, 1.0));
}

#[test]
fn first_moments_follow_the_aggregate_up_to_the_limit() {
    let (values, shape) = rank_one(&[1.0], &[4.0, 4.0, 4.0, 16.0]);
    let factors = Factors(vec![ParameterFactors::of(&values, shape, 1.0)]);
    let aggregate = vec![vec![0.0, 0.5, -7.0, -0.25]];
    let with = |rates| {
        let published =
            Published { aggregate: &aggregate, factors: &factors, shapes: &[shape], rates, epsilon: 0.0 };
        public(&layout(&[shape]), &published).tensors["t00"].0.clone()
    };
    assert_eq!(with(2.0), [0.0, 0.25 * 2.0, -LAST_RATE_LIMIT * 2.0, -0.125 * 4.0]);
    assert_eq!(with(0.0), [0.0; 4], "without a learning rate nothing moved");
}

#[test]
fn lies_about_moments_become_no_infinities() {
    let extreme = |rows: [u16; 2], column| {
        let factors = Factors(vec![ParameterFactors { rows: rows.to_vec(), columns: vec![column; 3] }]);
        let shape = MatrixShape { rows: 2, columns: 3 };
        let published = Published {
            aggregate: &[vec![1.0; 6]],
            factors: &factors,
            shapes: &[shape],
            rates: 1.0,
            epsilon: 1e-8,
        };
        public(&layout(&[shape]), &published).tensors["t00"].clone()
    };
    let (smallest, largest) = (108, 748);
    // the last one: a row that is twice their mean, times the largest column
    let rows = [[smallest; 2], [largest; 2], [0; 2], [largest, 0]];
    for (rows, column) in rows.into_iter().flat_map(|rows| [(rows, smallest), (rows, largest)]) {
        let (first, second) = extreme(rows, column);
        assert!(first.iter().chain(&second).all(|value| value.is_finite()), "{rows:?} {column}");
        let bound = 2.0_f32.powi(60);
        assert!(second.iter().all(|&value| value <= bound), "above the bound: {rows:?} {column}: {second:?}");
    }
}

#[test]
fn a_parameter_that_learnt_nothing_has_moments_of_zero() {
    let shape = MatrixShape { rows: 2, columns: 3 };
    let factors = ParameterFactors::of(&[0.0; 6], shape, 0.5);
    assert_eq!(factors, ParameterFactors { rows: vec![0; 2], columns: vec![0; 3] });
    assert!(ParameterFactors::of(&[0.0, 0.0, 0.0, 1.0, 1.0, 1.0], shape, 1.0).rows[0] > 0);
}

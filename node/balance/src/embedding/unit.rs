//! Rows of length one, so that their dot product is the cosine of the angle between them.
//!
//! Lengths are sums in f64 in ascending order; square root and division are IEEE's. So a row has the same bits on every
//! machine.

use std::fmt;

/// Why a row has no direction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Flaw {
    /// A number is infinite or none.
    NotFinite {
        /// Which of the row's numbers.
        at: usize,
        /// The number.
        value: f32,
    },
    /// All numbers are zero.
    Zero,
    /// It is the mean of all rows, so that nothing is left of it when that is taken off.
    Mean,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFinite { at, value } => write!(f, "has {value} as number {at}"),
            Self::Zero => write!(f, "is zero and has no direction"),
            Self::Mean => write!(f, "is the mean of all rows and has no direction from it"),
        }
    }
}

/// Makes each row of `rows [n, width]` one of length one.
///
/// # Errors
///
/// The first row that has no direction, by its number, and why.
pub fn make_unit(rows: &mut [f32], width: usize) -> Result<(), (usize, Flaw)> {
    for (number, row) in rows.chunks_exact_mut(width).enumerate() {
        if let Some(at) = row.iter().position(|value| !value.is_finite()) {
            return Err((number, Flaw::NotFinite { at, value: row[at] }));
        }
        let squares: f64 = row.iter().fold(0.0, |sum, &value| sum + f64::from(value) * f64::from(value));
        if squares == 0.0 {
            return Err((number, Flaw::Zero));
        }
        let factor = 1.0 / squares.sqrt();
        row.iter_mut().for_each(|value| *value = (f64::from(*value) * factor) as f32);
    }
    Ok(())
}

/// Adds the rows of `rows [n, width]` to `sums [width]`, in order.
pub fn add_rows(rows: &[f32], sums: &mut [f64]) {
    for row in rows.chunks_exact(sums.len()) {
        sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
    }
}

/// Takes `mean [width]` off each of the unit rows `rows [n, width]` and makes them of length one again.
///
/// # Errors
///
/// The first row of which nothing is left, by its number.
pub fn take_off(mean: &[f64], rows: &mut [f32]) -> Result<(), (usize, Flaw)> {
    for row in rows.chunks_exact_mut(mean.len()) {
        row.iter_mut().zip(mean).for_each(|(value, &mean)| *value = (f64::from(*value) - mean) as f32);
    }
    make_unit(rows, mean.len()).map_err(|(row, _)| (row, Flaw::Mean))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_get_length_one_and_keep_their_direction(
            mut rows in prop::collection::vec(-1e30f32..1e30, 12..=12),
        ) {
            prop_assume!(rows.chunks(4).all(|row| row.iter().any(|&value| value.abs() > 1e-20)));
            let before = rows.clone();
            make_unit(&mut rows, 4).unwrap();
            for (row, before) in rows.chunks(4).zip(before.chunks(4)) {
                let length = |row: &[f32]| row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
                prop_assert!((length(row) - 1.0).abs() < 1e-6);
                for (&value, &before_value) in row.iter().zip(before) {
                    let back = f64::from(value) * length(before);
                    prop_assert!((back - f64::from(before_value)).abs() <= 1e-6 * length(before));
                }
            }
        }
    }

    #[test]
    fn rows_without_a_direction_are_named() {
        let flaw = |rows: &[f32]| make_unit(&mut rows.to_vec(), 2).unwrap_err();
        assert_eq!(flaw(&[1.0, 2.0, 0.0, -0.0]), (1, Flaw::Zero));
        assert!(matches!(flaw(&[1.0, f32::NAN]), (0, Flaw::NotFinite { at: 1, .. })));
        assert!(matches!(flaw(&[f32::NEG_INFINITY, 0.0]), (0, Flaw::NotFinite { at: 0, .. })));
        let mut rows = [3.0e-39f32, 4.0e-39, 3e38, 3e38];
        make_unit(&mut rows, 2).unwrap();
        assert!((rows[1] - 0.8).abs() < 1e-5 && (rows[2] - 0.5f32.sqrt()).abs() < 1e-6, "{rows:?}");
    }

    #[test]
    fn the_mean_is_taken_off() {
        let mut rows = [1.0f32, 0.0, 0.0, 1.0];
        let mut sums = [0.0; 2];
        add_rows(&rows, &mut sums);
        take_off(&sums.map(|sum| sum / 2.0), &mut rows).unwrap();
        let half = 0.5f32.sqrt();
        assert_eq!(rows, [half, -half, -half, half]);
        assert_eq!(take_off(&[1.0, 0.0], &mut [0.0, 1.0, 1.0, 0.0]), Err((1, Flaw::Mean)));
    }
}

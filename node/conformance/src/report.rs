//! What was compared, and how far off it was.

use serde::Serialize;

/// One kind of value of one file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The file, relative to the folder.
    pub file: String,
    /// What was compared.
    pub kind: String,
    /// How many tensors, texts or numbers.
    pub compared: usize,
    /// The one that was off most.
    pub worst: String,
    /// Greatest difference of an element.
    pub max_abs: f64,
    /// What it may be.
    pub max_abs_limit: f64,
    /// Greatest relative difference of a tensor: norm of the difference over norm of the reference.
    pub relative: f64,
    /// What it may be; none where it isn't asked for.
    pub relative_limit: Option<f64>,
    /// Whether everything of this kind is within both limits.
    pub passed: bool,
}

/// Everything that was compared.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// In order of the files.
    pub rows: Vec<Row>,
}

/// One comparison.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) max_abs: f64,
    pub(crate) max_abs_limit: f64,
    pub(crate) relative: f64,
    pub(crate) relative_limit: Option<f64>,
}

impl Measured {
    /// A NaN is within no limit.
    fn passed(&self) -> bool {
        self.max_abs <= self.max_abs_limit && self.relative_limit.is_none_or(|limit| self.relative <= limit)
    }

    /// How much of the tighter limit is used up.
    fn share(&self) -> f64 {
        let share = |got: f64, limit: f64| {
            if got.is_nan() {
                f64::INFINITY
            } else if got == 0.0 {
                0.0
            } else {
                got / limit
            }
        };
        let relative = self.relative_limit.map_or(0.0, |limit| share(self.relative, limit));
        share(self.max_abs, self.max_abs_limit).max(relative)
    }
}

impl Report {
    /// Whether everything is within its limits, and there is something at all.
    pub fn passed(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|row| row.passed)
    }

    /// Rows that are not.
    pub fn failed(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| !row.passed)
    }

    /// Adds a comparison of `name` to the row of its file and kind, which keeps the worst.
    pub(crate) fn add(&mut self, file: &str, kind: &str, name: &str, measured: Measured) {
        let passed = measured.passed();
        let Measured { max_abs, max_abs_limit, relative, relative_limit } = measured;
        let new = Row {
            file: file.to_owned(),
            kind: kind.to_owned(),
            compared: 1,
            worst: name.to_owned(),
            max_abs,
            max_abs_limit,
            relative,
            relative_limit,
            passed,
        };
        let Some(row) = self.rows.iter_mut().rev().find(|row| row.file == file && row.kind == kind) else {
            self.rows.push(new);
            return;
        };
        let so_far = Measured {
            max_abs: row.max_abs,
            max_abs_limit: row.max_abs_limit,
            relative: row.relative,
            relative_limit: row.relative_limit,
        };
        let (compared, all_passed) = (row.compared + 1, row.passed && passed);
        if measured.share() > so_far.share() {
            *row = new;
        }
        (row.compared, row.passed) = (compared, all_passed);
    }

    /// Adds a comparison of two texts or lists, which are equal or not.
    pub(crate) fn equal(&mut self, file: &str, kind: &str, name: &str, equal: bool) {
        let max_abs = if equal { 0.0 } else { 1.0 };
        self.add(
            file,
            kind,
            name,
            Measured { max_abs, max_abs_limit: 0.0, relative: 0.0, relative_limit: None },
        );
    }

    /// Adds a comparison of one number.
    pub(crate) fn number(&mut self, file: &str, kind: &str, name: &str, got: f64, expected: f64, limit: f64) {
        self.add(
            file,
            kind,
            name,
            Measured {
                max_abs: (got - expected).abs(),
                max_abs_limit: limit,
                relative: 0.0,
                relative_limit: None,
            },
        );
    }

    /// Adds a comparison of tensors; other lengths are as far off as can be.
    pub(crate) fn tensors(
        &mut self,
        (file, kind, name): (&str, &str, &str),
        got: &[f32],
        expected: &[f32],
        max_abs_limit: f64,
        relative_limit: Option<f64>,
    ) {
        let (mut max_abs, mut relative) = (f64::INFINITY, f64::INFINITY);
        if got.len() == expected.len() {
            let differences = || got.iter().zip(expected).map(|(a, b)| f64::from(*a) - f64::from(*b));
            // a NaN stays
            let larger =
                |worst: f64, d: f64| if worst.is_nan() || d.abs() <= worst { worst } else { d.abs() };
            max_abs = differences().fold(0.0, larger);
            let norm = expected.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
            relative = differences().map(|d| d * d).sum::<f64>().sqrt() / norm.max(1e-30);
        }
        self.add(file, kind, name, Measured { max_abs, max_abs_limit, relative, relative_limit });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_keeps_the_worst_and_a_nan_or_a_missing_number_fails() {
        let mut report = Report::default();
        let at = ("f", "k", "a");
        report.tensors(at, &[1.0, 2.0], &[1.0, 2.0], 1e-3, Some(1e-3));
        assert!(report.passed());
        report.tensors(("f", "k", "b"), &[1.0, 2.0005], &[1.0, 2.0], 1e-3, Some(1e-3));
        assert!(report.passed() && report.rows[0].worst == "b" && report.rows[0].compared == 2);
        for (name, got) in [("nan", &[f32::NAN, 2.0][..]), ("short", &[1.0])] {
            let mut report = report.clone();
            report.tensors(("f", "k", name), got, &[1.0, 2.0], 1e-3, None);
            assert!(!report.passed(), "{name}");
            assert_eq!(report.failed().next().unwrap().worst, name);
            report.tensors(at, &[1.0], &[1.0], 1e-3, None);
            assert!(!report.passed(), "a later success does not hide it");
        }
        assert!(!Report::default().passed(), "nothing compared is nothing shown");
    }
}

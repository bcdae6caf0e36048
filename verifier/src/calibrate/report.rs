//! What was measured, the limits that follow, and whether they separate.

use talkoot_execution::{Distances, Signals, separation};
use talkoot_protocol::manifest::{Manifest, Tolerance};

use super::{Lie, tolerance};

/// Least limits, in the order of [`Distances::NAMES`]: where honest pairs happen to agree to the bit, the next machine will
/// not. A quarter of a doubling is one code of a mean second moment.
const LEAST: [f64; 7] = [1e-5, 1e-9, 1e-5, 1e-9, 1e-6, 1e-5, 0.5];

/// Digits of a limit: what people read in the terms.
const DIGITS: i32 = 2;

/// One comparison with what the exact arithmetic gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The arithmetic, or the lie.
    pub what: String,
    /// The round, 0 or 1.
    pub round: u64,
    /// How far away it was.
    pub distances: Distances,
}

/// A lie that the limits let pass, or nearly.
#[derive(Debug, Clone, PartialEq)]
pub struct Unseparated {
    /// Which lie.
    pub lie: String,
    /// In which round.
    pub round: u64,
    /// By how much the number that it is furthest beyond is beyond its limit; below 1 it passes.
    pub beyond: f64,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// What the worst honest number was multiplied with.
    pub margin: f64,
    /// Name of the stage.
    pub stage: String,
    /// Honest pairs.
    pub honest: Vec<Sample>,
    /// Lies.
    pub lies: Vec<Sample>,
    /// The limits, in the order of [`Distances::NAMES`].
    pub limits: [f64; 7],
    /// Cheap second signals of the same contributions; those of honest ones have no lie.
    pub signals: Vec<(Option<Lie>, Signals)>,
}

impl Report {
    pub(super) fn new(margin: f64, manifest: &Manifest, stage: u32) -> Self {
        let stage = manifest.stage(stage).map(|(stage, _)| stage.name.clone()).unwrap_or_default();
        Self { margin, stage, honest: Vec::new(), lies: Vec::new(), limits: LEAST, signals: Vec::new() }
    }

    /// Draws the limits from the honest samples.
    pub(super) fn draw(&mut self) {
        for (at, limit) in self.limits.iter_mut().enumerate() {
            let worst = self.honest.iter().map(|sample| sample.distances.numbers()[at]).fold(0.0, f64::max);
            *limit = rounded_up((worst * self.margin).max(LEAST[at]));
        }
    }

    /// The limits as a manifest has them.
    pub fn tolerance(&self) -> Tolerance {
        tolerance(self.limits)
    }

    /// Lies that are not beyond any limit by the margin. Limits are of use when there are none of these.
    pub fn unseparated(&self) -> Vec<Unseparated> {
        let of = |sample: &Sample| Unseparated {
            lie: sample.what.clone(),
            round: sample.round,
            beyond: self.beyond(&sample.distances).1,
        };
        self.lies.iter().map(of).filter(|lie| lie.beyond < self.margin).collect()
    }

    /// The number that is furthest beyond its limit, and by how much.
    fn beyond(&self, distances: &Distances) -> (usize, f64) {
        let numbers = distances.numbers();
        let each = numbers.iter().zip(self.limits).map(|(number, limit)| number / limit).enumerate();
        each.fold((0, 0.0), |most, this| if this.1 > most.1 { this } else { most })
    }

    /// As Markdown: the worst of each honest arithmetic, the limits, the mildest of each lie.
    pub fn table(&self) -> String {
        let mut text = format!("| stage {} |", self.stage);
        for name in Distances::NAMES {
            text.push_str(&format!(" {name} |"));
        }
        text.push_str(" caught by |\n|---|");
        text.push_str(&"---:|".repeat(Distances::NAMES.len()));
        text.push_str("---|\n");
        for group in groups(&self.honest) {
            let worst = |at: usize| fold(&group, at, 0.0, f64::max);
            text.push_str(&row(&format!("honest: {}, largest of {}", group[0].what, group.len()), worst));
            text.push_str(" |\n");
        }
        text.push_str(&row(&format!("**limit**, {} times the largest", self.margin), |at| self.limits[at]));
        text.push_str(" |\n");
        for group in groups(&self.lies) {
            let mildest = |at: usize| fold(&group, at, f64::INFINITY, f64::min);
            text.push_str(&row(&format!("lie: {}, smallest of {}", group[0].what, group.len()), mildest));
            let least = group.iter().map(|sample| self.beyond(&sample.distances));
            let (at, beyond) = least.fold((0, f64::INFINITY), |a, b| if b.1 < a.1 { b } else { a });
            text.push_str(&format!(" {}, {beyond:.0} x |\n", Distances::NAMES[at]));
        }
        text
    }
}

impl Report {
    /// As Markdown: how well each cheap signal tells each lie from honest work, as an area under the ROC curve; 0.5 tells
    /// nothing.
    pub fn signal_table(&self) -> String {
        let of = |wanted: Option<Lie>| -> Vec<&Signals> {
            self.signals.iter().filter(|(lie, _)| *lie == wanted).map(|(_, signals)| signals).collect()
        };
        let honest = of(None);
        let middle = median(honest.iter().map(|signals| signals.norm).collect());
        let numbers = |signals: &[&Signals], number: &dyn Fn(&Signals) -> f64| -> Vec<f64> {
            signals.iter().map(|signals| number(signals)).collect()
        };
        let mut text =
            "| second signal | advantage | norm off the middle | overlap |\n|---|---:|---:|---:|\n"
                .to_owned();
        for lie in Lie::ALL {
            let told = of(Some(lie));
            if told.is_empty() {
                continue;
            }
            let area = |number: &dyn Fn(&Signals) -> f64| {
                separation(&numbers(&honest, number), &numbers(&told, number))
            };
            text.push_str(&format!(
                "| {} | {:.2} | {:.2} | {:.2} |\n",
                lie.name(),
                area(&|signals| -signals.advantage()),
                area(&|signals| (signals.norm / middle).ln().abs()),
                area(&|signals| signals.overlap),
            ));
        }
        text
    }
}

/// The middle one of some numbers, the upper of two; 1 when there are none.
fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(1.0)
}

fn row(name: &str, number: impl Fn(usize) -> f64) -> String {
    let numbers: Vec<String> = (0..Distances::NAMES.len()).map(|at| shown(number(at))).collect();
    format!("| {name} | {} |", numbers.join(" | "))
}

fn shown(number: f64) -> String {
    if number == 0.0 { "0".to_owned() } else { format!("{number:.1e}") }
}

fn fold(group: &[&Sample], at: usize, start: f64, with: fn(f64, f64) -> f64) -> f64 {
    group.iter().map(|sample| sample.distances.numbers()[at]).fold(start, with)
}

/// Samples of the same kind together, in the order in which the kinds first come.
fn groups(samples: &[Sample]) -> Vec<Vec<&Sample>> {
    let mut groups: Vec<Vec<&Sample>> = Vec::new();
    for sample in samples {
        match groups.iter_mut().find(|group| group[0].what == sample.what) {
            Some(group) => group.push(sample),
            None => groups.push(vec![sample]),
        }
    }
    groups
}

/// The next number of so many digits that is not smaller.
fn rounded_up(number: f64) -> f64 {
    let exponent = number.log10().floor() as i32 + 1 - DIGITS;
    // by way of the text, so that the number is the one that people read
    let digits = (number / 10f64.powi(exponent) - 1e-9).ceil();
    format!("{digits}e{exponent}").parse().unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(what: &str, distance: f64, loss: f64) -> Sample {
        Sample {
            what: what.to_owned(),
            round: 0,
            distances: Distances { distance, loss, ..Distances::default() },
        }
    }

    fn report(lie: Sample) -> Report {
        let mut report = Report {
            margin: 2.0,
            stage: "instruct".to_owned(),
            honest: vec![sample("library", 0.0123, 0.0), sample("library", 0.001, 3e-4)],
            lies: vec![lie],
            limits: LEAST,
            signals: Vec::new(),
        };
        report.draw();
        report
    }

    #[test]
    fn a_limit_is_the_worst_honest_number_times_the_margin_and_never_nothing() {
        let report = report(sample("half", 0.5, 0.0));
        assert_eq!(report.limits[0], 0.025);
        assert_eq!(report.limits[4], 6e-4);
        assert_eq!(report.limits[1], LEAST[1]);
        assert_eq!(report.tolerance().distance.get(), 0.025);
        assert!(report.table().contains("lie: half, smallest of 1 | 5.0e-1"), "{}", report.table());
    }

    #[test]
    fn a_lie_has_to_be_beyond_one_limit_by_the_margin() {
        assert_eq!(report(sample("half", 0.5, 0.0)).unseparated(), []);
        assert_eq!(report(sample("shown by its losses", 0.0, 1.3e-3)).unseparated(), []);
        let near = report(sample("all but one", 0.03, 0.0)).unseparated();
        assert_eq!(near.len(), 1);
        assert!((near[0].beyond - 1.2).abs() < 1e-9, "{near:?}");
    }

    #[test]
    fn rounding_up_keeps_two_digits() {
        for (number, expected) in [(0.0246, 0.025), (0.02, 0.02), (1.0, 1.0), (9.91, 10.0), (3.01e-7, 3.1e-7)]
        {
            assert_eq!(rounded_up(number), expected);
        }
    }
}

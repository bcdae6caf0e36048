//! What came of mixing, for people and for programs.

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf};

use serde::Serialize;

use crate::{
    MixOptions,
    draw::{Count, Drawn},
    table::{Cell, Table},
};

/// What came of mixing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MixReport {
    /// Samples of the lists: used and left out together.
    pub samples: u64,
    /// Samples that are in a period, or in several.
    pub used: u64,
    /// Samples that are in none.
    pub left_out: u64,
    /// Samples of all periods: used once, and repeated.
    pub drawn: u64,
    /// How often a sample comes that has come in an earlier period.
    pub repeated: u64,
    /// Least difficulty of each band but the easiest.
    pub least_difficulty: Vec<f32>,
    /// The periods, in order.
    pub periods: Vec<PeriodReport>,
    /// The folder with the files; not part of the report's file, which is the same on every machine.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// What a period has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PeriodReport {
    /// What it is called.
    pub name: String,
    /// Name of its list, in the folder.
    pub list: String,
    /// Samples that its share asks for.
    pub asked: u64,
    /// Samples that it has: fewer, when there are no more that have a weight.
    pub drawn: u64,
    /// What it has of each source and band of which there is a sample.
    pub cells: Vec<CellReport>,
}

/// What a period has of one source in one band.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CellReport {
    /// The source.
    pub source: String,
    /// The band, 0 for the easiest; none for samples without difficulty.
    pub band: Option<usize>,
    /// Samples that there are.
    pub there: u64,
    /// Samples that the weights ask for.
    pub asked: u64,
    /// Samples that the period has.
    pub drawn: u64,
}

impl MixReport {
    pub(crate) fn of(options: &MixOptions, table: &Table, drawn: &Drawn) -> Self {
        let unscored = options.config.bands() - 1;
        let cell = |(cell, &Count { asked, drawn }): (&Cell, &Count)| CellReport {
            source: cell.source.clone(),
            band: (cell.band != unscored).then_some(cell.band),
            there: cell.lines.len() as u64,
            asked,
            drawn,
        };
        let period = |number: usize| PeriodReport {
            name: options.config.periods[number].name.clone(),
            list: options.list_of(number),
            asked: drawn.asked[number],
            drawn: drawn.counts[number].iter().map(|count| count.drawn).sum(),
            cells: table.cells.iter().zip(&drawn.counts[number]).map(cell).collect(),
        };
        let all = drawn.entries.len() as u64;
        Self {
            samples: table.samples(),
            used: drawn.used,
            left_out: table.samples() - drawn.used,
            drawn: all,
            repeated: all - drawn.used,
            least_difficulty: table.bands.least.clone(),
            periods: (0..drawn.counts.len()).map(period).collect(),
            folder: options.out.clone(),
        }
    }

    /// Where the list of a period is.
    pub fn path_of(&self, period: &PeriodReport) -> PathBuf {
        self.folder.join(&period.list)
    }

    /// What each period has, as a table for a terminal.
    pub fn table(&self) -> String {
        let mut out = format!("{:<32} {:>12} {:>12} {:>12}\n", "period", "there", "asked", "drawn");
        let mut line = |what: &str, [there, asked, drawn]: [u64; 3]| {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{what:<32} {there:>12} {asked:>12} {drawn:>12}");
        };
        for period in &self.periods {
            line(&period.name, [self.samples, period.asked, period.drawn]);
            let band = |cell: &CellReport| match cell.band {
                Some(band) => format!("band {:>2}", band + 1),
                None => "no difficulty".into(),
            };
            sums(&period.cells, band).into_iter().for_each(|(band, sum)| line(&format!("  {band}"), sum));
            let source = |cell: &CellReport| cell.source.clone();
            sums(&period.cells, source).into_iter().for_each(|(name, sum)| line(&format!("  {name}"), sum));
        }
        out
    }
}

/// There, asked and drawn of all cells that are called the same.
fn sums(cells: &[CellReport], name: impl Fn(&CellReport) -> String) -> BTreeMap<String, [u64; 3]> {
    let mut sums: BTreeMap<String, [u64; 3]> = BTreeMap::new();
    for cell in cells {
        let sum = sums.entry(name(cell)).or_default();
        for (sum, more) in sum.iter_mut().zip([cell.there, cell.asked, cell.drawn]) {
            *sum += more;
        }
    }
    sums
}

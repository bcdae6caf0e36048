//! What trials show: a table of means over seeds, and plots.

use std::{collections::BTreeMap, fs, io, path::Path};

use serde::Serialize;
use talkoot_trainer::moments::MomentFormat;

use super::{
    chart::{self, Axis, Line},
    trial::{Curve, Method, Size},
};

/// Trials that differ in nothing but their seed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// How members trained together.
    pub method: Method,
    /// The model.
    pub size: Size,
    /// Its parameters.
    pub parameters: u64,
    /// Members.
    pub members: usize,
    /// H.
    pub inner_steps: usize,
    /// Whether one member's work was lost in every round.
    pub lossy: bool,
    /// Whether members had different speeds.
    pub uneven: bool,
    /// How the inner moments were held.
    pub moments: MomentFormat,
    /// The seeds.
    pub seeds: Vec<u64>,
    /// Held-out loss at the end by seed, in nats per learned token.
    pub losses: Vec<f64>,
    /// Its mean.
    pub loss: f64,
    /// Mean share of held-out questions answered rightly.
    pub accuracy: f64,
    /// Rounds.
    pub rounds: usize,
    /// Tokens learnt from.
    pub tokens: u64,
    /// Bytes that a member sent.
    pub bytes: u64,
    /// Bytes of factors in a contribution.
    pub factor_bytes: f64,
}

/// Everything about a trial but its method and seed.
type Kind = (Size, usize, usize, bool, bool, MomentFormat);

fn kind(curve: &Curve) -> Kind {
    let trial = &curve.trial;
    (trial.size, trial.members, trial.inner_steps, trial.lossy, trial.uneven, trial.moments)
}

/// Joins trials that differ in nothing but their seed.
pub fn summarise(curves: &[Curve]) -> Vec<Summary> {
    let mut groups = BTreeMap::<(Kind, Method), Vec<&Curve>>::new();
    for curve in curves {
        groups.entry((kind(curve), curve.trial.method)).or_default().push(curve);
    }
    groups.into_values().map(|group| summary(&group)).collect()
}

fn summary(group: &[&Curve]) -> Summary {
    let first = group[0];
    let mean = |of: &dyn Fn(&Curve) -> f64| group.iter().map(|c| of(c)).sum::<f64>() / group.len() as f64;
    let last = |curve: &Curve| curve.points.last().copied();
    let losses: Vec<f64> = group.iter().map(|c| last(c).map_or(f64::NAN, |p| p.loss)).collect();
    Summary {
        method: first.trial.method,
        size: first.trial.size,
        parameters: first.parameters,
        members: first.trial.members,
        inner_steps: first.trial.inner_steps,
        lossy: first.trial.lossy,
        uneven: first.trial.uneven,
        moments: first.trial.moments,
        seeds: group.iter().map(|curve| curve.trial.seed).collect(),
        loss: losses.iter().sum::<f64>() / losses.len() as f64,
        losses,
        accuracy: mean(&|curve| curve.accuracy),
        rounds: first.points.len().saturating_sub(1),
        tokens: last(first).map_or(0, |point| point.tokens),
        bytes: last(first).map_or(0, |point| point.bytes),
        factor_bytes: mean(&|curve| curve.factor_bytes),
    }
}

/// The summaries as a Markdown table.
pub fn table(summaries: &[Summary]) -> String {
    let mut text = String::from(
        "| model | members | H | | method | held-out loss | seeds | accuracy | sent by a member | of it second moments |\n\
         |---|---:|---:|---|---|---:|---|---:|---:|---:|\n",
    );
    for line in summaries {
        let trouble = match (line.lossy, line.uneven) {
            (false, false) => "",
            (true, false) => "one lost a round",
            (false, true) => "uneven speeds",
            (true, true) => "uneven speeds, one lost a round",
        };
        let losses: Vec<String> = line.losses.iter().map(|loss| format!("{loss:.3}")).collect();
        let of_moments = line.factor_bytes * line.rounds as f64 / line.bytes.max(1) as f64;
        let share = if line.factor_bytes > 0.0 { percent(of_moments) } else { String::new() };
        text.push_str(&format!(
            "| {:.2} M | {} | {} | {trouble} | {}{} | {:.3} | {} | {} | {} | {share} |\n",
            line.parameters as f64 / 1e6,
            line.members,
            line.inner_steps,
            line.method.name(),
            if line.moments == MomentFormat::EightBit { ", 8-bit moments" } else { "" },
            line.loss,
            losses.join(" "),
            percent(line.accuracy),
            megabytes(line.bytes),
        ));
    }
    text
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.2} MB", bytes as f64 / 1e6)
}

/// Writes a plot of loss against tokens and one against bytes for every kind of trial, and one of all accuracies at the end
/// against bytes; returns their names.
///
/// # Errors
///
/// [`io::Error`] when the folder cannot be written.
pub fn write_plots(curves: &[Curve], folder: &Path) -> io::Result<Vec<String>> {
    fs::create_dir_all(folder)?;
    let mut kinds = BTreeMap::<Kind, BTreeMap<Method, Vec<&Curve>>>::new();
    for curve in curves {
        kinds.entry(kind(curve)).or_default().entry(curve.trial.method).or_default().push(curve);
    }
    let mut names = Vec::new();
    for ((size, members, inner_steps, lossy, uneven, moments), methods) in kinds {
        let base = format!(
            "{}-{members}-members-h{inner_steps}{}{}{}",
            format!("{size:?}").to_lowercase(),
            if lossy { "-lossy" } else { "" },
            if uneven { "-uneven" } else { "" },
            if moments == MomentFormat::EightBit { "-8bit" } else { "" }
        );
        for axis in [Axis::Tokens, Axis::Bytes] {
            let lines: Vec<Line> =
                methods.iter().map(|(method, curves)| Line::mean(*method, curves, axis)).collect();
            let name = format!("{base}-{}.svg", axis.name());
            let svg = chart::draw(&lines, axis).map_err(io::Error::other)?;
            fs::write(folder.join(&name), svg)?;
            names.push(name);
        }
    }
    let summaries = summarise(curves);
    let points: Vec<(Method, u64, f64)> =
        summaries.iter().map(|summary| (summary.method, summary.bytes, summary.accuracy)).collect();
    let svg = chart::draw_accuracy(&points).map_err(io::Error::other)?;
    fs::write(folder.join(ACCURACY), svg)?;
    names.push(ACCURACY.to_owned());
    Ok(names)
}

/// The plot of accuracies.
const ACCURACY: &str = "accuracy-bytes.svg";

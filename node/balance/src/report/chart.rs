//! Plots in SVG: all samples and what was drawn, side by side.

use plotters::{coord::Shift, prelude::*};

use super::BeforeAfter;
use crate::run::BalanceError;

const SIZE: (u32, u32) = (560, 280);
/// All samples.
const BEFORE: RGBColor = RGBColor(0xd5, 0x8a, 0x5b);
/// What was drawn.
const AFTER: RGBColor = RGBColor(0x3f, 0x7f, 0xbf);
/// Axes and words: readable on light and on dark.
const INK: RGBColor = RGBColor(0x80, 0x80, 0x80);

type Plotted = Result<(), Box<dyn std::error::Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// How many concepts are so frequent, as bars; both axes but for the bars' heights by doubling.
pub(super) fn frequencies(counts: &BeforeAfter) -> Result<String, BalanceError> {
    plot(|area| {
        let bins = counts.before.len().max(counts.after.len());
        let most = counts.before.iter().chain(&counts.after).copied().max().unwrap_or(0).max(1);
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .x_label_area_size(38)
            .y_label_area_size(58)
            .build_cartesian_2d(0.0..bins as f64, 0.0..most as f64 * 1.05)?;
        let edge =
            |at: &f64| if *at < 0.5 { "0".to_owned() } else { rounded(2f64.powi(at.round() as i32 - 1)) };
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(INK.mix(0.25))
            .axis_style(INK)
            .label_style(("sans-serif", 12).into_font().color(&INK))
            .axis_desc_style(("sans-serif", 12).into_font().color(&INK))
            .x_labels((bins + 1).min(12))
            .y_labels(5)
            .x_label_formatter(&edge)
            .y_label_formatter(&|count| rounded(*count))
            .x_desc("samples that have a concept, at least")
            .y_desc("concepts")
            .draw()?;
        for (counts, colour, left) in [(&counts.before, BEFORE, 0.06), (&counts.after, AFTER, 0.5)] {
            chart.draw_series(counts.iter().enumerate().filter(|&(_, &count)| count > 0).map(
                |(bin, &count)| {
                    let corners = [(bin as f64 + left, 0.0), (bin as f64 + left + 0.44, count as f64)];
                    Rectangle::new(corners, colour.filled())
                },
            ))?;
        }
        Ok(())
    })
}

/// How frequent concepts are by their rank, as lines; both axes by doubling.
pub(super) fn ranks(counts: &BeforeAfter) -> Result<String, BalanceError> {
    plot(|area| {
        let most = counts.before.iter().chain(&counts.after).copied().max().unwrap_or(0).max(1);
        let columns = counts.before.len().max(counts.after.len()).max(2) - 1;
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .x_label_area_size(38)
            .y_label_area_size(58)
            .build_cartesian_2d(0.0..columns as f64, 0.0..doublings(most) * 1.05)?;
        let number = |at: &f64| rounded(2f64.powi(at.round() as i32));
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(INK.mix(0.25))
            .axis_style(INK)
            .label_style(("sans-serif", 12).into_font().color(&INK))
            .axis_desc_style(("sans-serif", 12).into_font().color(&INK))
            .x_labels((columns + 1).min(12))
            .y_labels(6)
            .x_label_formatter(&number)
            .y_label_formatter(&|at| rounded(2f64.powf(*at)))
            .x_desc("rank of a concept")
            .y_desc("samples that have it")
            .draw()?;
        for (counts, colour) in [(&counts.before, BEFORE), (&counts.after, AFTER)] {
            let points = counts.iter().enumerate().filter(|&(_, &count)| count > 0);
            let points: Vec<(f64, f64)> = points.map(|(at, &count)| (at as f64, doublings(count))).collect();
            chart.draw_series(points.iter().map(|&point| Circle::new(point, 3, colour.filled())))?;
            chart.draw_series(std::iter::once(PathElement::new(points, colour.stroke_width(2))))?;
        }
        Ok(())
    })
}

fn plot(draw: impl FnOnce(&Area<'_>) -> Plotted) -> Result<String, BalanceError> {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
    let drawn = draw(&area).and_then(|()| Ok(area.present()?));
    drop(area);
    drawn.map_err(|error| BalanceError::Plot { reason: error.to_string() })?;
    Ok(svg)
}

/// The logarithm to base 2, to a hundredth.
fn doublings(count: u64) -> f64 {
    ((count as f64).log2() * 100.0).round() / 100.0
}

/// A number in few signs.
fn rounded(number: f64) -> String {
    match number {
        number if number >= 1e9 => format!("{:.0}G", number / 1e9),
        number if number >= 1e6 => format!("{:.0}M", number / 1e6),
        number if number >= 1e4 => format!("{:.0}k", number / 1e3),
        number => format!("{number:.0}"),
    }
}

//! A histogram as a drawing in SVG: what was there and is dropped behind what is kept.

use plotters::prelude::*;

use crate::{histogram::Histogram, run::FilterError};

const SIZE: (u32, u32) = (560, 240);
/// What is dropped.
const BEFORE: RGBColor = RGBColor(0xd5, 0x8a, 0x5b);
/// What is kept.
const AFTER: RGBColor = RGBColor(0x3f, 0x7f, 0xbf);
/// Axes and words: readable on light and on dark.
const INK: RGBColor = RGBColor(0x80, 0x80, 0x80);

/// Draws `histogram` without a ground of its own.
pub(super) fn draw(histogram: &Histogram) -> Result<String, FilterError> {
    let mut svg = String::new();
    draw_into(&mut svg, histogram).map_err(|error| FilterError::Draw { reason: error.to_string() })?;
    Ok(svg)
}

fn draw_into(svg: &mut String, histogram: &Histogram) -> Result<(), Box<dyn std::error::Error>> {
    // Bins where nothing is at either end are left out.
    let filled = |count: &u64| *count > 0;
    let first = histogram.before.iter().position(filled).unwrap_or(0);
    let last = histogram.before.iter().rposition(filled).unwrap_or(0);
    let most = histogram.before.iter().copied().max().unwrap_or(0).max(1);
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    let words = ("sans-serif", 12).into_font().color(&INK);
    let mut chart = ChartBuilder::on(&root)
        .margin(8)
        .x_label_area_size(38)
        .y_label_area_size(58)
        .build_cartesian_2d(first as f64..(last + 1) as f64, 0.0..most as f64 * 1.05)?;
    let edge = |at: &f64| {
        let edges = &histogram.edges;
        edges.get(at.round() as usize).map_or_else(|| "more".to_owned(), |edge| format!("{edge}"))
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(INK.mix(0.25))
        .axis_style(INK)
        .label_style(words.clone())
        .axis_desc_style(words)
        .x_labels((last - first + 2).min(11))
        .y_labels(5)
        .x_label_formatter(&edge)
        .y_label_formatter(&|count| format!("{count:.0}"))
        .x_desc(histogram.measure.title())
        .draw()?;
    for (counts, colour) in [(&histogram.before, BEFORE), (&histogram.after, AFTER)] {
        chart.draw_series((first..=last).filter(|&bin| counts[bin] > 0).map(|bin| {
            let corners = [(bin as f64 + 0.06, 0.0), (bin as f64 + 0.94, counts[bin] as f64)];
            Rectangle::new(corners, colour.filled())
        }))?;
    }
    root.present()?;
    drop(chart);
    drop(root);
    Ok(())
}

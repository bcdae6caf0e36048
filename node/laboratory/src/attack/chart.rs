//! What verification costs, round by round, as a drawing in SVG.

use plotters::prelude::*;

const SIZE: (u32, u32) = (720, 320);
/// Axes and words: readable on light and on dark.
const INK: RGBColor = RGBColor(0x80, 0x80, 0x80);
const LINE: RGBColor = RGBColor(0x3f, 0x7f, 0xbf);

pub(super) fn draw(cost: &[f64]) -> Result<String, String> {
    let mut svg = String::new();
    draw_into(&mut svg, cost).map_err(|error| error.to_string())?;
    Ok(svg)
}

fn draw_into(svg: &mut String, cost: &[f64]) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    let words = ("sans-serif", 13).into_font().color(&INK);
    let most = cost.iter().copied().fold(0.01, f64::max);
    let mut chart = ChartBuilder::on(&root)
        .margin(8)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..cost.len().max(1) as f64, 0.0..105.0 * most)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(INK.mix(0.25))
        .axis_style(INK)
        .label_style(words.clone())
        .axis_desc_style(words)
        .x_desc("round")
        .y_desc("contributions executed again, %")
        .draw()?;
    let points = cost.iter().enumerate().map(|(round, share)| (round as f64, 100.0 * share));
    chart.draw_series(LineSeries::new(points, LINE.stroke_width(2)))?;
    root.present()?;
    drop(chart);
    drop(root);
    Ok(())
}

//! Held-out loss against what it cost, as a drawing in SVG.

use plotters::prelude::*;

use super::trial::{Curve, Method};

const SIZE: (u32, u32) = (720, 400);
/// Axes and words: readable on light and on dark.
const INK: RGBColor = RGBColor(0x80, 0x80, 0x80);

/// What a loss is drawn against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Axis {
    Tokens,
    Bytes,
}

impl Axis {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Bytes => "bytes",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Tokens => "tokens learnt from, thousands",
            Self::Bytes => "bytes sent by a member, decimal logarithm",
        }
    }
}

/// One method's mean over seeds.
#[derive(Debug)]
pub(super) struct Line {
    method: Method,
    points: Vec<(f64, f64)>,
}

impl Line {
    pub(super) fn mean(method: Method, curves: &[&Curve], axis: Axis) -> Self {
        let rounds = curves.iter().map(|curve| curve.points.len()).min().unwrap_or(0);
        let count = curves.len() as f64;
        // What was sent before the first round is nothing, which a logarithm cannot show.
        let first = usize::from(axis == Axis::Bytes);
        let points = (first..rounds).map(|round| {
            let at = curves.iter().map(|curve| curve.points[round]);
            let x: f64 = at
                .clone()
                .map(|point| match axis {
                    Axis::Tokens => point.tokens as f64 / 1e3,
                    Axis::Bytes => (point.bytes.max(1) as f64).log10(),
                })
                .sum();
            (x / count, at.map(|point| point.loss).sum::<f64>() / count)
        });
        Self { method, points: points.collect() }
    }
}

const fn colour(method: Method) -> RGBColor {
    match method {
        Method::Synchronous => RGBColor(0x55, 0x55, 0x55),
        Method::Diloco => RGBColor(0x8a, 0x5f, 0xbf),
        Method::Carried => RGBColor(0x3f, 0x7f, 0xbf),
        Method::Fresh => RGBColor(0xd5, 0x8a, 0x5b),
        Method::Public => RGBColor(0x2f, 0x9e, 0x62),
        Method::PublicSecond => RGBColor(0xb5, 0xa6, 0x2c),
    }
}

/// Draws what each method reached, a point for every kind of trial: accuracy against bytes.
pub(super) fn draw_accuracy(points: &[(Method, u64, f64)]) -> Result<String, String> {
    let mut svg = String::new();
    draw_points(&mut svg, points).map_err(|error| error.to_string())?;
    Ok(svg)
}

fn draw_points(svg: &mut String, points: &[(Method, u64, f64)]) -> Result<(), Box<dyn std::error::Error>> {
    let at = |&(_, bytes, accuracy): &(Method, u64, f64)| ((bytes.max(1) as f64).log10(), 100.0 * accuracy);
    let (left, right) = bounds(points.iter().map(|point| at(point).0));
    let (_, high) = bounds(points.iter().map(|point| at(point).1));
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    let mut chart = ground(
        &root,
        left - 0.2..right + 0.2,
        0.0..high * 1.1,
        [Axis::Bytes.title(), "held-out questions answered rightly, %"],
    )?;
    let mut methods: Vec<Method> = points.iter().map(|(method, ..)| *method).collect();
    methods.sort_unstable();
    methods.dedup();
    for method in methods {
        let style = colour(method).filled();
        let own = points.iter().filter(|(other, ..)| *other == method);
        chart
            .draw_series(own.map(|point| Circle::new(at(point), 4, style)))?
            .label(method.name())
            .legend(move |(x, y)| Circle::new((x + 8, y), 4, style));
    }
    chart.configure_series_labels().border_style(INK.mix(0.25)).label_font(words()).draw()?;
    root.present()?;
    drop(chart);
    drop(root);
    Ok(())
}

fn words<'a>() -> TextStyle<'a> {
    ("sans-serif", 13).into_font().color(&INK)
}

fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
    if low < high { (low, high) } else { (0.0, 1.0) }
}

type Chart<'a, 'b> = ChartContext<
    'a,
    SVGBackend<'b>,
    Cartesian2d<plotters::coord::types::RangedCoordf64, plotters::coord::types::RangedCoordf64>,
>;

/// Axes with their names.
fn ground<'a, 'b>(
    root: &'a DrawingArea<SVGBackend<'b>, plotters::coord::Shift>,
    x: std::ops::Range<f64>,
    y: std::ops::Range<f64>,
    names: [&str; 2],
) -> Result<Chart<'a, 'b>, Box<dyn std::error::Error>>
where
    'b: 'a,
{
    let mut chart = ChartBuilder::on(root)
        .margin(8)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(INK.mix(0.25))
        .axis_style(INK)
        .label_style(words())
        .axis_desc_style(words())
        .x_desc(names[0])
        .y_desc(names[1])
        .draw()?;
    Ok(chart)
}

/// Draws the lines without a ground of their own.
pub(super) fn draw(lines: &[Line], axis: Axis) -> Result<String, String> {
    let mut svg = String::new();
    draw_into(&mut svg, lines, axis).map_err(|error| error.to_string())?;
    Ok(svg)
}

fn draw_into(svg: &mut String, lines: &[Line], axis: Axis) -> Result<(), Box<dyn std::error::Error>> {
    let all = || lines.iter().flat_map(|line| line.points.iter().copied());
    let (left, right) = bounds(all().map(|point| point.0));
    let (low, high) = bounds(all().map(|point| point.1));
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    let names = [axis.title(), "held-out loss, nats per learned token"];
    let mut chart = ground(&root, left..right, low - 0.03 * (high - low)..high, names)?;
    for line in lines {
        let style = colour(line.method).stroke_width(2);
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), style))?
            .label(line.method.name())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
    }
    chart.configure_series_labels().border_style(INK.mix(0.25)).label_font(words()).draw()?;
    root.present()?;
    drop(chart);
    drop(root);
    Ok(())
}

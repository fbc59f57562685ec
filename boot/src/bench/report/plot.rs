//! One plot: a line for each figure, with a point for gzero, the peer and the bare machine, on a logarithmic axis.
//!
//! Points and no bars: the length of a bar says nothing where the axis has no zero.
#![expect(clippy::float_arithmetic, reason = "figures are fractions, and a host has them")]

use core::fmt::Display;
use core::ops::Range;

use plotters::prelude::{
    BLACK, Cartesian2d, ChartBuilder, ChartContext, Circle, Color as _, EmptyElement, IntoDrawingArea as _,
    IntoFont as _, IntoLogRange as _, LogCoord, PathElement, RGBColor, SVGBackend, SeriesLabelPosition, Text,
    WHITE,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{IntoTextStyle as _, TextStyle};

use crate::bench::row::Row;

/// Pixels: of the plot, of what lies left of the axis and above and below the lines, and of each line.
const WIDTH: u32 = 860;
const NAMES: u32 = 260;
const AROUND: u32 = 110;
const LINE: u32 = 24;
/// Radius of a point.
const POINT: i32 = 5;
const FONT: &str = "sans-serif";

/// Whose points there are, in what colour. The colours differ in lightness too.
const SIDES: [(&str, RGBColor); 3] = [
    ("gzero", RGBColor(0, 90, 181)),
    ("Go", RGBColor(230, 120, 20)),
    ("bare machine", RGBColor(150, 150, 150)),
];

type Chart<'a, 's> =
    ChartContext<'a, SVGBackend<'s>, Cartesian2d<LogCoord<f64>, plotters::coord::types::RangedCoordf64>>;

/// Draws figures of one unit.
///
/// # Errors
///
/// Text of the plotting library's.
pub fn svg(title: &str, rows: &[&Row]) -> Result<String, String> {
    let mut text = String::new();
    draw(&mut text, title, rows).map_err(|error| format!("{title}: {error}"))?;
    Ok(text)
}

fn draw(text: &mut String, title: &str, rows: &[&Row]) -> Result<(), String> {
    let lines = u32::try_from(rows.len()).map_err(said)?;
    let area = SVGBackend::with_string(text, (WIDTH, AROUND + LINE * lines)).into_drawing_area();
    area.fill(&WHITE).map_err(said)?;
    let mut chart: Chart<'_, '_> = ChartBuilder::on(&area)
        .caption(title, (FONT, 18))
        .margin(10)
        .margin_right(30)
        .x_label_area_size(35)
        .y_label_area_size(NAMES)
        .build_cartesian_2d(decades(rows).log_scale(), f64::from(lines) - 0.5..-0.5)
        .map_err(said)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_label_formatter(&|value| format!("{value}"))
        .x_label_style((FONT, 13))
        .draw()
        .map_err(said)?;
    let left = decades(rows).start;
    let style: TextStyle<'_> =
        (FONT, 13).into_font().into_text_style(&area).pos(Pos::new(HPos::Right, VPos::Center));
    let name = |(at, row): (f64, &&Row)| {
        EmptyElement::at((left, at))
            + Text::new(format!("{} at {}", row.name, row.procs), (-8, 0), style.clone())
    };
    chart.draw_series(numbered(rows).map(name)).map_err(said)?;
    for (side, (_, colour)) in SIDES.iter().enumerate() {
        points(&mut chart, rows, side, *colour)?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .label_font((FONT, 13))
        .draw()
        .map_err(said)?;
    area.present().map_err(said)
}

/// The points of one side, and for gzero a line from the smallest to the largest repetition.
fn points(chart: &mut Chart<'_, '_>, rows: &[&Row], side: usize, colour: RGBColor) -> Result<(), String> {
    let known = || numbered(rows).filter_map(move |(at, row)| Some((values(row)[side]?, at, row)));
    if side == 0 {
        let spread = |(_, at, row): (f64, f64, &&Row)| {
            let (low, high) = drawable(row.min).zip(drawable(row.max))?;
            Some(PathElement::new([(low, at), (high, at)], colour.stroke_width(2)))
        };
        chart.draw_series(known().filter_map(spread)).map_err(said)?;
    }
    if known().next().is_none() {
        return Ok(());
    }
    let circle = |(value, at, _): (f64, f64, &&Row)| Circle::new((value, at), POINT, colour.filled());
    let series = chart.draw_series(known().map(circle)).map_err(said)?;
    series.label(SIDES[side].0).legend(move |place| Circle::new(place, POINT, colour.filled()));
    Ok(())
}

fn numbered<'a, 'r>(rows: &'a [&'r Row]) -> impl Iterator<Item = (f64, &'a &'r Row)> {
    (0_u32..).map(f64::from).zip(rows)
}

/// What is drawn of a row, in the order of the sides.
fn values(row: &Row) -> [Option<f64>; SIDES.len()] {
    [drawable(Some(row.value)), drawable(row.peer), drawable(row.raw)]
}

/// A logarithmic axis has no place for zero.
fn drawable(value: Option<f64>) -> Option<f64> {
    value.filter(|value| *value > 0.0 && value.is_finite())
}

/// From the power of ten below all values to that above.
fn decades(rows: &[&Row]) -> Range<f64> {
    let all = || {
        let ends = |row: &&Row| [drawable(row.min), drawable(row.max)];
        rows.iter().flat_map(move |row| values(row).into_iter().chain(ends(row)).flatten())
    };
    let low = all().reduce(f64::min).unwrap_or(1.0).log10().floor();
    let high = all().reduce(f64::max).unwrap_or(1.0).log10().ceil();
    10_f64.powf(low)..10_f64.powf(high.max(low + 1.0))
}

fn said(error: impl Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::row::tests::row;

    fn range(rows: &[Row]) -> Range<f64> {
        decades(&rows.iter().collect::<Vec<_>>())
    }

    #[test]
    fn the_axis_ends_at_powers_of_ten_around_all_points() {
        let mut rows = [row("a", 1, 70.0), row("b", 1, 110.0)];
        assert_eq!(range(&rows), 10.0..1_000.0);
        (rows[0].peer, rows[1].raw) = (Some(12_000.0), Some(0.0));
        assert_eq!(range(&rows), 10.0..100_000.0, "nothing is drawn for a limit of zero");
        assert_eq!(range(&[row("a", 1, 100.0)]), 100.0..1_000.0);
        assert_eq!(range(&[]), 1.0..10.0);
    }

    #[test]
    fn each_known_value_is_a_point() {
        let mut rows = [row("yield", 1, 70.0), row("skynet", 2, 110.0)];
        (rows[0].peer, rows[0].raw, rows[1].peer) = (Some(700.0), Some(15.0), Some(3_000.0));
        let text = svg("goroutines, icount", &rows.iter().collect::<Vec<_>>()).expect("a plot");
        for part in ["<svg", "yield at 1", "skynet at 2", "goroutines, icount", "bare machine"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        // Five values, and three sides beside the plot.
        assert_eq!(text.matches("<circle").count(), 5 + 3);
        rows[0].raw = None;
        let text = svg("goroutines, icount", &rows.iter().collect::<Vec<_>>()).expect("a plot");
        assert_eq!(text.matches("<circle").count(), 4 + 2);
        assert!(!text.contains("bare machine"), "{text}");
    }
}

//! The plots: lines for a measure with an axis, bars for the others.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::contender::Contender;
use crate::error::Result;
use crate::report::figure;
use crate::results::Results;
use crate::stats::{Measure, Row};

const WIDTH: u32 = 860;
/// Height of a bar with its margin.
const BAR: u32 = 34;
const TITLE: u32 = 44;
/// Width of the labels left of the bars.
const LABELS: i32 = 230;
const INK: RGBColor = RGBColor(40, 40, 40);
const PAPER: RGBColor = WHITE;
const OURS: RGBColor = RGBColor(20, 110, 180);
const FLOOR: RGBColor = RGBColor(120, 120, 120);
const OTHERS: RGBColor = RGBColor(225, 160, 80);
const LINES: [RGBColor; 5] = [
    OURS,
    RGBColor(210, 110, 40),
    RGBColor(60, 150, 80),
    RGBColor(160, 70, 150),
    FLOOR,
];

pub fn draw(results: &Results, out: &Path) -> Result<()> {
    for measure in &results.measures {
        let file = out.join(format!("{}.svg", measure.id));
        let has_figures = measure
            .rows
            .iter()
            .filter(|row| row.median.is_some_and(|median| median > 0.0));
        if has_figures.count() < 2 {
            continue;
        }
        let drawn = match &measure.axis {
            Some(axis) => lines(measure, axis, &file),
            None => bars(measure, &file),
        };
        drawn.map_err(|error| format!("draw {}: {error}", file.display()))?;
    }
    Ok(())
}

fn color(row: &Row) -> RGBColor {
    let known = Contender::all()
        .iter()
        .find(|contender| contender.title() == row.label);
    match known {
        Some(contender) if contender.is_ours() => OURS,
        _ if row.label.starts_with("procref") && !row.label.ends_with("0.1.0") => OURS,
        Some(_) => OTHERS,
        None if row.label.starts_with("bare") || row.label.starts_with("the service") => FLOOR,
        None => OTHERS,
    }
}

type Drawn = std::result::Result<(), Box<dyn std::error::Error>>;

fn style(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

/// Draws bars on a logarithmic scale, because the figures differ by powers of ten.
fn bars(measure: &Measure, file: &Path) -> Drawn {
    let height = TITLE + BAR * measure.rows.len() as u32 + 12;
    let area = SVGBackend::new(file, (WIDTH, height)).into_drawing_area();
    area.fill(&PAPER)?;
    area.draw_text(&measure.title, &style(19), (12, 12))?;
    area.draw_text("logarithmic scale", &style(14), (WIDTH as i32 - 120, 14))?;
    let medians: Vec<f64> = measure.rows.iter().filter_map(|row| row.median).collect();
    let positive = || medians.iter().copied().filter(|median| *median > 0.0);
    let low = positive().fold(f64::MAX, f64::min).log10() - 0.4;
    let high = positive().fold(f64::MIN, f64::max).log10();
    let width = f64::from(WIDTH as i32 - LABELS - 190);
    for (index, row) in measure.rows.iter().enumerate() {
        let top = (TITLE + BAR * index as u32) as i32;
        area.draw_text(&row.label, &style(15), (12, top + 7))?;
        let length = match row.median {
            Some(median) if median > 0.0 => (median.log10() - low) / (high - low) * width,
            _ => 0.0,
        };
        let end = LABELS + length.max(1.0) as i32;
        let bar = [(LABELS, top + 4), (end, top + BAR as i32 - 8)];
        area.draw(&Rectangle::new(bar, color(row).filled()))?;
        area.draw_text(&label(row, measure), &style(14), (end + 8, top + 8))?;
    }
    area.present()?;
    Ok(())
}

fn label(row: &Row, measure: &Measure) -> String {
    let mut text = row
        .median
        .map_or(String::new(), |median| figure(median, measure.unit));
    if let Some(ratio) = row.ratio {
        text += &format!(
            "  ×{}",
            if ratio < 10.0 {
                format!("{ratio:.1}")
            } else {
                format!("{ratio:.0}")
            }
        );
    }
    match &row.note {
        Some(note) if text.is_empty() => note.clone(),
        Some(note) => format!("{text} ({note})"),
        None => text,
    }
}

fn lines(measure: &Measure, axis: &str, file: &Path) -> Drawn {
    let area = SVGBackend::new(file, (WIDTH, 420)).into_drawing_area();
    area.fill(&PAPER)?;
    area.draw_text(&measure.title, &style(19), (12, 12))?;
    let (_, area) = area.split_vertically(TITLE as i32 - 6);
    chart(measure, axis, &area)?;
    area.present()?;
    Ok(())
}

fn chart(measure: &Measure, axis: &str, area: &DrawingArea<SVGBackend<'_>, Shift>) -> Drawn {
    let xs = || measure.rows.iter().filter_map(|row| row.x);
    let ys = || measure.rows.iter().filter_map(|row| row.median);
    let right = xs().max().unwrap_or(1) as f64 * 1.1;
    let (low, high) = (ys().fold(f64::MAX, f64::min), ys().fold(f64::MIN, f64::max));
    let mut chart = ChartBuilder::on(area)
        .margin(14)
        .x_label_area_size(44)
        .y_label_area_size(80)
        .build_cartesian_2d(
            (0.9..right).log_scale(),
            (low / 1.6..high * 1.6).log_scale(),
        )?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc(axis)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| figure(*y, measure.unit))
        .label_style(style(14))
        .draw()?;
    let mut names: Vec<&str> = Vec::new();
    for row in &measure.rows {
        if !names.contains(&row.label.as_str()) {
            names.push(&row.label);
        }
    }
    for (index, name) in names.into_iter().enumerate() {
        let color = if name.starts_with("bare") {
            FLOOR
        } else {
            LINES[index % LINES.len()]
        };
        let rows = measure.rows.iter().filter(|row| row.label == name);
        let points = rows.filter_map(|row| Some((row.x? as f64, row.median?)));
        let points: Vec<(f64, f64)> = points.collect();
        let dots: Vec<_> = points
            .iter()
            .map(|&at| Circle::new(at, 3, color.filled()))
            .collect();
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
        chart.draw_series(dots)?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .label_font(style(14))
        .draw()?;
    Ok(())
}

//! Lays the model out as lines of the screen.

use anstyle::{Effects, Style};
use console::{measure_text_width, strip_ansi_codes, truncate_str};

use super::model::{Model, Row, View};
use crate::table;
use crate::text::shown;

const TITLE: Style = Style::new().bold();
const SELECTED: Style = Style::new().effects(Effects::INVERT);
const HINT: Style = Style::new().dimmed();

/// The columns of the terminal before the table. They mark the selected row where colors are turned off.
const MARGIN: usize = 2;

/// The longest message, in lines.
const LONGEST_MESSAGE: usize = 12;

/// The width to which names and states may be shortened before another column is left out.
const SHORTENED: usize = 12;

/// Width and height of the terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) width: usize,
    pub(super) height: usize,
}

/// Returns the lines of the screen. None is wider than the terminal, and there are not more than fit.
pub(super) fn lines(model: &Model, size: Size) -> Vec<String> {
    let footer = footer(model, size);
    let height = size.height.saturating_sub(footer.len());
    let size = Size { height, ..size };
    let mut lines = match &model.view {
        View::List => list(model, size),
        View::Holders => holders(model, size),
        View::Log(_) => log(model, size),
    };
    lines.truncate(height);
    lines.resize(height, String::new());
    lines.extend(footer);
    // Even the ellipsis is too wide for a terminal without columns.
    let ellipsis = if size.width == 0 { "" } else { "…" };
    let cut = |line: String| truncate_str(&line, size.width, ellipsis).into_owned();
    lines.into_iter().map(cut).collect()
}

/// Returns the number of services or lines of a log that are visible at once.
pub(super) fn page(model: &Model, size: Size) -> usize {
    let footer = footer(model, size).len();
    size.height.saturating_sub(footer + 1).max(1)
}

/// Returns the message and the keys. At least two lines remain for the rest if there are three.
fn footer(model: &Model, size: Size) -> Vec<String> {
    let most = size.height.saturating_sub(3).min(LONGEST_MESSAGE);
    let mut lines: Vec<String> = Vec::new();
    for line in &model.message {
        lines.extend(wrapped(line, size.width));
    }
    if lines.len() > most {
        lines.truncate(most.saturating_sub(1));
        lines.extend((most > 0).then(|| "…".to_owned()));
    }
    let last = match (&model.question, &model.view) {
        (Some(question), _) => format!("{TITLE}Stop `{}` anyway? [y/N]{TITLE:#}", question.name),
        (None, View::Log(_)) => {
            format!("{HINT}Esc back  Up/Down/PgUp/PgDn/End scroll  q quit{HINT:#}")
        }
        (None, View::Holders) => {
            format!("{HINT}Esc back  s stop  p {}  q quit{HINT:#}", pin(model))
        }
        (None, View::List) => {
            let pin = pin(model);
            format!("{HINT}q quit  l log  h holders  s stop  p {pin}  Up/Down select{HINT:#}")
        }
    };
    if size.height > 0 {
        lines.push(last);
    }
    lines
}

fn pin(model: &Model) -> &'static str {
    match model.selected().is_some_and(|row| row.is_pinned) {
        true => "unpin",
        false => "pin",
    }
}

/// Splits a text without styles into lines of this width.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest = text;
    while measure_text_width(rest) > width {
        let line = truncate_str(rest, width, "");
        if line.is_empty() {
            break;
        }
        rest = &rest[line.len()..];
        lines.push(line.into_owned());
    }
    lines.push(rest.to_owned());
    lines
}

fn list(model: &Model, size: Size) -> Vec<String> {
    if model.rows.is_empty() {
        return vec!["no services".to_owned()];
    }
    let mut table = table(model, size.width.saturating_sub(MARGIN)).into_iter();
    let heading = table.next().map(|line| format!("{:MARGIN$}{line}", ""));
    let rows: Vec<String> = table.collect();
    let visible = size.height.saturating_sub(1);
    // The selected row is the last one if the list is longer than the screen. At the beginning, the list is at its top.
    let first = (model.selected + 1).saturating_sub(visible);
    let rows = rows.into_iter().enumerate().skip(first).take(visible);
    let rows = rows.map(|(at, line)| match at == model.selected {
        true => {
            let plain = strip_ansi_codes(&line).into_owned();
            let width = size.width.saturating_sub(MARGIN);
            let line = truncate_str(&plain, width, "…");
            let padding = width.saturating_sub(measure_text_width(&line));
            format!("{SELECTED}> {line}{:padding$}{SELECTED:#}", "")
        }
        false => format!("{:MARGIN$}{line}", ""),
    });
    heading.into_iter().chain(rows).collect()
}

/// Returns the heading and the rows. Columns at the end are left out if the terminal is too narrow.
fn table(model: &Model, width: usize) -> Vec<String> {
    let cells = || model.rows.iter().map(|row: &Row| row.cells.clone());
    let widths = table::natural_widths(&model.headings, cells());
    let widths = widths.iter().enumerate();
    let widths = widths.map(|(at, &width)| if at < 2 { width.min(SHORTENED) } else { width });
    let widths: Vec<usize> = widths.collect();
    let fits = |columns: &usize| table::total(&widths[..*columns]) <= width;
    let columns = (2..=model.headings.len()).rev().find(fits).unwrap_or(2);
    let rows = cells().map(|mut cells| {
        cells.truncate(columns);
        cells
    });
    let headings = model.headings.get(..columns).unwrap_or(&model.headings);
    let text = table::arrange(headings, rows.collect(), Some(width));
    text.lines().map(str::to_owned).collect()
}

fn holders(model: &Model, size: Size) -> Vec<String> {
    let Some(row) = model.selected() else {
        return Vec::new();
    };
    let name = row.cells.first().map_or("", String::as_str);
    let mut lines = vec![format!("{TITLE}Holders of `{name}`{TITLE:#}")];
    if row.holders.is_empty() {
        lines.push("  no process holds the service".to_owned());
    }
    let visible = size.height.saturating_sub(lines.len());
    let (shown, hidden) = match row.holders.len() > visible {
        true => row.holders.split_at(visible.saturating_sub(1)),
        false => (&row.holders[..], &[][..]),
    };
    lines.extend_from_slice(shown);
    if !hidden.is_empty() {
        lines.push(format!("  and {} more", hidden.len()));
    }
    lines
}

fn log(model: &Model, size: Size) -> Vec<String> {
    let View::Log(log) = &model.view else {
        return Vec::new();
    };
    let path = shown(&log.path.to_string_lossy());
    let mut title = format!("{TITLE}Log of `{}`{TITLE:#}, {path}", log.service);
    if log.below > 0 {
        title += &format!(" ({} lines below)", log.below);
    }
    if let Some(error) = &log.error {
        title += &format!(" ({error})");
    }
    let visible = size.height.saturating_sub(1);
    let end = log.lines.len().saturating_sub(log.below);
    let first = end.saturating_sub(visible);
    let mut lines = vec![title];
    lines.extend(log.lines[first..end].iter().cloned());
    lines
}

#[cfg(all(test, unix))]
mod tests;

//! Tables for people.

use std::io::{self, IsTerminal as _};

use anstyle::{AnsiColor, Style};
use comfy_table::presets::NOTHING;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};
use procref::State;

const HEAD: Style = Style::new().dimmed();

/// Returns a state in its color.
pub(crate) fn state(state: State) -> String {
    let color = match state {
        State::Ready => AnsiColor::Green,
        State::Starting | State::Stopping => AnsiColor::Yellow,
        State::Dead => AnsiColor::Red,
        _ => return state.to_string(),
    };
    let style = color.on_default();
    format!("{style}{state}{style:#}")
}

/// Renders rows under headings, without borders. Columns with a heading that begins with `>` contain numbers.
///
/// On a terminal, the table has the terminal's width. Elsewhere it has no limit, so each row is one line.
pub(crate) fn render(headings: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    if io::stdout().is_terminal() {
        let (_, width) = console::Term::stdout().size();
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(width.max(40));
    }
    let names = headings
        .iter()
        .map(|heading| heading.trim_start_matches('>'));
    table.set_header(names.map(|name| Cell::new(format!("{HEAD}{name}{HEAD:#}"))));
    table.add_rows(rows);
    for (column, heading) in table.column_iter_mut().zip(headings) {
        column.set_padding((0, 2));
        if heading.starts_with('>') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt() + "\n"
}

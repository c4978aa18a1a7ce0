//! Tables for people.

use std::io::{self, IsTerminal as _};

use anstyle::{AnsiColor, Style};
use console::Alignment;
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

/// The space between two columns.
const GAP: &str = "  ";

/// The smallest width of a column that is shortened.
const SHORTEST: usize = 8;

/// Renders rows under headings, without borders. Columns with a heading that begins with `>` contain numbers.
///
/// Each row is one line. On a terminal, the widest column is shortened if the table is wider than the terminal.
pub(crate) fn render(headings: &[&str], rows: Vec<Vec<String>>) -> String {
    let terminal = io::stdout().is_terminal();
    let limit = terminal.then(|| usize::from(console::Term::stdout().size().1));
    arrange(headings, rows, limit)
}

fn arrange(headings: &[&str], rows: Vec<Vec<String>>, limit: Option<usize>) -> String {
    let names = headings.iter().map(|it| it.trim_start_matches('>'));
    let names = names.map(|name| format!("{HEAD}{name}{HEAD:#}")).collect();
    let lines: Vec<Vec<String>> = std::iter::once(names).chain(rows).collect();
    let widths = widths(headings.len(), &lines, limit);
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(headings).zip(&widths);
        let cells = cells.map(|((cell, heading), &width)| {
            let side = match heading.starts_with('>') {
                true => Alignment::Right,
                false => Alignment::Left,
            };
            console::pad_str(cell, width, side, Some("…")).into_owned()
        });
        let line = cells.collect::<Vec<_>>().join(GAP);
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Returns the widths of the columns, in columns of a terminal.
fn widths(columns: usize, lines: &[Vec<String>], limit: Option<usize>) -> Vec<usize> {
    let mut widths = vec![0; columns];
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = console::measure_text_width(cell).max(*width);
        }
    }
    let whole = widths.iter().sum::<usize>() + GAP.len() * columns.saturating_sub(1);
    let excess = whole.saturating_sub(limit.unwrap_or(whole));
    if let Some(widest) = widths.iter_mut().max() {
        *widest = widest.saturating_sub(excess).max(SHORTEST.min(*widest));
    }
    widths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(limit: Option<usize>) -> String {
        let green = AnsiColor::Green.on_default();
        let rows = vec![
            vec![
                "db".to_owned(),
                format!("{green}ready{green:#}"),
                "7".to_owned(),
                "/a/long/path".to_owned(),
            ],
            vec![
                "数据".to_owned(),
                "dead".to_owned(),
                "12345".to_owned(),
                "-".to_owned(),
            ],
        ];
        let text = arrange(&["NAME", "STATE", ">PID", "PROJECT"], rows, limit);
        console::strip_ansi_codes(&text).into_owned()
    }

    #[test]
    fn table_aligns_columns_by_their_width_on_a_terminal() {
        let expected = "NAME  STATE    PID  PROJECT\n\
                        db    ready      7  /a/long/path\n\
                        数据  dead   12345  -\n";
        assert_eq!(plain(None), expected);
        assert_eq!(plain(Some(32)), expected);
    }

    #[test]
    fn table_shortens_the_widest_column_when_the_terminal_is_narrow() {
        let expected = "NAME  STATE    PID  PROJECT\n\
                        db    ready      7  /a/long/p…\n\
                        数据  dead   12345  -\n";
        assert_eq!(plain(Some(30)), expected);
    }
}

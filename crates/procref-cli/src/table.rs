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
/// Each row is one line. On a terminal, the widest columns are shortened if the table is wider than the terminal.
pub(crate) fn render(headings: &[&str], rows: Vec<Vec<String>>) -> String {
    let terminal = io::stdout().is_terminal();
    let limit = terminal.then(|| usize::from(console::Term::stdout().size().1));
    arrange(headings, rows, limit)
}

/// Returns the widths of columns that are not shortened.
pub(crate) fn natural_widths(
    headings: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
) -> Vec<usize> {
    let names = headings
        .iter()
        .map(|it| it.trim_start_matches('>').to_owned());
    let lines: Vec<Vec<String>> = std::iter::once(names.collect()).chain(rows).collect();
    widths(headings.len(), &lines, None)
}

/// Returns the width of a table with columns of these widths.
pub(crate) fn total(widths: &[usize]) -> usize {
    widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1)
}

/// Renders a table that is not wider than `limit`, if its columns can be shortened so far.
pub(crate) fn arrange(headings: &[&str], rows: Vec<Vec<String>>, limit: Option<usize>) -> String {
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
    while limit.is_some_and(|limit| total(&widths) > limit) {
        match widths.iter_mut().max() {
            Some(widest) if *widest > SHORTEST => *widest -= 1,
            _ => break,
        }
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
    fn table_shortens_several_columns_when_one_is_not_enough() {
        let row = ["a-very-long-name", "another-long-text"].map(str::to_owned);
        let text = arrange(&["NAME", "STATE"], vec![row.to_vec()], Some(22));
        let plain = console::strip_ansi_codes(&text).into_owned();
        assert_eq!(plain, "NAME        STATE\na-very-lo…  another-l…\n");
        let widths = natural_widths(&["NAME", "STATE"], std::iter::once(row.to_vec()));
        assert_eq!((&widths[..], total(&widths)), (&[16, 17][..], 35));
    }

    #[test]
    fn table_shortens_the_widest_column_when_the_terminal_is_narrow() {
        let expected = "NAME  STATE    PID  PROJECT\n\
                        db    ready      7  /a/long/p…\n\
                        数据  dead   12345  -\n";
        assert_eq!(plain(Some(30)), expected);
    }
}

//! What is to be seen: on a terminal a table that changes, and otherwise a line for everything that happens.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};
use comfy_table::{Attribute, Cell, CellAlignment, Color, Table, presets};
use console::Term;
use procref::{State, Status};

use super::clients::{Client, Doing};
use crate::error::{Error, Result};

const TITLE: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
const WAITS: Style = AnsiColor::Yellow.on_default();

/// A terminal that is smaller cannot hold the table.
const ROWS: u16 = 20;
const COLUMNS: u16 = 60;

pub(super) struct Stage {
    term: Term,
    live: bool,
    colour: bool,
    begun: Instant,
    /// The table that is on the screen.
    drawn: String,
}

impl Stage {
    pub(super) fn new() -> Self {
        let term = Term::stdout();
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let (rows, columns) = term.size();
        let live = std::io::stdout().is_terminal() && !dumb && rows >= ROWS && columns >= COLUMNS;
        let colour =
            anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never;
        if live {
            let _ = term.hide_cursor();
        }
        Self {
            term,
            live,
            colour,
            begun: Instant::now(),
            drawn: String::new(),
        }
    }

    /// So long if somebody watches, and not at all otherwise.
    pub(super) fn pace(&self, time: Duration) -> Duration {
        match self.live {
            true => time,
            false => Duration::ZERO,
        }
    }

    pub(super) fn title(&mut self, text: &str) -> Result<()> {
        self.line(&format!("{TITLE}{text}{TITLE:#}"))
    }

    /// What is about to happen. It stays above the table.
    pub(super) fn caption(&mut self, text: &str) -> Result<()> {
        let seconds = self.begun.elapsed().as_secs_f64();
        self.line(&format!(
            "{DIM}{seconds:6.2} s{DIM:#}  {TITLE}{text}{TITLE:#}"
        ))
    }

    /// What has happened, where no table shows it.
    pub(super) fn event(&mut self, text: &str) -> Result<()> {
        if self.live {
            return Ok(());
        }
        let seconds = self.begun.elapsed().as_secs_f64();
        self.line(&format!("{DIM}{seconds:6.2} s{DIM:#}  {text}"))
    }

    pub(super) fn check(&mut self, right: bool, what: &str) -> Result<()> {
        let verdict = match right {
            true => format!("{GOOD}   ok{GOOD:#}"),
            false => format!("{BAD}WRONG{BAD:#}"),
        };
        self.line(&format!("   {verdict}  {what}"))
    }

    pub(super) fn verdict(&mut self, checks: usize, wrong: usize) -> Result<()> {
        let seconds = self.begun.elapsed().as_secs_f64();
        self.line(&match wrong {
            0 => format!("{GOOD}All {checks} checks passed{GOOD:#} after {seconds:.1} s."),
            _ => format!("{BAD}{wrong} of {checks} checks went wrong.{BAD:#}"),
        })
    }

    /// A line that stays: above the table, if there is one.
    fn line(&mut self, text: &str) -> Result<()> {
        let table = std::mem::take(&mut self.drawn);
        let above = table.lines().count();
        self.clear(above)?;
        self.write(&format!("{text}\n{table}"))?;
        self.drawn = table;
        Ok(())
    }

    /// Shows how things are.
    pub(super) fn draw(&mut self, status: &Status, clients: &[Client]) -> Result<()> {
        if !self.live {
            return Ok(());
        }
        let table = picture(status, clients);
        if table == self.drawn {
            return Ok(());
        }
        self.clear(self.drawn.lines().count())?;
        self.write(&table)?;
        self.drawn = table;
        Ok(())
    }

    /// Leaves the table where it is. What comes now stands below.
    pub(super) fn freeze(&mut self) {
        self.drawn.clear();
    }

    fn clear(&self, lines: usize) -> Result<()> {
        match lines {
            0 => Ok(()),
            _ => self.term.clear_last_lines(lines).map_err(failed),
        }
    }

    fn write(&self, text: &str) -> Result<()> {
        let text = match self.colour {
            true => text.to_owned(),
            false => anstream::adapter::strip_str(text).to_string(),
        };
        self.term.write_str(&text).map_err(failed)?;
        self.term.flush().map_err(failed)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.live {
            let _ = self.term.show_cursor();
        }
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::io("write to the standard output", error)
}

fn picture(status: &Status, clients: &[Client]) -> String {
    let mut table = Table::new();
    // Where no colour is wanted, it is taken out again.
    table.load_preset(presets::NOTHING).enforce_styling();
    table.set_header(["client", "pid", "", "answers", "given by"]);
    for client in clients {
        let answered_by = client
            .answered_by
            .map_or(String::new(), |pid| format!("pid {pid}"));
        table.add_row([
            Cell::new(client.number),
            Cell::new(client.pid()),
            doing(client.doing),
            Cell::new(client.answers),
            Cell::new(answered_by),
        ]);
    }
    for column in [0, 1, 3] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!("\n{}\n{table}\n\n", service(status))
}

fn doing(doing: Doing) -> Cell {
    match doing {
        Doing::Waiting => Cell::new("waits for the service").fg(Color::Yellow),
        Doing::Working => Cell::new("works").fg(Color::Green),
        Doing::Leaving => Cell::new("leaves").add_attribute(Attribute::Dim),
        Doing::Left => Cell::new("has left").add_attribute(Attribute::Dim),
        Doing::Killed => Cell::new("killed").fg(Color::Red),
    }
}

fn service(status: &Status) -> String {
    let pid = match status.instance() {
        Some(instance) => format!(", pid {}", instance.pid()),
        None => String::new(),
    };
    let style = match status.state() {
        State::Ready => GOOD,
        State::Starting | State::Stopping => WAITS,
        _ => DIM,
    };
    let supervisor = match status.supervisor() {
        Some(pid) => format!(", supervisor {pid}"),
        None => String::new(),
    };
    let clients = match status.clients() {
        1 => "1 client".to_owned(),
        clients => format!("{clients} clients"),
    };
    let state = status.state();
    format!(
        "  service {style}{state}{style:#}{pid}{supervisor}, the kernel counts {TITLE}{clients}{TITLE:#}"
    )
}

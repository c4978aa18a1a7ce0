//! The output of the demonstration: an updated table on a terminal, and otherwise one line for each event.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};
use console::Term;
use procref::{State, Status};

use super::clients::{Activity, Client};
use crate::error::{Error, Result};
use crate::table;

const TITLE: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
const WAITS: Style = AnsiColor::Yellow.on_default();

/// The smallest terminal that has room for the table.
const ROWS: u16 = 20;
const COLUMNS: u16 = 60;

pub(super) struct View {
    term: Term,
    live: bool,
    color: bool,
    start: Instant,
    /// The table on the screen.
    drawn: String,
}

impl View {
    pub(super) fn new() -> Self {
        let term = Term::stdout();
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let (rows, columns) = term.size();
        let live = std::io::stdout().is_terminal() && !dumb && rows >= ROWS && columns >= COLUMNS;
        let color =
            anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never;
        if live {
            let _ = term.hide_cursor();
        }
        Self {
            term,
            live,
            color,
            start: Instant::now(),
            drawn: String::new(),
        }
    }

    /// Returns the time on a terminal, and zero elsewhere.
    pub(super) fn pace(&self, time: Duration) -> Duration {
        match self.live {
            true => time,
            false => Duration::ZERO,
        }
    }

    pub(super) fn title(&mut self, text: &str) -> Result<()> {
        self.line(&format!("{TITLE}{text}{TITLE:#}"))
    }

    /// Prints the title of the next step. The line stays above the table.
    pub(super) fn caption(&mut self, text: &str) -> Result<()> {
        let seconds = self.start.elapsed().as_secs_f64();
        self.line(&format!(
            "{DIM}{seconds:6.2} s{DIM:#}  {TITLE}{text}{TITLE:#}"
        ))
    }

    /// Prints an event, unless a table shows it.
    pub(super) fn event(&mut self, text: &str) -> Result<()> {
        if self.live {
            return Ok(());
        }
        let seconds = self.start.elapsed().as_secs_f64();
        self.line(&format!("{DIM}{seconds:6.2} s{DIM:#}  {text}"))
    }

    /// Prints the result of a check.
    pub(super) fn check(&mut self, passed: bool, what: &str) -> Result<()> {
        let result = match passed {
            true => format!("{GOOD}   ok{GOOD:#}"),
            false => format!("{BAD}WRONG{BAD:#}"),
        };
        self.line(&format!("   {result}  {what}"))
    }

    /// Prints the number of passed checks.
    pub(super) fn summary(&mut self, checks: usize, failed: usize) -> Result<()> {
        let seconds = self.start.elapsed().as_secs_f64();
        self.line(&match failed {
            0 => format!("{GOOD}All {checks} checks passed{GOOD:#} after {seconds:.1} s."),
            _ => format!("{BAD}{failed} of {checks} checks failed.{BAD:#}"),
        })
    }

    /// Prints a line that stays above the table.
    fn line(&mut self, text: &str) -> Result<()> {
        let table = std::mem::take(&mut self.drawn);
        let above = table.lines().count();
        self.clear(above)?;
        self.write(&format!("{text}\n{table}"))?;
        self.drawn = table;
        Ok(())
    }

    /// Updates the table on a terminal.
    pub(super) fn draw(&mut self, status: &Status, clients: &[Client]) -> Result<()> {
        if !self.live {
            return Ok(());
        }
        let table = table(status, clients);
        if table == self.drawn {
            return Ok(());
        }
        self.clear(self.drawn.lines().count())?;
        self.write(&table)?;
        self.drawn = table;
        Ok(())
    }

    /// Keeps the table on the screen. Further lines are printed below it.
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
        let text = match self.color {
            true => text.to_owned(),
            false => anstream::adapter::strip_str(text).to_string(),
        };
        self.term.write_str(&text).map_err(failed)?;
        self.term.flush().map_err(failed)
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if self.live {
            let _ = self.term.show_cursor();
        }
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::io("write to the standard output", error)
}

/// `write` removes the styles if the output has no color.
fn table(status: &Status, clients: &[Client]) -> String {
    let headings = [">client", ">pid", "", ">answers", "given by"];
    let rows = clients.iter().map(|client| {
        let answered_by = client.answered_by;
        vec![
            client.number.to_string(),
            client.pid().to_string(),
            activity(client.activity),
            client.answers.to_string(),
            answered_by.map_or(String::new(), |pid| format!("pid {pid}")),
        ]
    });
    let table = table::render(&headings, rows.collect());
    format!("\n{}\n{table}\n", service(status))
}

fn activity(activity: Activity) -> String {
    let (style, text) = match activity {
        Activity::Waiting => (WAITS, "waits for the service"),
        Activity::Working => (GOOD, "works"),
        Activity::Leaving => (DIM, "leaves"),
        Activity::Left => (DIM, "has left"),
        Activity::Killed => (BAD, "killed"),
    };
    format!("{style}{text}{style:#}")
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

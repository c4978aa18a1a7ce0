//! Aligned output, with colors on a terminal.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::thread;
use std::time::{Duration, Instant};

use super::common::Result;

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "1;31";
const GREEN: &str = "32";
const YELLOW: &str = "33";

/// Pause after each line on a terminal, so that a reader can follow.
const PAUSE: Duration = Duration::from_millis(120);

pub struct Screen {
    out: io::Stdout,
    color: bool,
    pause: Duration,
    started: Instant,
    checks: u32,
    failed: u32,
}

impl Screen {
    pub fn new() -> Self {
        let out = io::stdout();
        let terminal = out.is_terminal();
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self {
            out,
            color: terminal && !unwanted,
            pause: if terminal { PAUSE } else { Duration::ZERO },
            started: Instant::now(),
            checks: 0,
            failed: 0,
        }
    }

    fn paint(&self, style: &str, text: impl Display) -> String {
        if self.color {
            format!("\x1b[{style}m{text}\x1b[0m")
        } else {
            text.to_string()
        }
    }

    fn put(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.out, "{line}")?;
        self.out.flush()?;
        thread::sleep(self.pause);
        Ok(())
    }

    pub fn title(&mut self, text: &str) -> io::Result<()> {
        let text = self.paint(BOLD, text);
        self.put(&text)
    }

    /// Prints the title of a section.
    pub fn section(&mut self, text: &str) -> io::Result<()> {
        let text = self.paint(BOLD, text);
        self.put(&format!("\n{text}"))
    }

    /// Prints what a process did, and with which result.
    pub fn event(&mut self, process: &str, pid: u32, action: &str, result: &str) -> io::Result<()> {
        let time = format!("{:7.3} s", self.started.elapsed().as_secs_f64());
        let time = self.paint(DIM, time);
        let action = self.paint(YELLOW, format!("{action:<20}"));
        let line = format!("{time}  {process:<9}  pid {pid:<7}  {action}  {result}");
        self.put(line.trim_end())
    }

    /// Prints a condition that must hold, and counts it as failed if it does not.
    pub fn check(&mut self, holds: bool, condition: impl Display) -> io::Result<()> {
        self.checks += 1;
        let verdict = if holds {
            self.paint(GREEN, "    ok")
        } else {
            self.failed += 1;
            self.paint(RED, "FAILED")
        };
        self.put(&format!("  {verdict}  {condition}"))
    }

    /// Prints the last line.
    ///
    /// # Errors
    ///
    /// Returns an error if a check failed, or if there was none.
    pub fn finish(&mut self) -> Result<()> {
        let (checks, failed) = (self.checks, self.failed);
        let seconds = self.started.elapsed().as_secs_f64();
        if checks == 0 || failed > 0 {
            return Err(format!("{failed} of {checks} checks failed").into());
        }
        let text = self.paint(GREEN, format!("All {checks} checks passed"));
        self.put(&format!("\n{text} in {seconds:.2} s."))?;
        Ok(())
    }
}

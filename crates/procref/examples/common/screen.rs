//! Output for people: aligned, coloured only where colour is wanted, plain in
//! a pipe.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::thread;
use std::time::{Duration, Instant};

use super::Result;

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "1;31";
const GREEN: &str = "32";
const YELLOW: &str = "33";

/// Lines come out at a pace that eyes can follow, if eyes are there.
const PACE: Duration = Duration::from_millis(120);

pub struct Screen {
    out: io::Stdout,
    colour: bool,
    pace: Duration,
    born: Instant,
    checks: u32,
    wrong: u32,
}

impl Screen {
    pub fn new() -> Self {
        let out = io::stdout();
        let terminal = out.is_terminal();
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self {
            out,
            colour: terminal && !unwanted,
            pace: if terminal { PACE } else { Duration::ZERO },
            born: Instant::now(),
            checks: 0,
            wrong: 0,
        }
    }

    fn paint(&self, style: &str, text: impl Display) -> String {
        if self.colour {
            format!("\x1b[{style}m{text}\x1b[0m")
        } else {
            text.to_string()
        }
    }

    fn put(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.out, "{line}")?;
        self.out.flush()?;
        thread::sleep(self.pace);
        Ok(())
    }

    pub fn title(&mut self, text: &str) -> io::Result<()> {
        let text = self.paint(BOLD, text);
        self.put(&text)
    }

    /// The beginning of a new part.
    pub fn act(&mut self, text: &str) -> io::Result<()> {
        let text = self.paint(BOLD, text);
        self.put(&format!("\n{text}"))
    }

    /// Something that a process did.
    pub fn event(&mut self, who: &str, pid: u32, what: &str, seen: &str) -> io::Result<()> {
        let time = format!("{:7.3} s", self.born.elapsed().as_secs_f64());
        let time = self.paint(DIM, time);
        let what = self.paint(YELLOW, format!("{what:<20}"));
        let line = format!("{time}  {who:<9}  pid {pid:<7}  {what}  {seen}");
        self.put(line.trim_end())
    }

    /// Something that must be so.
    pub fn check(&mut self, so: bool, what: impl Display) -> io::Result<()> {
        self.checks += 1;
        let verdict = if so {
            self.paint(GREEN, "   ok")
        } else {
            self.wrong += 1;
            self.paint(RED, "WRONG")
        };
        self.put(&format!("  {verdict}  {what}"))
    }

    /// The last line, and an error if any check was not as it must be.
    pub fn verdict(&mut self) -> Result<()> {
        let (checks, wrong) = (self.checks, self.wrong);
        let seconds = self.born.elapsed().as_secs_f64();
        if checks == 0 || wrong > 0 {
            return Err(format!("{wrong} of {checks} checks went wrong").into());
        }
        let text = self.paint(GREEN, format!("All {checks} checks passed"));
        self.put(&format!("\n{text} in {seconds:.2} s."))?;
        Ok(())
    }
}

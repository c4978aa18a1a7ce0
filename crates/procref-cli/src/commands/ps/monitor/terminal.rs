//! The terminal as a screen of lines, which is restored however this program ends.

use std::io::{self, Write as _};
use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use anstream::ColorChoice;
use console::{measure_text_width, strip_ansi_codes};
use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::style::Print;
use crossterm::terminal::{self, Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::{execute, queue};

use super::view::Size;
use crate::error::{Error, Result};

/// `true` while the terminal shows the screen and is in raw mode.
static IS_ENTERED: AtomicBool = AtomicBool::new(false);

/// The size of a terminal that does not know its size.
const UNKNOWN: (u16, u16) = (80, 24);

/// The terminal. Dropping it restores the terminal, and so does a panic in any thread.
pub(super) struct Screen {
    /// The lines that the terminal shows.
    drawn: Vec<String>,
    size: Size,
    is_colored: bool,
}

impl Screen {
    pub(super) fn enter() -> Result<Self> {
        static HOOK: Once = Once::new();
        // The message of a panic must be printed after the terminal is restored. A destructor would run too late.
        HOOK.call_once(|| {
            let previous = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                leave();
                previous(info);
            }));
        });
        let choice = anstream::AutoStream::choice(&io::stdout());
        let mut screen = Self {
            drawn: Vec::new(),
            size: Size::default(),
            is_colored: choice != ColorChoice::Never,
        };
        screen.resume()?;
        Ok(screen)
    }

    /// Shows the screen again, after [`suspend`](Self::suspend) or after another program has changed the terminal.
    pub(super) fn resume(&mut self) -> Result<()> {
        leave();
        enter().map_err(failed)?;
        self.resize();
        Ok(())
    }

    /// Restores the terminal for the shell.
    pub(super) fn suspend(&self) {
        leave();
    }

    /// Reads the size of the terminal, and draws everything again at the next call of [`draw`](Self::draw).
    pub(super) fn resize(&mut self) {
        let (width, height) = terminal::size().unwrap_or(UNKNOWN);
        self.size = Size {
            width: width.into(),
            height: height.into(),
        };
        self.drawn.clear();
    }

    pub(super) fn size(&self) -> Size {
        self.size
    }

    /// Draws the lines that have changed.
    pub(super) fn draw(&mut self, lines: Vec<String>) -> Result<()> {
        let lines: Vec<String> = match self.is_colored {
            true => lines,
            false => lines
                .iter()
                .map(|line| strip_ansi_codes(line).into_owned())
                .collect(),
        };
        self.write(&lines).map_err(failed)?;
        self.drawn = lines;
        Ok(())
    }

    fn write(&self, lines: &[String]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.drawn.len() != lines.len() {
            queue!(out, Clear(ClearType::All))?;
        }
        for (at, line) in lines.iter().enumerate() {
            let before = self
                .drawn
                .get(at)
                .filter(|_| self.drawn.len() == lines.len());
            if before == Some(line) {
                continue;
            }
            let at = u16::try_from(at).unwrap_or(u16::MAX);
            queue!(out, MoveTo(0, at), Print(line))?;
            // After a full line, the cursor is still on its last character, which would be cleared.
            if measure_text_width(line) < self.size.width {
                queue!(out, Clear(ClearType::UntilNewLine))?;
            }
        }
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

fn enter() -> io::Result<()> {
    // In raw mode first: a process in the background is suspended here, before it has written anything.
    terminal::enable_raw_mode()?;
    IS_ENTERED.store(true, Ordering::SeqCst);
    execute!(
        io::stdout(),
        EnterAlternateScreen,
        Hide,
        Clear(ClearType::All)
    )
}

/// Restores the terminal. Has no effect if it is restored already.
fn leave() {
    if IS_ENTERED.swap(false, Ordering::SeqCst) {
        // Errors are ignored: the terminal may be closed, and every step must be tried.
        let _ = execute!(io::stdout(), Show, LeaveAlternateScreen);
        let _ = terminal::disable_raw_mode();
    }
}

fn failed(error: io::Error) -> Error {
    Error::io("write to the terminal", error)
}

#[cfg(all(test, unix))]
mod tests {
    use std::io::Read as _;

    use pty_process::blocking::{Command, open};

    use super::Screen;

    #[test]
    #[ignore = "the next test executes this at a terminal"]
    fn panic_with_a_screen() {
        let _screen = Screen::enter().expect("a terminal");
        panic!("on purpose");
    }

    #[test]
    fn terminal_is_restored_before_the_message_of_a_panic() {
        let path = module_path!().split_once("::").expect("a path").1;
        let (mut pty, pts) = open().expect("a terminal");
        let own = std::env::current_exe().expect("the path of this test");
        let child = Command::new(own)
            .args(["--ignored", "--nocapture", "--exact"])
            .arg(format!("{path}::panic_with_a_screen"))
            .env("TERM", "xterm");
        let mut child = child.spawn(pts).expect("run the test");
        let mut output = Vec::new();
        // Reading fails when no program has the terminal open.
        let _ = pty.read_to_end(&mut output);
        child.wait().expect("wait for the test");
        let output = String::from_utf8_lossy(&output);
        let at = |text: &str| {
            output
                .find(text)
                .unwrap_or_else(|| panic!("{text:?} is not in {output:?}"))
        };
        assert!(at("\u{1b}[?1049h") < at("\u{1b}[?1049l"), "{output:?}");
        assert!(at("\u{1b}[?1049l") < at("on purpose"), "{output:?}");
        // In raw mode, the terminal adds no carriage return.
        at("on purpose\r\n");
    }
}

//! The end of a service's log.

use std::io;
use std::path::{Path, PathBuf};

use procref_config::log_files;

use crate::text::shown;

/// The number of bytes at the end of a log that can be shown.
const TAIL: u64 = 1 << 17;

/// The end of a log, as lines without control characters.
#[derive(Debug)]
pub(super) struct LogTail {
    /// The escaped name of the service.
    pub(super) service: String,
    pub(super) path: PathBuf,
    pub(super) lines: Vec<String>,
    /// The number of lines below the screen. While it is not zero, the lines do not change.
    pub(super) below: usize,
    pub(super) error: Option<String>,
}

impl LogTail {
    pub(super) fn new(service: String, path: PathBuf) -> Self {
        Self {
            service,
            path,
            lines: Vec::new(),
            below: 0,
            error: None,
        }
    }

    /// Reads the log, unless the user has scrolled up. If the log is gone, the last lines stay.
    pub(super) fn read(&mut self) {
        if self.below > 0 {
            return;
        }
        match read_tail(&self.path) {
            Ok(lines) => {
                self.lines = lines;
                self.error = None;
            }
            Err(error) => self.error = Some(error.to_string()),
        }
    }

    /// Scrolls towards the beginning. `page` lines fit on the screen.
    pub(super) fn scroll_up(&mut self, lines: usize, page: usize) {
        let most = self.lines.len().saturating_sub(page);
        self.below = self.below.saturating_add(lines).min(most);
    }

    /// Scrolls towards the end.
    pub(super) fn scroll_down(&mut self, lines: usize) {
        self.below = self.below.saturating_sub(lines);
    }
}

fn read_tail(path: &Path) -> io::Result<Vec<String>> {
    let (tail, is_cut) = log_files::tail(path, TAIL)?;
    let text = String::from_utf8_lossy(&tail);
    let lines = text.lines().map(printable);
    // The first line may lack its beginning.
    Ok(lines.skip(usize::from(is_cut)).collect())
}

/// Returns a line without colors, and with its other control characters escaped.
fn printable(line: &str) -> String {
    let line = console::strip_ansi_codes(line.trim_end_matches('\r'));
    shown(&line.replace('\t', "    "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_tail_escapes_control_characters_and_drops_colors() {
        assert_eq!(
            printable("\u{1b}[31mred\u{1b}[0m\ta\u{7}b\u{1b}]0;title\r"),
            "red    a\\u{7}b"
        );
    }

    #[test]
    fn log_tail_stays_while_it_is_scrolled_and_follows_at_its_end() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        let numbers: Vec<String> = (1..=10).map(|it| it.to_string()).collect();
        std::fs::write(&path, numbers.join("\n")).expect("write");
        let mut log = LogTail::new("db".to_owned(), path.clone());
        log.read();
        assert_eq!(log.lines, numbers);
        log.scroll_up(usize::MAX, 4);
        assert_eq!(log.below, 6);
        std::fs::write(&path, "new\n").expect("write");
        log.read();
        assert_eq!(log.lines, numbers);
        log.scroll_down(6);
        log.read();
        assert_eq!(log.lines, ["new"]);
        std::fs::remove_file(&path).expect("remove");
        log.read();
        assert_eq!(log.lines, ["new"]);
        assert!(log.error.is_some());
    }

    #[test]
    fn log_tail_begins_with_a_whole_line_when_the_log_is_long() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        let line = "x".repeat(99) + "\n";
        std::fs::write(&path, line.repeat(2000)).expect("write");
        let lines = read_tail(&path).expect("read");
        assert!(lines.len() > 1000 && lines.iter().all(|line| line.len() == 99));
    }
}

//! What the screen shows, and how keys change it.

use std::path::PathBuf;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::log::LogTail;

/// A service as one line of the list.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    /// The name of the kernel object, which identifies the service.
    pub(super) object: String,
    /// `None` if the name is lost, because the kernel stores only a digest of it.
    pub(super) name: Option<String>,
    /// The texts below the headings, with colors and without control characters.
    pub(super) cells: Vec<String>,
    /// One line for each process that holds the service.
    pub(super) holders: Vec<String>,
    pub(super) log: Option<PathBuf>,
    pub(super) is_running: bool,
    pub(super) is_pinned: bool,
}

/// The part of the screen above the messages.
#[derive(Debug, Default)]
pub(super) enum View {
    #[default]
    List,
    /// The holders of the selected service.
    Holders,
    Log(LogTail),
}

/// A change that the keys of the screen make to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Stop,
    ForceStop,
    Pin,
    Unpin,
}

/// A question whether to stop a service that clients hold.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) object: String,
    /// The escaped name of the service.
    pub(super) name: String,
}

/// What the program does after a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    Quit,
    /// Exit as after SIGINT. Ctrl-C is a key, because the terminal sends no signals in raw mode.
    Interrupt,
    Suspend,
    /// Change the service that has this kernel object.
    Change(Verb, String),
    /// Read the log of the selected service again.
    ReadLog,
}

/// Everything that the screen shows.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) headings: Vec<&'static str>,
    pub(super) rows: Vec<Row>,
    /// The index of the selected row.
    pub(super) selected: usize,
    pub(super) view: View,
    pub(super) question: Option<Question>,
    /// The lines of the last message, without control characters.
    pub(super) message: Vec<String>,
}

impl Model {
    pub(super) fn selected(&self) -> Option<&Row> {
        self.rows.get(self.selected)
    }

    /// Replaces the services. The same service stays selected while it exists.
    pub(super) fn set_rows(&mut self, rows: Vec<Row>) {
        let object = self.selected().map(|row| row.object.clone());
        let found = rows
            .iter()
            .position(|row| Some(&row.object) == object.as_ref());
        self.selected = found.unwrap_or(self.selected.min(rows.len().saturating_sub(1)));
        if found.is_none() && matches!(self.view, View::Holders) {
            // Another service is selected now.
            self.view = View::List;
        }
        self.rows = rows;
    }

    /// Changes the model by a key. Returns what the program must do.
    pub(super) fn press(&mut self, key: KeyEvent, page: usize) -> Option<Request> {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Some(Request::Interrupt),
                KeyCode::Char('z') => Some(Request::Suspend),
                _ => None,
            };
        }
        if let Some(question) = self.question.take() {
            self.message.clear();
            // Every key except `y` means no.
            return match key.code {
                KeyCode::Char('y' | 'Y') => Some(Request::Change(Verb::ForceStop, question.object)),
                _ => None,
            };
        }
        self.message.clear();
        match (key.code, &self.view) {
            (KeyCode::Char('q'), _) => return Some(Request::Quit),
            (KeyCode::Esc | KeyCode::Backspace, _)
            | (KeyCode::Char('l'), View::Log(_))
            | (KeyCode::Char('h'), View::Holders) => self.view = View::List,
            (code, View::Log(_)) => return self.scroll(code, page),
            (KeyCode::Char('l'), _) => return self.open_log(),
            (KeyCode::Char('h') | KeyCode::Enter, _) if self.selected().is_some() => {
                self.view = View::Holders;
            }
            (KeyCode::Char('s'), _) => return self.change(Verb::Stop),
            (KeyCode::Char('p'), _) => {
                let is_pinned = self.selected().is_some_and(|row| row.is_pinned);
                return self.change(if is_pinned { Verb::Unpin } else { Verb::Pin });
            }
            (code, _) => self.select(code, page),
        }
        None
    }

    fn change(&mut self, verb: Verb) -> Option<Request> {
        let row = self.selected()?;
        if row.name.is_none() {
            let lost =
                "the name of this service is lost (`procref gc` removes it if no process uses it)";
            self.message = vec![lost.to_owned()];
            return None;
        }
        Some(Request::Change(verb, row.object.clone()))
    }

    fn open_log(&mut self) -> Option<Request> {
        let row = self.selected()?;
        let name = row.cells.first().cloned().unwrap_or_default();
        let Some(path) = &row.log else {
            let reason = match row.is_running {
                true => "has no log: it was not started by a command",
                false => "is not running, and has no log of an earlier run",
            };
            self.message = vec![format!("service `{name}` {reason}")];
            return None;
        };
        self.view = View::Log(LogTail::new(name, path.clone()));
        Some(Request::ReadLog)
    }

    fn select(&mut self, code: KeyCode, page: usize) {
        let last = self.rows.len().saturating_sub(1);
        self.selected = match code {
            KeyCode::Up | KeyCode::Char('k') => self.selected.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.selected.saturating_add(1).min(last),
            KeyCode::PageUp => self.selected.saturating_sub(page),
            KeyCode::PageDown => self.selected.saturating_add(page).min(last),
            KeyCode::Home => 0,
            KeyCode::End => last,
            _ => self.selected,
        };
    }

    fn scroll(&mut self, code: KeyCode, page: usize) -> Option<Request> {
        let View::Log(log) = &mut self.view else {
            return None;
        };
        match code {
            KeyCode::Up | KeyCode::Char('k') => log.scroll_up(1, page),
            KeyCode::PageUp => log.scroll_up(page, page),
            KeyCode::Home => log.scroll_up(usize::MAX, page),
            KeyCode::Down | KeyCode::Char('j') => log.scroll_down(1),
            KeyCode::PageDown => log.scroll_down(page),
            KeyCode::End => log.scroll_down(usize::MAX),
            _ => return None,
        }
        Some(Request::ReadLog)
    }
}

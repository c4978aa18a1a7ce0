//! The directory of a service, with the notes of its processes for the measurement.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use procref_testkit::observe::now_ns;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::error::Result;

/// An event that the service records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The service has started.
    Started,
    /// The service is ready.
    Ready,
    /// The service got the stop signal.
    StopSignal,
}

#[derive(Clone, Copy, Debug)]
pub struct Note {
    pub event: Event,
    /// Time of the event, on the clock that all processes share.
    pub at: u64,
    pub pid: u32,
    pub parent: u32,
}

/// The directory of a service.
#[derive(Clone, Debug)]
pub struct Site(PathBuf);

impl Site {
    pub fn new(dir: &Path) -> Self {
        Self(dir.to_owned())
    }

    pub fn dir(&self) -> &Path {
        &self.0
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A name that no other site has, for contenders that do not distinguish directories.
    pub fn name(&self) -> String {
        let words: Vec<_> = self
            .0
            .iter()
            .rev()
            .take(2)
            .map(|part| part.to_string_lossy())
            .collect();
        words.join("-")
    }

    fn notes_file(&self) -> PathBuf {
        self.file("notes")
    }

    pub fn note(&self, event: Event) -> Result<()> {
        let at = now_ns();
        let parent = std::os::unix::process::parent_id();
        let line = format!("{event:?} {at} {} {parent}\n", std::process::id());
        let mut file = File::options()
            .append(true)
            .create(true)
            .open(self.notes_file())?;
        file.write_all(line.as_bytes())?;
        Ok(())
    }

    /// Returns all notes, oldest first.
    pub fn notes(&self) -> Vec<Note> {
        let text = fs::read_to_string(self.notes_file()).unwrap_or_default();
        text.lines().filter_map(parse).collect()
    }

    /// Returns the newest note of this event.
    pub fn last_note(&self, event: Event) -> Option<Note> {
        self.notes()
            .into_iter()
            .rev()
            .find(|note| note.event == event)
    }

    fn gate_file(&self) -> PathBuf {
        self.file("gate")
    }

    /// Closes the gate. Services that start after this call are not ready before the gate is opened.
    pub fn close_gate(&self) -> Result<()> {
        mknodat(
            CWD,
            self.gate_file(),
            FileType::Fifo,
            Mode::RUSR | Mode::WUSR,
            0,
        )?;
        Ok(())
    }

    /// Waits until a service is at the gate, and opens the gate permanently.
    pub fn open_gate(&self) -> Result<()> {
        let gate = File::options().write(true).open(self.gate_file())?;
        fs::remove_file(self.gate_file())?;
        drop(gate);
        Ok(())
    }

    pub fn wait_at_gate(&self) -> Result<()> {
        match File::open(self.gate_file()) {
            Ok(gate) => {
                BufReader::new(gate).read_line(&mut String::new())?;
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the command that runs the service.
    pub fn command(&self) -> Command {
        let mut command = Command::new(std::env::current_exe().expect("the program's own path"));
        command.arg("serve").arg(self.dir());
        command
    }

    /// Starts the service and waits until it is ready. Every contender that does not execute the service itself calls
    /// this.
    pub fn start(&self) -> std::io::Result<u32> {
        let mut command = self.command();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child
            .stdout
            .take()
            .ok_or_else(|| std::io::Error::other("no pipe"))?;
        if BufReader::new(out).read_line(&mut String::new())? == 0 {
            return Err(std::io::Error::other(
                "the service exited before it was ready",
            ));
        }
        Ok(child.id())
    }
}

fn parse(line: &str) -> Option<Note> {
    let mut words = line.split(' ');
    let event = match words.next()? {
        "Started" => Event::Started,
        "Ready" => Event::Ready,
        "StopSignal" => Event::StopSignal,
        _ => return None,
    };
    Some(Note {
        event,
        at: words.next()?.parse().ok()?,
        pid: words.next()?.parse().ok()?,
        parent: words.next()?.parse().ok()?,
    })
}

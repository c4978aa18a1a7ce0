//! The directory of one service, and what its processes leave there for the measurement.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use procref_testkit::observe::now_ns;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::Result;

/// What the service has written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It runs.
    Begun,
    /// It can be used from now on.
    Ready,
    /// It was asked to end.
    Asked,
}

#[derive(Clone, Copy, Debug)]
pub struct Note {
    pub event: Event,
    /// On the clock that all processes share.
    pub at: u64,
    pub pid: u32,
    pub parent: u32,
}

/// The directory.
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

    /// A name that no other site's service has, for contenders that do not tell directories apart.
    pub fn name(&self) -> String {
        let words: Vec<_> = self
            .0
            .iter()
            .rev()
            .take(2)
            .map(|it| it.to_string_lossy())
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

    /// All notes, oldest first.
    pub fn notes(&self) -> Vec<Note> {
        let text = fs::read_to_string(self.notes_file()).unwrap_or_default();
        text.lines().filter_map(parse).collect()
    }

    pub fn noted(&self, event: Event) -> Option<Note> {
        self.notes()
            .into_iter()
            .rev()
            .find(|note| note.event == event)
    }

    fn gate_file(&self) -> PathBuf {
        self.file("gate")
    }

    /// From now on a service that begins is not ready before the gate opens.
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

    /// Waits until somebody is at the gate, and opens it for good.
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

    /// The program and arguments of the service.
    pub fn command(&self) -> Command {
        let mut command = Command::new(std::env::current_exe().expect("the program's own path"));
        command.arg("serve").arg(self.dir());
        command
    }

    /// Starts the service and waits until it is ready: what every contender that does not execute it by
    /// itself does.
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
                "the service ended before it was ready",
            ));
        }
        Ok(child.id())
    }
}

fn parse(line: &str) -> Option<Note> {
    let mut words = line.split(' ');
    let event = match words.next()? {
        "Begun" => Event::Begun,
        "Ready" => Event::Ready,
        "Asked" => Event::Asked,
        _ => return None,
    };
    Some(Note {
        event,
        at: words.next()?.parse().ok()?,
        pid: words.next()?.parse().ok()?,
        parent: words.next()?.parse().ok()?,
    })
}

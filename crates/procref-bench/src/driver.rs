//! The measurement's side of the processes: it starts them, asks them, and kills them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use procref_testkit::observe::{Identity, now_ns};

use crate::Result;
use crate::contender::Contender;
use crate::peers::{dbus, python};
use crate::site::{Event, Note, Site};

/// How long something may take before it counts as "never".
pub const NEVER: Duration = Duration::from_secs(3);

/// What a client has answered, in ns.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    pub began: u64,
    pub ended: u64,
    pub cpu: u64,
    pub times: u64,
}

impl Answer {
    pub fn took(self) -> f64 {
        (self.ended - self.began) as f64
    }
}

/// A process of this run. Killed when it is dropped.
pub struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Process {
    pub fn start(mut command: Command) -> Result<Self> {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|error| format!("start {command:?}: {error}"))?;
        let output = child.stdout.take().ok_or("no pipe")?;
        Ok(Self {
            input: child.stdin.take(),
            output: BufReader::new(output),
            child,
        })
    }

    /// This program in one of its roles.
    pub fn role<S: AsRef<std::ffi::OsStr>>(words: impl IntoIterator<Item = S>) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(words);
        Self::start(command)
    }

    pub fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            let status = self.child.wait()?;
            return Err(format!("a process ended without a word ({status})").into());
        }
        Ok(line.trim().to_owned())
    }

    /// Until it is ready to be asked.
    pub fn wait_here(&mut self) -> Result<()> {
        match self.line()?.as_str() {
            "here" => Ok(()),
            error => Err(error.to_owned().into()),
        }
    }

    pub fn send(&mut self, line: &str) -> Result<()> {
        let input = self.input.as_mut().ok_or("its input is closed")?;
        Ok(writeln!(input, "{line}")?)
    }

    pub fn answer(&mut self) -> Result<Answer> {
        let line = self.line()?;
        let words: Vec<&str> = line.split(' ').collect();
        let ["ok", numbers @ ..] = words.as_slice() else {
            return Err(line.into());
        };
        let number =
            |at: usize| -> Result<u64> { Ok(numbers.get(at).map_or(Ok(0), |it| it.parse())?) };
        Ok(Answer {
            began: number(0)?,
            ended: number(1)?,
            cpu: number(2)?,
            times: number(3)?,
        })
    }

    pub fn ask(&mut self, line: &str) -> Result<Answer> {
        self.send(line)?;
        self.answer()
    }

    /// SIGKILL; when it was sent.
    pub fn kill(&mut self) -> u64 {
        let at = now_ns();
        let _ = self.child.kill();
        at
    }

    /// Lets it come to its end.
    pub fn end(mut self) -> Result<()> {
        drop(self.input.take());
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the sites of a run are.
pub struct Scratch {
    dir: PathBuf,
    made: std::cell::Cell<usize>,
    python: std::result::Result<PathBuf, String>,
}

impl Scratch {
    pub fn new(dir: &Path, python_dir: &Path, wanted: &[Contender]) -> Self {
        let python = if wanted.contains(&Contender::Filelock) {
            python::interpreter(python_dir).map_err(|error| error.to_string())
        } else {
            Err("not wanted".to_owned())
        };
        Self {
            dir: dir.to_owned(),
            made: std::cell::Cell::new(0),
            python,
        }
    }

    /// A directory that nothing has used.
    pub fn fresh(&self) -> Result<PathBuf> {
        let number = self.made.get() + 1;
        self.made.set(number);
        let dir = self.dir.join(format!("{number}"));
        std::fs::create_dir(&dir)?;
        Ok(dir)
    }

    /// A service of its own for a contender.
    pub fn place(&self, contender: Contender) -> Result<Place> {
        let site = Site::new(&self.fresh()?);
        let bus = match contender {
            Contender::Dbus => Some(dbus::start_bus(&site)?),
            _ => None,
        };
        Ok(Place {
            contender,
            site,
            bus,
            python: self.python.clone(),
        })
    }
}

/// A contender's service, and what has to be there for it.
pub struct Place {
    pub contender: Contender,
    pub site: Site,
    bus: Option<Child>,
    python: std::result::Result<PathBuf, String>,
}

impl Place {
    /// A client that has done nothing yet, and is ready to.
    pub fn client(&self) -> Result<Process> {
        let mut client = self.client_that_starts()?;
        client.wait_here()?;
        Ok(client)
    }

    /// One that is still on its way.
    pub fn client_that_starts(&self) -> Result<Process> {
        let own = std::env::current_exe()?;
        let mut command = match self.contender {
            Contender::Filelock => {
                let mut command = Command::new(self.python.as_ref().map_err(String::as_str)?);
                command.arg(python::script()).arg(own).arg(self.site.dir());
                command
            }
            _ => {
                let mut command = Command::new(own);
                command
                    .arg("client")
                    .arg(self.contender.name())
                    .arg(self.site.dir());
                command
            }
        };
        command.env_remove("NOTIFY_SOCKET");
        Process::start(command)
    }

    /// A client that holds the service.
    pub fn holder(&self) -> Result<Process> {
        let mut client = self.client()?;
        client.ask("attach")?;
        Ok(client)
    }

    pub fn bus(&self) -> Option<Identity> {
        self.bus.as_ref().and_then(|bus| Identity::of(bus.id()))
    }

    /// Waits for the newest note of an event, if it comes in time: one after `after` notes of it.
    pub fn wait_note(&self, event: Event, after: usize, limit: Duration) -> Option<Note> {
        let end = now_ns() + u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        loop {
            let mut notes = self
                .site
                .notes()
                .into_iter()
                .filter(|note| note.event == event);
            if let Some(note) = notes.nth(after) {
                return Some(note);
            }
            if now_ns() > end {
                return None;
            }
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    /// Ends a service that its contender has left behind.
    fn end_leftovers(&self) {
        for note in self.site.notes() {
            if note.event == Event::Begun {
                end_now(note.pid);
            }
        }
    }
}

/// In a PID namespace of our own: nobody but this run's processes can have the pid.
pub fn end_now(pid: u32) {
    if let Some(process) = Identity::of(pid) {
        process.kill();
        process.wait_exit();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.end_leftovers();
        if let Some(bus) = &mut self.bus {
            let _ = bus.kill();
            let _ = bus.wait();
        }
    }
}

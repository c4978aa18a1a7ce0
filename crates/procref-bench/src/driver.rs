//! The processes of a measurement: starting them, sending commands, and killing them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use procref_testkit::observe::{Identity, now_ns};

use crate::contender::Contender;
use crate::error::Result;
use crate::peers::{dbus, python};
use crate::site::{Event, Note, Site};

/// An effect that takes longer counts as "never".
pub const NEVER: Duration = Duration::from_secs(3);

/// The result of a client's command. The times are in ns.
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

/// A process of this run. Dropping it kills the process.
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

    /// Starts this program in one of its roles.
    pub fn role<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(args);
        Self::start(command)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            let status = self.child.wait()?;
            return Err(format!("a process exited without output ({status})").into());
        }
        Ok(line.trim().to_owned())
    }

    /// Waits until the process reads commands.
    pub fn wait_ready(&mut self) -> Result<()> {
        match self.line()?.as_str() {
            "ready" => Ok(()),
            error => Err(error.to_owned().into()),
        }
    }

    pub fn send(&mut self, line: &str) -> Result<()> {
        let input = self
            .input
            .as_mut()
            .ok_or("the input of the process is closed")?;
        Ok(writeln!(input, "{line}")?)
    }

    pub fn answer(&mut self) -> Result<Answer> {
        let line = self.line()?;
        let words: Vec<&str> = line.split(' ').collect();
        let ["ok", numbers @ ..] = words.as_slice() else {
            return Err(line.into());
        };
        let number = |at: usize| -> Result<u64> {
            Ok(numbers.get(at).map_or(Ok(0), |number| number.parse())?)
        };
        Ok(Answer {
            began: number(0)?,
            ended: number(1)?,
            cpu: number(2)?,
            times: number(3)?,
        })
    }

    /// Sends a command and waits for the result.
    pub fn run(&mut self, line: &str) -> Result<Answer> {
        self.send(line)?;
        self.answer()
    }

    /// Kills the process. Returns the time of the signal.
    pub fn kill(&mut self) -> u64 {
        let at = now_ns();
        let _ = self.child.kill();
        at
    }

    /// Closes the input and waits for the exit of the process.
    pub fn finish(mut self) -> Result<()> {
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

/// The directory for the sites of a run.
pub struct Scratch {
    dir: PathBuf,
    created: std::cell::Cell<usize>,
    python: std::result::Result<PathBuf, String>,
}

impl Scratch {
    pub fn new(dir: &Path, python_dir: &Path, selected: &[Contender]) -> Self {
        let python = if selected.contains(&Contender::Filelock) {
            python::interpreter(python_dir).map_err(|error| error.to_string())
        } else {
            Err("not selected".to_owned())
        };
        Self {
            dir: dir.to_owned(),
            created: std::cell::Cell::new(0),
            python,
        }
    }

    /// Creates an empty directory.
    pub fn fresh(&self) -> Result<PathBuf> {
        let number = self.created.get() + 1;
        self.created.set(number);
        let dir = self.dir.join(format!("{number}"));
        std::fs::create_dir(&dir)?;
        Ok(dir)
    }

    /// Sets up a new service for a contender.
    pub fn set_up(&self, contender: Contender) -> Result<Setup> {
        let site = Site::new(&self.fresh()?);
        let bus = match contender {
            Contender::Dbus => Some(dbus::start_bus(&site)?),
            _ => None,
        };
        Ok(Setup {
            contender,
            site,
            bus,
            python: self.python.clone(),
        })
    }
}

/// A service of a contender, with the programs that it needs.
pub struct Setup {
    pub contender: Contender,
    pub site: Site,
    bus: Option<Child>,
    python: std::result::Result<PathBuf, String>,
}

impl Setup {
    /// Starts a client and waits until it reads commands.
    pub fn client(&self) -> Result<Process> {
        let mut client = self.starting_client()?;
        client.wait_ready()?;
        Ok(client)
    }

    /// Starts a client under a program that takes the client's command line, and waits until it reads commands.
    pub fn client_under(&self, mut wrapper: Command) -> Result<Process> {
        wrapper.arg(std::env::current_exe()?);
        let mut client = self.start_client(wrapper)?;
        client.wait_ready()?;
        Ok(client)
    }

    /// Starts a client and does not wait for it.
    pub fn starting_client(&self) -> Result<Process> {
        let own = std::env::current_exe()?;
        match self.contender {
            Contender::Filelock => {
                let mut command = Command::new(self.python.as_ref().map_err(String::as_str)?);
                command.arg(python::script()).arg(own).arg(self.site.dir());
                command.env_remove("NOTIFY_SOCKET");
                Process::start(command)
            }
            _ => self.start_client(Command::new(own)),
        }
    }

    /// Starts a client by a command that ends with this program.
    fn start_client(&self, mut command: Command) -> Result<Process> {
        command.arg("client").arg(self.contender.name());
        command.arg(self.site.dir()).env_remove("NOTIFY_SOCKET");
        Process::start(command)
    }

    /// Starts a client that holds the service.
    pub fn holder(&self) -> Result<Process> {
        let mut client = self.client()?;
        client.run("attach")?;
        Ok(client)
    }

    pub fn bus(&self) -> Option<Identity> {
        self.bus.as_ref().and_then(|bus| Identity::of(bus.id()))
    }

    /// Waits for a note of this event, after the first `after` notes of it. Returns `None` after `limit`.
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

    /// Kills a service that its contender has left behind.
    fn kill_leftovers(&self) {
        for note in self.site.notes() {
            if note.event == Event::Started {
                kill_now(note.pid);
            }
        }
    }
}

/// Kills a process and waits for its exit. Only processes of this run can have the pid, because the run has its own
/// PID namespace.
pub fn kill_now(pid: u32) {
    if let Some(process) = Identity::of(pid) {
        process.kill();
        process.wait_exit();
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        self.kill_leftovers();
        if let Some(bus) = &mut self.bus {
            let _ = bus.kill();
            let _ = bus.wait();
        }
    }
}

//! The clients: processes that report the service's answers, and exit when their standard input is closed.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::roles::STARTER;
use crate::demo::args::{CLIENT, SERVICE};
use crate::error::{Error, Result};

/// The name of the service.
pub(super) const NAME: &str = "demo";

/// A time limit that is longer than any step takes, even on a busy machine.
pub(super) const TIMEOUT: Duration = Duration::from_secs(60);

/// The state of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activity {
    /// Waiting for the service.
    Waiting,
    Working,
    /// Its standard input was closed.
    Leaving,
    Left,
    Killed,
}

pub(super) struct Client {
    /// The first client has number 1.
    pub(super) number: usize,
    pub(super) activity: Activity,
    /// The number of answers from the service.
    pub(super) answers: usize,
    /// The process that gave the last answer, as the answer names it.
    pub(super) answered_by: Option<u32>,
    child: Child,
    /// The client leaves when this is closed, and when this process exits.
    stdin: Option<ChildStdin>,
    stderr: PathBuf,
}

impl Client {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
}

/// An event of the client with this number.
pub(super) enum ClientEvent {
    GotService(usize),
    Answered,
    Left(usize),
    Killed(usize),
}

/// A message from a thread that reads a client or handles signals.
enum Message {
    Line(usize, String),
    Exited(usize),
    Interrupted,
}

/// All clients, in the order of their start.
pub(super) struct Clients {
    clients: Vec<Client>,
    /// The processes that gave an answer.
    pub(super) answered_by: Vec<u32>,
    messages: Receiver<Message>,
    sender: Sender<Message>,
    /// Events that this process caused.
    pending: VecDeque<ClientEvent>,
    dir: PathBuf,
}

impl Clients {
    /// Installs the signal handlers, so that Ctrl-C cleans up.
    pub(super) fn new(dir: &Path) -> Result<Self> {
        let (sender, messages) = mpsc::channel();
        let failed = |error| Error::io("handle signals", error);
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(failed)?;
        let interrupted = sender.clone();
        thread::spawn(move || {
            for _ in signals.forever() {
                // An error is ignored: without a receiver, the demonstration has ended.
                let _ = interrupted.send(Message::Interrupted);
            }
        });
        Ok(Self {
            clients: Vec::new(),
            answered_by: Vec::new(),
            messages,
            sender,
            pending: VecDeque::new(),
            dir: dir.to_owned(),
        })
    }

    pub(super) fn clients(&self) -> &[Client] {
        &self.clients
    }

    pub(super) fn client(&self, number: usize) -> &Client {
        &self.clients[number - 1]
    }

    /// Returns the clients that wait for the service or work.
    pub(super) fn present(&self) -> impl Iterator<Item = &Client> {
        let is_present =
            |client: &&Client| matches!(client.activity, Activity::Waiting | Activity::Working);
        self.clients.iter().filter(is_present)
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = usize> {
        self.present().map(|client| client.number)
    }

    pub(super) fn count(&self, activity: Activity) -> usize {
        let clients = self.clients.iter();
        clients.filter(|client| client.activity == activity).count()
    }

    /// Starts a client in its own process group, so that Ctrl-C reaches only this process.
    pub(super) fn start(&mut self, runtime_dir: &Path) -> Result<()> {
        let number = self.clients.len() + 1;
        let failed = |error| Error::io(format!("start client {number}"), error);
        let stderr = self.dir.join(format!("client-{number}.err"));
        let own = std::env::current_exe().map_err(failed)?;
        let service = [own.as_os_str(), SERVICE.as_ref(), self.log().as_os_str()]
            .map(|word| word.to_string_lossy().into_owned());
        let mut child = Command::new(&own)
            .args(["run", "--no-config", "--port", "auto", "--runtime-dir"])
            .arg(runtime_dir)
            .args(["--start", &shell_words::join(service), "--log"])
            .arg(self.dir.join("output.log"))
            .args([NAME, "--"])
            .args([own.as_os_str(), CLIENT.as_ref()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&stderr).map_err(failed)?)
            // The service inherits the variable from the client that starts it.
            .env(STARTER, number.to_string())
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        self.clients.push(Client {
            number,
            activity: Activity::Waiting,
            answers: 0,
            answered_by: None,
            child,
            stdin,
            stderr,
        });
        let sender = self.sender.clone();
        thread::spawn(move || {
            let lines = stdout.into_iter().map(BufReader::new);
            for line in lines.flat_map(BufReader::lines).map_while(io::Result::ok) {
                let _ = sender.send(Message::Line(number, line));
            }
            let _ = sender.send(Message::Exited(number));
        });
        Ok(())
    }

    /// Returns the file in which the service records what it does.
    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("service.log")
    }

    /// Returns the number of the client that started the service, as the service recorded it.
    pub(super) fn starter(&self) -> Result<usize> {
        let log = self.log();
        let text = std::fs::read_to_string(&log)
            .map_err(|error| Error::io(format!("read {}", log.display()), error))?;
        let number = text.lines().next().and_then(|line| {
            let (_, number) = line.rsplit_once("starter=")?;
            number.parse().ok()
        });
        number
            .filter(|number| self.numbers().any(|present| present == *number))
            .ok_or_else(|| {
                Error::Failed(format!(
                    "the service's log names no present client as its starter: {text}"
                ))
            })
    }

    /// Returns the next event, or `None` if there is none within the limit.
    pub(super) fn next(&mut self, limit: Duration) -> Result<Option<ClientEvent>> {
        if let Some(event) = self.pending.pop_front() {
            return Ok(Some(event));
        }
        match self.messages.recv_timeout(limit) {
            Ok(Message::Line(number, line)) => self.handle_line(number, &line),
            Ok(Message::Exited(number)) => self.handle_exit(number),
            Ok(Message::Interrupted) => Err(Error::Failed("interrupted".to_owned())),
            Err(_) => Ok(None),
        }
    }

    /// Handles the line `PID NUMBER`: the process that answered, and the number of its answer.
    fn handle_line(&mut self, number: usize, line: &str) -> Result<Option<ClientEvent>> {
        let client = &mut self.clients[number - 1];
        let pid = line.split(' ').next().and_then(|pid| pid.parse().ok());
        let Some(pid) = pid else {
            return Err(Error::Failed(format!(
                "client {number} printed an unexpected line: {line:?}"
            )));
        };
        client.answers += 1;
        client.answered_by = Some(pid);
        if !self.answered_by.contains(&pid) {
            self.answered_by.push(pid);
        }
        if client.activity == Activity::Waiting {
            client.activity = Activity::Working;
            return Ok(Some(ClientEvent::GotService(number)));
        }
        Ok(Some(ClientEvent::Answered))
    }

    fn handle_exit(&mut self, number: usize) -> Result<Option<ClientEvent>> {
        let client = &mut self.clients[number - 1];
        let status = client.child.wait();
        let status = status.map_err(|error| Error::io("wait for a client", error))?;
        match client.activity {
            Activity::Killed | Activity::Left => Ok(None),
            Activity::Leaving if status.success() => {
                client.activity = Activity::Left;
                Ok(Some(ClientEvent::Left(number)))
            }
            _ => {
                let stderr = std::fs::read_to_string(&client.stderr).unwrap_or_default();
                Err(Error::Failed(format!(
                    "client {number} exited unexpectedly ({status}); its errors: {}",
                    stderr.trim_end()
                )))
            }
        }
    }

    /// Sends SIGKILL to all of these clients, and then waits for them. On return, the kernel has released their
    /// references.
    pub(super) fn kill(&mut self, numbers: &[usize]) -> Result<()> {
        let failed = |error| Error::io("kill a client", error);
        for number in numbers {
            let client = &mut self.clients[number - 1];
            client.activity = Activity::Killed;
            client.child.kill().map_err(failed)?;
        }
        for number in numbers {
            self.clients[number - 1].child.wait().map_err(failed)?;
            self.pending.push_back(ClientEvent::Killed(*number));
        }
        Ok(())
    }

    /// Closes the standard input of these clients, so that they leave.
    pub(super) fn stop(&mut self, numbers: &[usize]) {
        for number in numbers {
            let client = &mut self.clients[number - 1];
            client.activity = Activity::Leaving;
            client.stdin = None;
        }
    }

    /// Stops all clients, and kills those that do not exit in time.
    pub(super) fn stop_all(&mut self) {
        let present: Vec<usize> = self.numbers().collect();
        self.stop(&present);
        let end = std::time::Instant::now() + TIMEOUT;
        while self.count(Activity::Leaving) > 0 && std::time::Instant::now() < end {
            // A client that failed has exited, although it is still counted as leaving.
            if let (Ok(None), 0) = (self.next(Duration::from_millis(50)), self.running()) {
                break;
            }
        }
        let rest: Vec<usize> = self
            .clients
            .iter()
            .filter(|client| client.activity == Activity::Leaving)
            .map(|client| client.number)
            .collect();
        let _ = self.kill(&rest);
    }

    fn running(&mut self) -> usize {
        let clients = self.clients.iter_mut();
        clients
            .filter_map(|client| client.child.try_wait().ok().filter(Option::is_none))
            .count()
    }
}

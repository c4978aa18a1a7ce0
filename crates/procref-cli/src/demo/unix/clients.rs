//! The clients: processes that are told when to leave, and tell what the service has answered.

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

use super::{NAME, PATIENCE, roles};
use crate::error::{Error, Result};

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    /// It is started, and has not got the service yet.
    Waiting,
    Working,
    /// It was told to leave.
    Leaving,
    Left,
    Killed,
}

pub(super) struct Client {
    /// From 1 on.
    pub(super) number: usize,
    pub(super) doing: Doing,
    /// How often the service has answered it.
    pub(super) answers: usize,
    /// The process that has answered last, by its own word.
    pub(super) answered_by: Option<u32>,
    child: Child,
    /// It leaves when this is closed, also by the end of this process.
    orders: Option<ChildStdin>,
    complaints: PathBuf,
}

impl Client {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
}

/// What a client has done, by its number.
pub(super) enum News {
    Got(usize),
    Answered,
    Left(usize),
    Killed(usize),
}

enum Event {
    Said(usize, String),
    Ended(usize),
    Interrupted,
}

pub(super) struct Cast {
    clients: Vec<Client>,
    /// Whether one process has answered everybody, ever.
    pub(super) answered_by: Vec<u32>,
    events: Receiver<Event>,
    post: Sender<Event>,
    /// What happened by our own doing.
    own: VecDeque<News>,
    dir: PathBuf,
}

impl Cast {
    /// From here on Ctrl-C is an event as others are, so that everything can be tidied up.
    pub(super) fn new(dir: &Path) -> Result<Self> {
        let (post, events) = mpsc::channel();
        let failed = |error| Error::io("listen to signals", error);
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(failed)?;
        let interrupted = post.clone();
        thread::spawn(move || {
            for _ in signals.forever() {
                // Nobody listens any more: then it is over anyway.
                let _ = interrupted.send(Event::Interrupted);
            }
        });
        Ok(Self {
            clients: Vec::new(),
            answered_by: Vec::new(),
            events,
            post,
            own: VecDeque::new(),
            dir: dir.to_owned(),
        })
    }

    pub(super) fn clients(&self) -> &[Client] {
        &self.clients
    }

    pub(super) fn client(&self, number: usize) -> &Client {
        &self.clients[number - 1]
    }

    /// Those that nobody has killed, and that were not told to leave.
    pub(super) fn present(&self) -> impl Iterator<Item = &Client> {
        let there = |client: &&Client| matches!(client.doing, Doing::Waiting | Doing::Working);
        self.clients.iter().filter(there)
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = usize> {
        self.present().map(|client| client.number)
    }

    pub(super) fn count(&self, doing: Doing) -> usize {
        let clients = self.clients.iter();
        clients.filter(|client| client.doing == doing).count()
    }

    /// Starts one more. In a process group of its own, so that Ctrl-C reaches only us.
    pub(super) fn start(&mut self, runtime_dir: &Path) -> Result<()> {
        let number = self.clients.len() + 1;
        let failed = |error| Error::io(format!("start client {number}"), error);
        let complaints = self.dir.join(format!("client-{number}.err"));
        let own = std::env::current_exe().map_err(failed)?;
        let service = [
            own.as_os_str(),
            roles::SERVICE.as_ref(),
            self.log().as_os_str(),
        ]
        .map(|word| word.to_string_lossy().into_owned());
        let mut child = Command::new(&own)
            .args(["run", "--no-config", "--port", "auto", "--runtime-dir"])
            .arg(runtime_dir)
            .args(["--start", &shell_words::join(service), NAME, "--"])
            .args([own.as_os_str(), roles::CLIENT.as_ref()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&complaints).map_err(failed)?)
            // The service inherits it from whoever starts it.
            .env(roles::STARTER, number.to_string())
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let (orders, answers) = (child.stdin.take(), child.stdout.take());
        self.clients.push(Client {
            number,
            doing: Doing::Waiting,
            answers: 0,
            answered_by: None,
            child,
            orders,
            complaints,
        });
        let post = self.post.clone();
        thread::spawn(move || {
            let lines = answers.into_iter().map(BufReader::new);
            for line in lines.flat_map(BufReader::lines).map_while(io::Result::ok) {
                let _ = post.send(Event::Said(number, line));
            }
            let _ = post.send(Event::Ended(number));
        });
        Ok(())
    }

    /// What the service writes down.
    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("service.log")
    }

    /// The number of the client that has started the service, as the service knows it.
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
                    "the service's log names no client that has started it: {text}"
                ))
            })
    }

    /// The next thing that happens, unless nothing does for so long.
    pub(super) fn next(&mut self, limit: Duration) -> Result<Option<News>> {
        if let Some(news) = self.own.pop_front() {
            return Ok(Some(news));
        }
        match self.events.recv_timeout(limit) {
            Ok(Event::Said(number, line)) => self.said(number, &line),
            Ok(Event::Ended(number)) => self.ended(number),
            Ok(Event::Interrupted) => Err(Error::Failed("interrupted".to_owned())),
            Err(_) => Ok(None),
        }
    }

    /// `PID NUMBER`: which process has answered, for the how manieth time.
    fn said(&mut self, number: usize, line: &str) -> Result<Option<News>> {
        let client = &mut self.clients[number - 1];
        let pid = line.split(' ').next().and_then(|pid| pid.parse().ok());
        let Some(pid) = pid else {
            return Err(Error::Failed(format!("client {number} said {line:?}")));
        };
        client.answers += 1;
        client.answered_by = Some(pid);
        if !self.answered_by.contains(&pid) {
            self.answered_by.push(pid);
        }
        if client.doing == Doing::Waiting {
            client.doing = Doing::Working;
            return Ok(Some(News::Got(number)));
        }
        Ok(Some(News::Answered))
    }

    fn ended(&mut self, number: usize) -> Result<Option<News>> {
        let client = &mut self.clients[number - 1];
        let status = client.child.wait();
        let status = status.map_err(|error| Error::io("wait for a client", error))?;
        match client.doing {
            Doing::Killed | Doing::Left => Ok(None),
            Doing::Leaving if status.success() => {
                client.doing = Doing::Left;
                Ok(Some(News::Left(number)))
            }
            _ => {
                let said = std::fs::read_to_string(&client.complaints).unwrap_or_default();
                Err(Error::Failed(format!(
                    "client {number} ended with {status}, and said: {}",
                    said.trim_end()
                )))
            }
        }
    }

    /// SIGKILL to all of them, before waiting for any. When this returns the kernel has taken back what they
    /// held.
    pub(super) fn kill(&mut self, numbers: &[usize]) -> Result<()> {
        let failed = |error| Error::io("kill a client", error);
        for number in numbers {
            let client = &mut self.clients[number - 1];
            client.doing = Doing::Killed;
            client.child.kill().map_err(failed)?;
        }
        for number in numbers {
            self.clients[number - 1].child.wait().map_err(failed)?;
            self.own.push_back(News::Killed(*number));
        }
        Ok(())
    }

    /// Tells them to leave.
    pub(super) fn dismiss(&mut self, numbers: &[usize]) {
        for number in numbers {
            let client = &mut self.clients[number - 1];
            client.doing = Doing::Leaving;
            client.orders = None;
        }
    }

    /// Lets everybody leave who is still there, and insists after a while.
    pub(super) fn disperse(&mut self) {
        let there: Vec<usize> = self.numbers().collect();
        self.dismiss(&there);
        let end = std::time::Instant::now() + PATIENCE;
        while self.count(Doing::Leaving) > 0 && std::time::Instant::now() < end {
            // Who ends badly is not there any more, either.
            if let (Ok(None), 0) = (self.next(Duration::from_millis(50)), self.running()) {
                break;
            }
        }
        let rest: Vec<usize> = self
            .clients
            .iter()
            .filter(|client| client.doing == Doing::Leaving)
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

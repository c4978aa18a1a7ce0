//! Client processes that take orders on stdin and report on stdout. Whoever
//! directs them waits for their reports; nothing here sleeps.

use std::fmt;
use std::io::{self, BufRead, BufReader, Stdin, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use super::{Result, signals};

/// Longer than anything in the examples takes, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(90);

enum Event {
    Said(usize, String),
    Ended(usize),
    Interrupted,
}

/// One line of report: who, and the words.
pub struct Report {
    pub from: usize,
    words: Vec<String>,
}

impl Report {
    pub fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or("", String::as_str)
    }

    pub fn number(&self, index: usize) -> Result<u32> {
        let word = self.word(index);
        let wrong = |_| format!("client {} reported '{word}' for a number", self.from);
        Ok(word.parse().map_err(wrong)?)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words.join(" "))
    }
}

struct Client {
    child: Child,
    orders: Option<ChildStdin>,
    /// Its end is no surprise.
    may_end: bool,
    ended: Option<ExitStatus>,
}

impl Client {
    /// For a client whose end was seen or caused already.
    fn bury(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait()?;
        self.ended = Some(status);
        Ok(status)
    }
}

/// All the clients, numbered from 1 as they were started.
pub struct Cast {
    clients: Vec<Client>,
    events: Receiver<Event>,
    post: Sender<Event>,
}

impl Cast {
    /// From here on Ctrl-C and its like are events as others are, so that
    /// everything can be tidied up first. So is the end of the lifeline.
    pub fn new(lifeline: Option<Stdin>) -> Result<Self> {
        let (post, events) = mpsc::channel();
        let interrupted = post.clone();
        signals::on_interruption(move || {
            let _ = interrupted.send(Event::Interrupted);
        })?;
        if let Some(mut lifeline) = lifeline {
            let interrupted = post.clone();
            thread::spawn(move || {
                let _ = io::copy(&mut lifeline, &mut io::sink());
                let _ = interrupted.send(Event::Interrupted);
            });
        }
        Ok(Self {
            clients: Vec::new(),
            events,
            post,
        })
    }

    /// Starts one more client. In a process group of its own, so that Ctrl-C
    /// reaches only us: when we are gone, however that came, its orders end,
    /// it lets go of the service and leaves.
    pub fn start(&mut self, mut command: Command) -> Result<usize> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let number = self.clients.len() + 1;
        let orders = child.stdin.take();
        let reports = child.stdout.take();
        self.clients.push(Client {
            child,
            orders,
            may_end: false,
            ended: None,
        });
        let post = self.post.clone();
        thread::spawn(move || {
            for line in reports
                .into_iter()
                .flat_map(|pipe| BufReader::new(pipe).lines())
            {
                let Ok(line) = line else { break };
                // Nobody listens any more: then nobody cares.
                let _ = post.send(Event::Said(number, line));
            }
            let _ = post.send(Event::Ended(number));
        });
        Ok(number)
    }

    fn client(&mut self, number: usize) -> &mut Client {
        &mut self.clients[number - 1]
    }

    pub fn pid(&self, number: usize) -> u32 {
        self.clients[number - 1].child.id()
    }

    /// Every client that nobody killed or dismissed yet.
    pub fn present(&self) -> Vec<usize> {
        let numbered = (1..).zip(&self.clients);
        numbered
            .filter(|(_, client)| !client.may_end)
            .map(|(number, _)| number)
            .collect()
    }

    pub fn order(&mut self, number: usize, order: &str) -> Result<()> {
        let orders = self.client(number).orders.as_mut();
        let orders = orders.ok_or_else(|| format!("client {number} takes no orders any more"))?;
        let sent = writeln!(orders, "{order}");
        Ok(sent.map_err(|error| format!("client {number} cannot be reached: {error}"))?)
    }

    /// The next thing that happens, unless nothing does until `end`.
    fn event(&mut self, end: Instant) -> Result<Option<Event>> {
        let left = end.saturating_duration_since(Instant::now());
        let event = match self.events.recv_timeout(left) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(None),
        };
        if let Event::Ended(number) = event {
            self.client(number).bury()?;
        }
        Ok(Some(event))
    }

    /// The next report of anybody, or the expected end of `leaver`. An end
    /// that nobody asked for is an error.
    fn next_or_end_of(&mut self, leaver: Option<usize>) -> Result<Option<Report>> {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.event(end)? {
                Some(Event::Said(from, line)) => {
                    let words = line.split_whitespace().map(str::to_owned).collect();
                    return Ok(Some(Report { from, words }));
                }
                Some(Event::Ended(number)) if Some(number) == leaver => return Ok(None),
                Some(Event::Ended(number)) => {
                    let client = self.client(number);
                    if let (false, Some(status)) = (client.may_end, client.ended) {
                        return Err(format!("client {number} ended too early ({status})").into());
                    }
                }
                Some(Event::Interrupted) => return Err("interrupted".into()),
                None => {
                    let seconds = PATIENCE.as_secs();
                    return Err(format!("no client said anything for {seconds} s").into());
                }
            }
        }
    }

    /// The next report of anybody.
    pub fn next(&mut self) -> Result<Report> {
        let report = self.next_or_end_of(None)?;
        Ok(report.ok_or("the clients fell silent")?)
    }

    /// One report of each of `count` clients, as they came, but first of all
    /// those that say `leading`: what these did was the cause of what the
    /// others did, whoever was heard first.
    pub fn next_led_by(&mut self, leading: &str, count: usize) -> Result<Vec<Report>> {
        let mut reports = Vec::with_capacity(count);
        for _ in 0..count {
            reports.push(self.next()?);
        }
        reports.sort_by_key(|report| report.word(0) != leading);
        Ok(reports)
    }

    /// Gives one client an order, and waits for its report.
    pub fn ask(&mut self, number: usize, order: &str) -> Result<Report> {
        self.order(number, order)?;
        let report = self.next()?;
        if report.from != number {
            return Err(format!("client {} spoke out of turn", report.from).into());
        }
        Ok(report)
    }

    /// SIGKILL. When this returns the kernel has undone whatever the client
    /// held: whoever sees the death by waiting for it sees that too.
    pub fn kill(&mut self, number: usize) -> Result<()> {
        self.kill_all(&[number])
    }

    /// SIGKILL to several, all of them before waiting for any.
    pub fn kill_all(&mut self, numbers: &[usize]) -> Result<()> {
        for &number in numbers {
            let client = self.client(number);
            client.may_end = true;
            client.child.kill()?;
        }
        for &number in numbers {
            self.client(number).bury()?;
        }
        Ok(())
    }

    /// Waits for the end of a client that has nothing left to do.
    pub fn dismiss(&mut self, number: usize) -> Result<()> {
        let client = self.client(number);
        client.may_end = true;
        client.orders = None;
        if self.client(number).ended.is_none() && self.next_or_end_of(Some(number))?.is_some() {
            return Err("a client spoke when all were to be silent".into());
        }
        match self.client(number).ended {
            Some(status) if status.success() => Ok(()),
            status => Err(format!("client {number} ended badly ({status:?})").into()),
        }
    }

    /// Lets everybody leave as they do when their orders end, and insists
    /// after a while.
    fn disperse(&mut self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        for client in &mut self.clients {
            client.orders = None;
        }
        while self.clients.iter().any(|client| client.ended.is_none()) {
            if self.event(end)?.is_none() {
                break;
            }
        }
        for client in &mut self.clients {
            if client.ended.is_none() {
                client.child.kill()?;
                client.bury()?;
            }
        }
        Ok(())
    }
}

impl Drop for Cast {
    fn drop(&mut self) {
        if let Err(error) = self.disperse() {
            super::complain("while ending the clients", &*error);
        }
    }
}

//! Client processes that read orders from standard input and write reports to standard output.

use std::fmt;
use std::io::{self, BufRead, BufReader, Stdin, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use super::common::{self, Result};
use super::signals;

/// Longer than any step takes on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(90);

enum Event {
    Reported(usize, String),
    Exited(usize),
    Interrupted,
}

/// One line from a client.
pub struct Report {
    pub client: usize,
    words: Vec<String>,
}

impl Report {
    pub fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or("", String::as_str)
    }

    pub fn number(&self, index: usize) -> Result<u32> {
        let word = self.word(index);
        let wrong = |_| format!("client {} reported '{word}' for a number", self.client);
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
    /// `true` if the client was killed or dismissed.
    may_exit: bool,
    status: Option<ExitStatus>,
}

impl Client {
    /// Waits until the client has exited. Does not make it exit.
    fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait()?;
        self.status = Some(status);
        Ok(status)
    }
}

/// All clients, numbered from 1 in the order of their starts.
pub struct Clients {
    clients: Vec<Client>,
    events: Receiver<Event>,
    sender: Sender<Event>,
}

impl Clients {
    /// Creates a set without clients. After this, Ctrl-C and the end of `lifeline` are events, so that the
    /// example can clean up.
    pub fn new(lifeline: Option<Stdin>) -> Result<Self> {
        let (sender, events) = mpsc::channel();
        let interrupted = sender.clone();
        signals::on_interrupt(move || {
            let _ = interrupted.send(Event::Interrupted);
        })?;
        if let Some(mut lifeline) = lifeline {
            let interrupted = sender.clone();
            thread::spawn(move || {
                let _ = io::copy(&mut lifeline, &mut io::sink());
                let _ = interrupted.send(Event::Interrupted);
            });
        }
        Ok(Self {
            clients: Vec::new(),
            events,
            sender,
        })
    }

    /// Starts a client in its own process group, so that Ctrl-C reaches only this process. When this process
    /// exits for any reason, the orders end and the client releases the service.
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
            may_exit: false,
            status: None,
        });
        let sender = self.sender.clone();
        thread::spawn(move || {
            for line in reports
                .into_iter()
                .flat_map(|pipe| BufReader::new(pipe).lines())
            {
                let Ok(line) = line else { break };
                // An error means that the example has ended.
                let _ = sender.send(Event::Reported(number, line));
            }
            let _ = sender.send(Event::Exited(number));
        });
        Ok(number)
    }

    fn client(&mut self, number: usize) -> &mut Client {
        &mut self.clients[number - 1]
    }

    pub fn pid(&self, number: usize) -> u32 {
        self.clients[number - 1].child.id()
    }

    /// Returns the clients that were neither killed nor dismissed.
    pub fn present(&self) -> Vec<usize> {
        let numbered = (1..).zip(&self.clients);
        numbered
            .filter(|(_, client)| !client.may_exit)
            .map(|(number, _)| number)
            .collect()
    }

    pub fn order(&mut self, number: usize, order: &str) -> Result<()> {
        let orders = self.client(number).orders.as_mut();
        let orders = orders.ok_or_else(|| format!("client {number} takes no orders any more"))?;
        let sent = writeln!(orders, "{order}");
        Ok(sent.map_err(|error| format!("client {number} cannot be reached: {error}"))?)
    }

    /// Returns the next event, or `None` if there is none before `deadline`.
    fn event(&mut self, deadline: Instant) -> Result<Option<Event>> {
        let left = deadline.saturating_duration_since(Instant::now());
        let event = match self.events.recv_timeout(left) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(None),
        };
        if let Event::Exited(number) = event {
            self.client(number).wait()?;
        }
        Ok(Some(event))
    }

    /// Returns the next report, or `None` if `leaver` exits first. The exit of another client is an error.
    fn next_or_exit_of(&mut self, leaver: Option<usize>) -> Result<Option<Report>> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            match self.event(deadline)? {
                Some(Event::Reported(client, line)) => {
                    let words = line.split_whitespace().map(str::to_owned).collect();
                    return Ok(Some(Report { client, words }));
                }
                Some(Event::Exited(number)) if Some(number) == leaver => return Ok(None),
                Some(Event::Exited(number)) => {
                    let client = self.client(number);
                    if let (false, Some(status)) = (client.may_exit, client.status) {
                        return Err(format!("client {number} exited too early ({status})").into());
                    }
                }
                Some(Event::Interrupted) => return Err("interrupted".into()),
                None => {
                    let seconds = TIMEOUT.as_secs();
                    return Err(format!("no client reported anything for {seconds} s").into());
                }
            }
        }
    }

    /// Returns the next report of any client.
    pub fn next(&mut self) -> Result<Report> {
        let report = self.next_or_exit_of(None)?;
        Ok(report.ok_or("no report")?)
    }

    /// Returns the next `count` reports. Reports that begin with `leading` are first, because they cause the
    /// others, although the pipes may deliver them later.
    pub fn next_led_by(&mut self, leading: &str, count: usize) -> Result<Vec<Report>> {
        let mut reports = Vec::with_capacity(count);
        for _ in 0..count {
            reports.push(self.next()?);
        }
        reports.sort_by_key(|report| report.word(0) != leading);
        Ok(reports)
    }

    /// Sends an order to a client, and waits for its report.
    pub fn ask(&mut self, number: usize, order: &str) -> Result<Report> {
        self.order(number, order)?;
        let report = self.next()?;
        if report.client != number {
            return Err(format!("unexpected report of client {}", report.client).into());
        }
        Ok(report)
    }

    /// Kills a client with SIGKILL, and waits until the kernel has released its reference.
    pub fn kill(&mut self, number: usize) -> Result<()> {
        self.kill_all(&[number])
    }

    /// Kills several clients with SIGKILL before it waits for the first one.
    pub fn kill_all(&mut self, numbers: &[usize]) -> Result<()> {
        for &number in numbers {
            let client = self.client(number);
            client.may_exit = true;
            client.child.kill()?;
        }
        for &number in numbers {
            self.client(number).wait()?;
        }
        Ok(())
    }

    /// Ends the orders of a client, and waits until it has exited successfully.
    pub fn dismiss(&mut self, number: usize) -> Result<()> {
        let client = self.client(number);
        client.may_exit = true;
        client.orders = None;
        if self.client(number).status.is_none() && self.next_or_exit_of(Some(number))?.is_some() {
            return Err("a client reported without an order".into());
        }
        match self.client(number).status {
            Some(status) if status.success() => Ok(()),
            status => Err(format!("client {number} failed ({status:?})").into()),
        }
    }

    /// Ends the orders of all clients, and kills those that have not exited in time.
    fn dismiss_all(&mut self) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        for client in &mut self.clients {
            client.orders = None;
        }
        while self.clients.iter().any(|client| client.status.is_none()) {
            if self.event(deadline)?.is_none() {
                break;
            }
        }
        for client in &mut self.clients {
            if client.status.is_none() {
                client.child.kill()?;
                client.wait()?;
            }
        }
        Ok(())
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        if let Err(error) = self.dismiss_all() {
            common::print_error("while stopping the clients", &*error);
        }
    }
}

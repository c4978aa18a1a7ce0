//! A client process, as its test sees it.

mod commands;
#[cfg(unix)]
mod unix;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::deadline::DEADLINE;
use crate::observe::Identity;
use crate::protocol::{Acquired, Body, Command, Death, Event, Message, Reply, Request};
use crate::shared::{Shared, lock};

/// A process that runs the commands of a test. Dropping an actor kills the process.
///
/// `actor/commands.rs` has a method for each command, and `actor/unix.rs` has `fork`.
pub struct Actor {
    identity: Identity,
    /// `None` for a forked actor, which is not a child of the test.
    child: Option<Mutex<Child>>,
    commands: Mutex<Option<Box<dyn Write + Send>>>,
    inbox: Mutex<Inbox>,
    shared: Arc<Shared>,
    requests: AtomicU64,
    handles: AtomicU32,
}

struct Inbox {
    arriving: Receiver<Message>,
    /// Messages that arrived before the test waited for them.
    unread: Vec<Message>,
}

/// A request whose reply was not read yet.
#[derive(Debug)]
#[must_use]
pub struct Pending {
    request: u64,
    handle: u32,
}

impl Pending {
    /// Number of the request, for [`Command::Cancel`].
    #[must_use]
    pub fn request(&self) -> u64 {
        self.request
    }
}

/// A handle that an actor holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Number of the handle.
    pub handle: u32,
    /// The service that the handle holds.
    pub got: Acquired,
}

/// The process exited before the expected message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exited;

impl Actor {
    pub(crate) fn of_child(mut child: Child, shared: Arc<Shared>) -> Self {
        let identity = Identity::of(child.id()).expect("a child that was not reaped");
        lock(&shared.processes).push(identity);
        let commands = child.stdin.take().expect("a pipe for commands");
        let messages = child.stdout.take().expect("a pipe for messages");
        Self::new(identity, Some(child), commands, messages, shared)
    }

    fn new(
        identity: Identity,
        child: Option<Child>,
        commands: impl Write + Send + 'static,
        messages: impl Read + Send + 'static,
        shared: Arc<Shared>,
    ) -> Self {
        let (sender, arriving) = channel();
        // A separate thread reads, so that an actor never blocks on a full pipe.
        std::thread::spawn(move || {
            for line in BufReader::new(messages).lines() {
                let Ok(line) = line else { return };
                let message = serde_json::from_str(&line)
                    .unwrap_or_else(|error| panic!("unexpected message {line:?}: {error}"));
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        Self {
            identity,
            child: child.map(Mutex::new),
            commands: Mutex::new(Some(Box::new(commands))),
            inbox: Mutex::new(Inbox {
                arriving,
                unread: Vec::new(),
            }),
            shared,
            requests: AtomicU64::new(1),
            handles: AtomicU32::new(1),
        }
    }

    /// The pid of the process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.identity.pid
    }

    /// The pid and start time of the process.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Waits for the first message for which `pick` returns a value, and removes the message.
    #[track_caller]
    fn take<T>(
        &self,
        what: &str,
        mut pick: impl FnMut(&Message) -> Option<T>,
    ) -> Result<T, Exited> {
        let mut inbox = lock(&self.inbox);
        let found = inbox
            .unread
            .iter()
            .enumerate()
            .find_map(|(index, message)| Some((index, pick(message)?)));
        if let Some((index, value)) = found {
            inbox.unread.remove(index);
            return Ok(value);
        }
        let end = Instant::now() + DEADLINE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match inbox.arriving.recv_timeout(left) {
                Ok(message) => match pick(&message) {
                    Some(value) => return Ok(value),
                    None => inbox.unread.push(message),
                },
                Err(RecvTimeoutError::Disconnected) => return Err(Exited),
                Err(RecvTimeoutError::Timeout) => panic!(
                    "actor {} did not send {what} within {DEADLINE:?}; unread messages: {:?}",
                    self.identity, inbox.unread
                ),
            }
        }
    }

    /// Removes the first message for which `pick` returns a value, if such a message has already arrived.
    fn take_if_arrived<T>(&self, mut pick: impl FnMut(&Message) -> Option<T>) -> Option<T> {
        let mut inbox = lock(&self.inbox);
        while let Ok(message) = inbox.arriving.try_recv() {
            inbox.unread.push(message);
        }
        let (index, value) = inbox
            .unread
            .iter()
            .enumerate()
            .find_map(|(index, message)| Some((index, pick(message)?)))?;
        inbox.unread.remove(index);
        Some(value)
    }

    #[track_caller]
    fn expect_alive<T>(&self, result: Result<T, Exited>, what: &str) -> T {
        result.unwrap_or_else(|Exited| panic!("actor {} exited before {what}", self.identity))
    }

    #[track_caller]
    pub(crate) fn wait_ready(&self) {
        self.event_like("ready", |event| {
            matches!(event, Event::Ready(_)).then_some(())
        });
    }

    /// Waits for an event.
    ///
    /// # Panics
    ///
    /// Panics if the actor exits or the deadline passes first.
    #[track_caller]
    pub fn event(&self, wanted: &Event) {
        let what = format!("{wanted:?}");
        self.event_like(&what, |event| (event == wanted).then_some(()));
    }

    /// Waits for the first event for which `pick` returns a value.
    ///
    /// # Panics
    ///
    /// Panics if the actor exits or the deadline passes first.
    #[track_caller]
    pub fn event_like<T>(&self, what: &str, pick: impl FnMut(&Event) -> Option<T>) -> T {
        self.event_at(what, pick).0
    }

    /// Like [`Actor::event_like`], and also returns the time of the event.
    ///
    /// # Panics
    ///
    /// Panics if the actor exits or the deadline passes first.
    #[track_caller]
    pub fn event_at<T>(&self, what: &str, mut pick: impl FnMut(&Event) -> Option<T>) -> (T, u64) {
        let found = self.take(what, |message| match &message.body {
            Body::Event(event) => Some((pick(event)?, message.at)),
            Body::Reply(..) => None,
        });
        self.expect_alive(found, what)
    }

    /// Waits until a callback has started the fake service.
    ///
    /// # Panics
    ///
    /// Panics if the actor exits or the deadline passes first.
    #[track_caller]
    pub fn wait_served(&self) -> Identity {
        self.event_like("a started service", |event| match event {
            Event::Served(identity) => Some(*identity),
            _ => None,
        })
    }

    /// Returns `true` if this event has already arrived.
    #[must_use]
    pub fn has_happened(&self, wanted: &Event) -> bool {
        self.take_if_arrived(|message| match &message.body {
            Body::Event(event) => (event == wanted).then_some(()),
            Body::Reply(..) => None,
        })
        .is_some()
    }

    /// Writes a line to the actor, which need not be a command.
    ///
    /// # Panics
    ///
    /// Panics if the actor no longer reads its input.
    #[track_caller]
    pub fn write_line(&self, line: &str) {
        let mut commands = lock(&self.commands);
        let pipe = commands.as_mut().expect("an open pipe");
        pipe.write_all(format!("{line}\n").as_bytes())
            .and_then(|()| pipe.flush())
            .unwrap_or_else(|error| panic!("could not write to actor {}: {error}", self.identity));
    }

    /// Sends a command, and does not wait for the reply.
    ///
    /// # Panics
    ///
    /// Panics if the actor no longer reads its input.
    #[track_caller]
    pub fn begin(&self, command: Command) -> Pending {
        let id = self.requests.fetch_add(1, Ordering::Relaxed);
        let handle = match command {
            Command::Acquire { handle, .. } | Command::TryJoin { handle, .. } => handle,
            _ => 0,
        };
        let request = Request { id, command };
        self.write_line(&serde_json::to_string(&request).expect("a command as JSON"));
        Pending {
            request: id,
            handle,
        }
    }

    /// Waits for the reply.
    ///
    /// # Panics
    ///
    /// Panics if the actor exits or the deadline passes first.
    #[track_caller]
    pub fn reply(&self, pending: Pending) -> Reply {
        let what = format!("the reply to {pending:?}");
        let reply = self.reply_or_exit(pending);
        self.expect_alive(reply, &what)
    }

    /// Waits for the reply, or for the exit of the process.
    ///
    /// # Errors
    ///
    /// Returns [`Exited`] if the process exited without a reply.
    #[track_caller]
    pub fn reply_or_exit(&self, pending: Pending) -> Result<Reply, Exited> {
        let what = format!("the reply to {pending:?}");
        self.take(&what, |message| match &message.body {
            Body::Reply(id, reply) => (*id == pending.request).then(|| reply.clone()),
            Body::Event(_) => None,
        })
    }

    /// Returns `true` if the reply has already arrived. Does not remove the reply.
    #[must_use]
    pub fn has_replied(&self, pending: &Pending) -> bool {
        let mut inbox = lock(&self.inbox);
        while let Ok(message) = inbox.arriving.try_recv() {
            inbox.unread.push(message);
        }
        inbox
            .unread
            .iter()
            .any(|message| matches!(&message.body, Body::Reply(id, _) if *id == pending.request))
    }

    /// Sends a command and waits for the reply.
    ///
    /// # Panics
    ///
    /// Panics if the actor exits or the deadline passes first.
    #[track_caller]
    pub fn call(&self, command: Command) -> Reply {
        let pending = self.begin(command);
        self.reply(pending)
    }

    /// Makes the process exit, and waits until it has exited.
    ///
    /// # Panics
    ///
    /// Panics if the process does not exit before the deadline.
    #[track_caller]
    pub fn die(&self, death: Death) {
        let _ = self.begin(Command::Die(death));
        self.wait_end();
    }

    /// Kills the process and waits until it is dead.
    ///
    /// # Panics
    ///
    /// Panics if the process does not exit before the deadline.
    #[track_caller]
    pub fn kill(&self) {
        self.identity.kill();
        self.wait_end();
    }

    /// Waits until the process has exited. Reaps the process if it is a child of the test.
    ///
    /// # Panics
    ///
    /// Panics if the process does not exit before the deadline.
    #[track_caller]
    pub fn wait_end(&self) -> Option<ExitStatus> {
        self.identity.wait_exit();
        let child = self.child.as_ref()?;
        Some(lock(child).wait().expect("wait for a child"))
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.identity.kill();
        if let Some(child) = &self.child {
            let _ = lock(child).wait();
        }
    }
}

//! `ps --watch` at a terminal: a list of the services, with keys that inspect and change them.
//!
//! ```text
//!   keys, size ──────────┐
//!   signals ─────────────┤
//!   runtime directories ─┼──► events ──► model ──► lines ──► terminal
//!   waits for services ──┤                 ▲
//!   results of commands ─┘                 └── list of services, /proc
//! ```
//!
//! Each source of events has a thread. Only the main thread reads services and writes to the terminal. The kernel reports
//! starts and stops, but neither clients that join nor pins. So the services are also read at the interval of
//! `--interval`.
//!
//! A crate of widgets was rejected. The last version of ratatui for the oldest supported Rust adds about 40 dependencies,
//! not all of them maintained, to those of crossterm. The list is a table, which [`table`](crate::table) already draws.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crossterm::event::{self, KeyEvent, KeyEventKind};
use procref::State;

use super::{ListedService, address, has_addresses, has_projects, list, row};
use crate::args::PsArgs;
use crate::commands::status;
use crate::config;
use crate::error::{Error, Result};
use crate::exit::HELD;
use crate::globals::Globals;
use crate::runtime_dir;
use crate::text::{self, shown, without_controls};

mod action;
mod log;
mod model;
mod sys;
mod terminal;
mod usage;
mod view;
mod waits;

use action::Done;
use model::{Model, Question, Request, Row, Verb, View};
use terminal::Screen;
use usage::{Meter, UsageText};
use waits::Waits;

/// The shortest time between two reads of the services.
const SHORTEST: Duration = Duration::from_millis(50);

/// What ends a wait of the main thread.
#[derive(Debug)]
#[cfg_attr(
    windows,
    expect(dead_code, reason = "Windows has no signals and no inotify")
)]
enum Event {
    Key(KeyEvent),
    Resized,
    /// The terminal cannot be read any more.
    Closed(io::Error),
    Signal(Signal),
    /// A service may have changed.
    Changed,
    /// The log on the screen may have grown.
    LogChanged,
    /// A command that changes a service has exited.
    Done(Done),
}

#[derive(Clone, Copy, Debug)]
#[cfg_attr(windows, expect(dead_code, reason = "Windows has no signals"))]
enum Signal {
    Exit(i32),
    Suspend,
    Continue,
}

/// Why the screen ends.
enum End {
    Quit,
    Interrupt,
    Signal(i32),
}

pub(super) fn run(globals: &Globals, args: &PsArgs) -> Result<ExitCode> {
    let (sender, events) = mpsc::channel();
    let mut monitor = Monitor::new(globals, args, sender.clone());
    // An error that the first list has is printed without a screen.
    monitor.refresh()?;
    sys::listen(sender.clone())?;
    let end = {
        let mut screen = Screen::enter()?;
        read_input(sender)?;
        // The size may have changed before its changes were events.
        screen.resize();
        monitor.show(&mut screen, &events)?
    };
    Ok(match end {
        End::Quit => ExitCode::SUCCESS,
        End::Interrupt => sys::exit_by_interrupt(),
        End::Signal(signal) => sys::exit_by(signal),
    })
}

/// Sends keys and changes of the terminal's size as events. No change after the return is lost.
fn read_input(events: Sender<Event>) -> Result<()> {
    // The first call makes SIGWINCH an event. A first call in the thread would be too late: the size could change after
    // the first drawing and before that call.
    event::poll(Duration::ZERO).map_err(|error| Error::io("read the terminal", error))?;
    let read = move || {
        loop {
            let event = match event::read() {
                Ok(event::Event::Key(key)) if key.kind != KeyEventKind::Release => Event::Key(key),
                Ok(event::Event::Resize(..)) => Event::Resized,
                Ok(_) => continue,
                Err(error) => Event::Closed(error),
            };
            let is_last = matches!(event, Event::Closed(_));
            if events.send(event).is_err() || is_last {
                return;
            }
        }
    };
    let thread = thread::Builder::new().name("procref: keys".to_owned());
    thread
        .spawn(read)
        .map(drop)
        .map_err(|error| Error::io("start a thread", error))
}

struct Monitor<'a> {
    globals: &'a Globals,
    args: &'a PsArgs,
    model: Model,
    /// The services of the model's rows.
    services: Vec<ListedService>,
    meter: Meter,
    changes: sys::Changes,
    waits: Waits,
    events: Sender<Event>,
    /// When the services were read.
    refreshed: Instant,
    /// When the services are read again.
    due: Instant,
}

impl<'a> Monitor<'a> {
    fn new(globals: &'a Globals, args: &'a PsArgs, events: Sender<Event>) -> Self {
        Self {
            globals,
            args,
            model: Model::default(),
            services: Vec::new(),
            meter: Meter::default(),
            changes: sys::Changes::new(events.clone()),
            waits: Waits::new(events.clone()),
            events,
            refreshed: Instant::now(),
            due: Instant::now(),
        }
    }

    fn show(&mut self, screen: &mut Screen, events: &Receiver<Event>) -> Result<End> {
        loop {
            screen.draw(view::lines(&self.model, screen.size()))?;
            let left = self.due.saturating_duration_since(Instant::now());
            let event = match events.recv_timeout(left) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout) => {
                    self.refresh_or_report()?;
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(End::Quit),
            };
            match event {
                Event::Key(key) => {
                    let page = view::page(&self.model, screen.size());
                    let request = self.model.press(key, page);
                    match request {
                        Some(Request::Quit) => return Ok(End::Quit),
                        Some(Request::Interrupt) => return Ok(End::Interrupt),
                        Some(Request::Suspend) => sys::suspend_job(),
                        Some(Request::Change(verb, object)) => self.change(verb, &object),
                        Some(Request::ReadLog) => self.read_log(),
                        None => {}
                    }
                }
                Event::Resized => screen.resize(),
                Event::Closed(error) => return Err(Error::io("read the terminal", error)),
                Event::Signal(Signal::Exit(signal)) => return Ok(End::Signal(signal)),
                Event::Signal(Signal::Suspend) => {
                    screen.suspend();
                    sys::suspend()?;
                    screen.resume()?;
                    self.due = Instant::now();
                }
                // The process may have been suspended by SIGSTOP, and the shell may have changed the terminal.
                Event::Signal(Signal::Continue) => screen.resume()?,
                Event::Changed => self.due = self.due.min(self.refreshed + SHORTEST),
                Event::LogChanged => self.read_log(),
                Event::Done(done) => self.report(done),
            }
        }
    }

    /// Reads the services. An error, for example of a file that is being edited, is shown on the screen.
    fn refresh_or_report(&mut self) -> Result<()> {
        if !io::stdin().is_terminal() {
            let error = io::Error::other("it was closed");
            return Err(Error::io("use the terminal", error));
        }
        if let Err(error) = self.refresh() {
            self.model.message = lines_of(&error);
        }
        self.read_log();
        Ok(())
    }

    fn refresh(&mut self) -> Result<()> {
        self.refreshed = Instant::now();
        self.due = self.refreshed + self.args.interval;
        // A service that starts after the list is read is reported.
        for namespace in config::namespaces(self.globals, self.args.all)? {
            let services = runtime_dir::services(namespace.dir.as_deref())?;
            self.changes.watch_dir(services.dir());
        }
        let found = list(self.globals, self.args)?;
        let measured: Vec<_> = found
            .iter()
            .map(|it| (it.listed.kernel_object(), it.listed.status()))
            .collect();
        let usages = self.meter.measure(&measured);
        let optional = Optional {
            address: has_addresses(&found),
            project: has_projects(self.args, &found),
        };
        let rows = found.iter().zip(usages);
        let rows = rows.map(|(service, usage)| screen_row(service, usage, optional));
        self.model.headings = headings(optional);
        self.model.set_rows(rows.collect());
        for service in &found {
            let listed = &service.listed;
            let shared = || {
                service
                    .named(self.globals)
                    .ok()
                    .flatten()
                    .map(|it| it.service)
            };
            self.waits
                .begin(listed.status(), shared, listed.kernel_object());
        }
        self.services = found;
        Ok(())
    }

    fn read_log(&mut self) {
        match &mut self.model.view {
            View::Log(log) => {
                // The watch begins before the log is read, so that no output is missed.
                self.changes.watch_log(Some(&log.path));
                log.read();
            }
            _ => self.changes.watch_log(None),
        }
    }

    fn change(&mut self, verb: Verb, object: &str) {
        let mut services = self.services.iter();
        let Some(service) = services.find(|it| it.listed.kernel_object() == object) else {
            self.model.message = vec!["the service has stopped".to_owned()];
            return;
        };
        let started = action::start(self.globals, verb, service, self.events.clone());
        self.model.message = match started {
            Ok(message) => vec![message],
            Err(error) => lines_of(&error),
        };
    }

    /// Shows the result of a command. If clients hold a service that was to stop, asks whether to stop it anyway.
    fn report(&mut self, done: Done) {
        if done.verb == Verb::Stop && done.code == HELD {
            self.model.question = Some(Question {
                object: done.object,
                name: done.name,
            });
        }
        self.model.message = done.output;
        self.due = Instant::now();
    }
}

fn lines_of(error: &Error) -> Vec<String> {
    let text = without_controls(&error.to_string(), &['\n']);
    text.lines().map(str::to_owned).collect()
}

/// Which columns that not every list needs are shown.
#[derive(Clone, Copy, Debug)]
struct Optional {
    address: bool,
    project: bool,
}

/// Returns the headings of the columns, the most important ones first.
fn headings(optional: Optional) -> Vec<&'static str> {
    let mut headings = vec!["NAME", "STATE", ">CLIENTS"];
    if usage::IS_AVAILABLE {
        headings.extend([">CPU", ">MEMORY"]);
    }
    headings.extend([">UP", "KEPT", ">PID", ">PORT"]);
    if optional.address {
        headings.push("ADDRESS");
    }
    if usage::IS_AVAILABLE {
        headings.push(">TIME");
    }
    if optional.project {
        headings.push("PROJECT");
    }
    headings
}

/// Returns the row of a service, with a cell for each of the [`headings`].
fn screen_row(service: &ListedService, usage: UsageText, optional: Optional) -> Row {
    let listed = &service.listed;
    let status = listed.status();
    let [name, state, clients, pid, port, up, kept] = row(listed);
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let mut cells = vec![name, state, clients];
    if usage::IS_AVAILABLE {
        cells.extend([usage.percent, usage.memory].map(or_dash));
    }
    cells.extend([up, kept, pid, port]);
    if optional.address {
        cells.push(or_dash(address(listed)));
    }
    if usage::IS_AVAILABLE {
        cells.push(or_dash(usage.time.map(text::time)));
    }
    if optional.project {
        let project = service.project.as_ref();
        cells.push(or_dash(project.map(|path| shown(&path.to_string_lossy()))));
    }
    let holders = status::holders(status);
    Row {
        object: listed.kernel_object().to_owned(),
        name: listed.name().map(str::to_owned),
        cells,
        holders: holders.lines().map(str::to_owned).collect(),
        log: service.log(),
        is_running: status.state() != State::Absent,
        is_pinned: status.is_pinned(),
    }
}

//! Signals, and changes of files by inotify.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::process::Signal as Number;
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};

use super::super::{Event, Signal};
use crate::error::{Error, Result};
use crate::signals::{self, ReceivedSignals};

/// Sends signals as events from now on. A signal that was ignored stays ignored.
pub(in super::super) fn listen(events: Sender<Event>) -> Result<()> {
    let failed = |error| Error::io("handle signals", error);
    let handled = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGCONT];
    let handled = handled
        .into_iter()
        .filter(|&signal| !signals::is_ignored(signal));
    let handled: Vec<i32> = handled.collect();
    let received = ReceivedSignals::listen(handled.iter().copied()).map_err(failed)?;
    let read = move || {
        // The process that executed procref may have blocked a signal. An error leaves the mask as it was.
        let _ = signals::unblock(handled.into_iter());
        while let Ok(arrived) = received.wait() {
            for signal in arrived {
                let signal = match signal.number {
                    SIGTSTP => Signal::Suspend,
                    SIGCONT => Signal::Continue,
                    number => Signal::Exit(number),
                };
                if events.send(Event::Signal(signal)).is_err() {
                    return;
                }
            }
        }
    };
    let thread = thread::Builder::new().name("procref: signals".to_owned());
    thread
        .spawn(read)
        .map(drop)
        .map_err(|error| Error::io("start a thread", error))
}

/// Exits as if this signal had not been handled, so that a shell knows why.
pub(in super::super) fn exit_by(signal: i32) -> ExitCode {
    let _ = signal_hook::low_level::emulate_default_handler(signal);
    ExitCode::FAILURE
}

/// Exits as after Ctrl-C.
pub(in super::super) fn exit_by_interrupt() -> ExitCode {
    exit_by(SIGINT)
}

/// Sends the signal of Ctrl-Z to all processes of the job, as the terminal does outside of raw mode.
pub(in super::super) fn suspend_job() {
    // An error means that the signal must not be sent, and then the job continues.
    let _ = rustix::process::kill_current_process_group(Number::TSTP);
}

/// Suspends this process. Returns when it is continued.
pub(in super::super) fn suspend() -> Result<()> {
    signals::suspend().map_err(|error| Error::io("suspend this process", error))
}

/// Watches the runtime directories and one log.
///
/// Without inotify, for example because the limit of its instances is reached, the screen is updated only at its
/// interval.
pub(in super::super) struct Changes {
    watch: Option<Arc<OwnedFd>>,
    log: Option<(PathBuf, i32)>,
}

impl Changes {
    pub(in super::super) fn new(events: Sender<Event>) -> Self {
        let watch = inotify::init(CreateFlags::CLOEXEC).ok().map(Arc::new);
        if let Some(watch) = watch.clone() {
            let thread = thread::Builder::new().name("procref: changes".to_owned());
            // An error has the same effect as a missing inotify.
            let _ = thread.spawn(move || send_changes(&watch, &events));
        }
        Self { watch, log: None }
    }

    /// Reports services that start or stop in this directory. Watching a directory again has no effect.
    pub(in super::super) fn watch_dir(&self, dir: &Path) {
        let events = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ONLYDIR;
        if let Some(watch) = &self.watch {
            // The directory may be missing until its first service starts.
            let _ = inotify::add_watch(watch, dir, events);
        }
    }

    /// Reports writes to this log, and not to the one before.
    pub(in super::super) fn watch_log(&mut self, log: Option<&Path>) {
        let Some(watch) = &self.watch else {
            return;
        };
        if self.log.as_ref().map(|(path, _)| path.as_path()) == log {
            return;
        }
        if let Some((_, number)) = self.log.take() {
            // The kernel has removed the watch if the log was deleted.
            let _ = inotify::remove_watch(watch, number);
        }
        if let Some(path) = log {
            let added = inotify::add_watch(watch, path, WatchFlags::MODIFY);
            self.log = added.ok().map(|number| (path.to_owned(), number));
        }
    }
}

fn send_changes(watch: &OwnedFd, events: &Sender<Event>) {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(watch, &mut buffer);
    loop {
        let event = match reader.next() {
            Ok(change) if change.events().contains(ReadFlags::MODIFY) => Event::LogChanged,
            Ok(_) => Event::Changed,
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return,
        };
        if events.send(event).is_err() {
            return;
        }
    }
}

//! Signals, and changes of files.

use std::process::ExitCode;
use std::sync::mpsc::Sender;
use std::thread;

use rustix::process::Signal as Number;
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};

use super::super::{Event, Signal};
use crate::error::{Error, Result};
use crate::signals::{self, ReceivedSignals};

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "linux")]
pub(in super::super) use linux::Changes;
#[cfg(target_os = "macos")]
pub(in super::super) use macos::Changes;

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

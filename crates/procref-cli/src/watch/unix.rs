//! `run --watch-client`: the client's parent, until everything that it has started has ended.
//!
//! The client is a child that acquires the service itself before it becomes the client. So it has a
//! reference of its own, and whatever becomes of this process, SIGKILL included, the service does not vanish
//! under it. Passing on this process's reference is not possible: the kernel counts by process. Having the
//! client killed along with this process (`PR_SET_PDEATHSIG`) would take an answer from people that is
//! theirs.
//!
//! # Which processes are the client's
//!
//! This process is a subreaper, or a container's first process, so every process below it that loses its parent
//! becomes its child. Among them are the supervisors of services that were started below, and services whose
//! supervisor was killed. Those are not the client's: others may hold such a service, and a service that this
//! process holds ends only after this process has released it. To wait for them would be to wait for oneself. So
//! they are neither waited for nor signalled. [`procref::is_managed`] tells them from the client's processes.

use std::collections::HashSet;
use std::env;
use std::fs;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{self, Command, ExitCode, ExitStatus};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, WaitOptions};
use signal_hook::consts::{
    SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH,
};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::origin::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin};

use crate::error::{Error, Result};
use crate::signals;

/// Set in the child that becomes the client; to [`IGNORES_CHILDREN`] if the client ignores SIGCHLD.
pub(crate) const WATCHED: &str = "PROCREF_WATCHED";

const IGNORES_CHILDREN: &str = "ignores-children";

const FORWARDED: [i32; 8] = [
    SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT,
];

/// What else a container's stop signal may be: systemd's is SIGRTMIN+3, LXC's SIGPWR. Any other process would be
/// ended by them.
fn forwarded_by_first_process() -> impl Iterator<Item = i32> {
    let realtime = libc::SIGRTMIN()..=libc::SIGRTMAX();
    realtime.chain([libc::SIGALRM, libc::SIGIO, libc::SIGPWR])
}

/// Interval at which the watcher reads its children while it passes on a stop signal.
const ORPHANS: Duration = Duration::from_millis(100);

/// Returns `true` if the signal asks a process to exit. SIGHUP does not: it asks many daemons to read their
/// configuration again.
fn is_stop(signal: i32) -> bool {
    let is_container_stop = || signal == libc::SIGPWR || signal == libc::SIGRTMIN() + 3;
    matches!(signal, SIGINT | SIGQUIT | SIGTERM) || is_container_stop()
}

/// Returns `true` if this process is the one that becomes the client.
pub(crate) fn is_watched() -> bool {
    env::var_os(WATCHED).is_some()
}

/// Returns `true` if this process is the first one of its pid namespace: when it ends, the kernel kills all
/// others in there.
pub(crate) fn is_first_process() -> bool {
    process::id() == 1
}

/// Makes the dispositions of signals what the client is to have. For the process that becomes the client.
pub(crate) fn restore_signals() -> Result<()> {
    if env::var_os(WATCHED).is_some_and(|how| how == IGNORES_CHILDREN) {
        signals::ignore(SIGCHLD).map_err(|error| Error::io("ignore SIGCHLD", error))?;
    }
    Ok(())
}

/// A process that is to be the client's parent.
pub(crate) struct Watcher {
    signals: Option<SignalsInfo<WithOrigin>>,
    ignores_children: bool,
}

impl Watcher {
    /// Call this before the service is acquired.
    ///
    /// A namespace's first process has no default actions: a signal without a handler is lost. So there the signals of
    /// the start are kept for the client. Elsewhere they end this process during the start, as they do without
    /// `--watch-client`.
    pub(crate) fn new() -> Result<Self> {
        let ignores_children = signals::is_ignored(SIGCHLD);
        let signals = is_first_process().then(listen).transpose()?;
        Ok(Self {
            signals,
            ignores_children,
        })
    }

    /// Runs the client, and returns when no process of the client's is left.
    pub(crate) fn watch(self) -> Result<Ended> {
        // What the client leaves without a parent becomes a child of this process.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).map_err(|error| {
            Error::io("become the parent of what the client leaves", error.into())
        })?;
        // Before there is a child whose end could be missed.
        let mut signals = match self.signals {
            Some(signals) => signals,
            None => listen()?,
        };
        let mut words = env::args_os();
        let mut command = Command::new("/proc/self/exe");
        if let Some(own) = words.next() {
            command.arg0(own);
        }
        let how = match self.ignores_children {
            true => IGNORES_CHILDREN,
            false => "1",
        };
        let child = command.args(words).env(WATCHED, how).spawn();
        let child = child.map_err(|error| Error::io("start the client's process", error))?;
        // The client has inherited the mask that procref was given.
        signals::unblock(handled())
            .map_err(|error| Error::io("unblock the signals of the watcher", error))?;
        let mut family = Family::new(child.id());
        loop {
            // A process becomes a child of this one without a signal if its dead parent was not a child of this one.
            let arrived: Vec<_> = match family.stop_of_left() {
                Some(_) => {
                    thread::sleep(ORPHANS);
                    signals.pending().collect()
                }
                None => signals.wait().collect(),
            };
            for signal in arrived {
                // The client may have ended unnoticed. Its descendants would miss a signal that is sent to it then.
                family.reap();
                if signal.signal != SIGCHLD && is_for_client(&signal) {
                    family.signal(signal.signal);
                }
            }
            if family.reap() {
                return Ok(Ended(family.ended));
            }
            family.stop_left();
        }
    }
}

/// The signals that are passed on and were not ignored, and SIGCHLD.
fn handled() -> impl Iterator<Item = i32> {
    let more = is_first_process().then(forwarded_by_first_process);
    let forwarded = FORWARDED.into_iter().chain(more.into_iter().flatten());
    forwarded
        .filter(|&signal| !signals::is_ignored(signal))
        .chain([SIGCHLD])
}

/// Handles the signals that are passed on, and the ends of children. A signal that was ignored stays ignored, in
/// this process and, because `exec` keeps that, in the client. SIGCHLD cannot: the kernel would keep no exit status.
fn listen() -> Result<SignalsInfo<WithOrigin>> {
    SignalsInfo::<WithOrigin>::new(handled()).map_err(|error| Error::io("listen to signals", error))
}

/// How the client has ended.
pub(crate) struct Ended(Option<ExitStatus>);

impl Ended {
    /// The exit code of `run`: the client's, or 128 and the signal that killed it.
    pub(crate) fn code(&self) -> ExitCode {
        let Some(status) = self.0 else {
            return ExitCode::FAILURE;
        };
        let code = status
            .code()
            .or_else(|| status.signal().map(|signal| 128 + signal));
        ExitCode::from(
            code.and_then(|code| u8::try_from(code).ok())
                .unwrap_or(u8::MAX),
        )
    }
}

/// Returns `true` if the signal was sent to this process alone, as far as can be told. What the terminal sends, it
/// sends to the client as well, which must not get it twice.
fn is_for_client(signal: &Origin) -> bool {
    !matches!(signal.cause, Cause::Kernel)
}

/// The client and what it has left.
struct Family {
    client: Pid,
    ended: Option<ExitStatus>,
    /// The last stop signal that was passed on.
    stop: Option<i32>,
    /// The living children that `stop` was sent to.
    stopped: HashSet<Pid>,
}

impl Family {
    fn new(pid: u32) -> Self {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        Self {
            client: pid.expect("a child has a pid"),
            ended: None,
            stop: None,
            stopped: HashSet::new(),
        }
    }

    /// Reaps all children that have ended. Returns `true` if the client and all that it has left are among them.
    ///
    /// A process becomes a child of this one before its dead parent can be reaped. So if no child is left except
    /// managed processes, no process of the client's is left anywhere.
    fn reap(&mut self) -> bool {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    self.stopped.remove(&pid);
                    if pid == self.client {
                        self.ended = Some(ExitStatus::from_raw(status.as_raw()));
                    }
                }
                // The end of a child that was alive in `wait` and is none any more is a signal that comes next.
                Ok(None) => return self.ended.is_some() && left_by_client().is_empty(),
                Err(rustix::io::Errno::INTR) => {}
                // There is no child any more.
                Err(_) => return true,
            }
        }
    }

    /// Sends a signal to the client; when that has ended, to those of its descendants that have become this
    /// process's children. None of them can have got another one's pid: only this process reaps them.
    fn signal(&mut self, number: i32) {
        if is_stop(number) {
            self.stop = Some(number);
            self.stopped.clear();
        }
        let living = match self.ended {
            None => vec![self.client],
            Some(_) => left_by_client(),
        };
        for pid in living {
            // It may have ended right now.
            let _ = signals::send(pid, number);
            if is_stop(number) {
                self.stopped.insert(pid);
            }
        }
    }

    /// The stop signal for the descendants of a client that has ended after it got that signal, if it did.
    fn stop_of_left(&self) -> Option<i32> {
        self.ended.and(self.stop)
    }

    /// Sends the client's stop signal to each descendant that has become this process's child since.
    ///
    /// A container's stop signal reaches the client only. If the client's descendants did not get it as well, they
    /// would keep the container alive until it is killed, and the service with it.
    fn stop_left(&mut self) {
        let Some(stop) = self.stop_of_left() else {
            return;
        };
        for pid in left_by_client() {
            if self.stopped.insert(pid) {
                let _ = signals::send(pid, stop);
            }
        }
    }
}

/// The children of this process that the client has left.
fn left_by_client() -> Vec<Pid> {
    let mut left = children();
    left.retain(|pid| {
        let pid = pid.as_raw_nonzero().get().unsigned_abs();
        // If that cannot be told, the child is watched.
        !procref::is_managed(pid).unwrap_or(false)
    });
    left
}

/// The children of this process, whichever of its threads they are of.
fn children() -> Vec<Pid> {
    let mut children = Vec::new();
    let tasks = fs::read_dir(format!("/proc/{}/task", process::id()));
    for task in tasks.into_iter().flatten().flatten() {
        let list = fs::read_to_string(task.path().join("children"));
        let pids = list.unwrap_or_default();
        let pids = pids.split_whitespace().filter_map(|pid| pid.parse().ok());
        children.extend(pids.filter_map(Pid::from_raw));
    }
    children
}

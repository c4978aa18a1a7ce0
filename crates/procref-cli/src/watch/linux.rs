//! The client's parent, which waits until all descendants of the client have exited.
//!
//! A child of this process acquires the service itself and then becomes the client. The client therefore has its own
//! reference, and keeps the service even if this process is killed. This process cannot pass on its own reference,
//! because the kernel counts references by process. `PR_SET_PDEATHSIG`, which would kill the client together with this
//! process, was rejected, because the user decides about the client.
//!
//! # Descendants of the client
//!
//! This process is a subreaper or the first process of a container. Each descendant that loses its parent becomes its
//! child. Supervisors of services that a descendant started are among these children, and so are services whose
//! supervisor was killed. They are managed processes and do not belong to the client, because other clients may hold such
//! a service. A service that this process holds stops only after this process has released it. If this process waited
//! for such a service, it would wait for itself. It therefore neither waits for managed processes nor sends them
//! signals. [`procref::is_managed`] identifies them.

use std::collections::HashSet;
use std::env;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{self, Command, ExitCode, ExitStatus};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, WaitOptions};
use signal_hook::consts::{
    SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH,
};

use crate::error::{Error, Result};
use crate::process_tree::children;
use crate::signals::{self, ReceivedSignals};

/// The variable that is set in the child that becomes the client. Its value is [`IGNORES_CHILDREN`] if the client
/// ignores SIGCHLD.
pub(crate) const WATCHED: &str = "PROCREF_WATCHED";

const IGNORES_CHILDREN: &str = "ignores-children";

const FORWARDED: [i32; 8] = [
    SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT,
];

/// Further signals that may stop a container: systemd uses SIGRTMIN+3, and LXC uses SIGPWR. Their default action would
/// kill any other process.
fn forwarded_by_first_process() -> impl Iterator<Item = i32> {
    let realtime = libc::SIGRTMIN()..=libc::SIGRTMAX();
    realtime.chain([libc::SIGALRM, libc::SIGIO, libc::SIGPWR])
}

/// The interval at which the watcher reads its children while it forwards a stop signal.
const INTERVAL: Duration = Duration::from_millis(100);

/// Returns `true` if the signal stops a process. SIGHUP is not included, because many daemons reload their
/// configuration on it.
fn is_stop(signal: i32) -> bool {
    let is_container_stop = || signal == libc::SIGPWR || signal == libc::SIGRTMIN() + 3;
    matches!(signal, SIGINT | SIGQUIT | SIGTERM) || is_container_stop()
}

/// Returns `true` if this process becomes the client.
pub(crate) fn is_watched() -> bool {
    env::var_os(WATCHED).is_some()
}

/// Returns `true` if this is the first process of its pid namespace. When it exits, the kernel kills all other
/// processes of the namespace.
pub(crate) fn is_first_process() -> bool {
    process::id() == 1
}

/// Restores the signal dispositions that the client must have. The process that becomes the client calls this.
pub(crate) fn restore_signals() -> Result<()> {
    if env::var_os(WATCHED).is_some_and(|how| how == IGNORES_CHILDREN) {
        signals::ignore(SIGCHLD).map_err(|error| Error::io("ignore SIGCHLD", error))?;
    }
    Ok(())
}

/// The future parent of the client.
pub(crate) struct Watcher {
    signals: Option<ReceivedSignals>,
    ignores_children: bool,
}

impl Watcher {
    /// Call this before the service is acquired.
    ///
    /// The first process of a pid namespace has no default actions: a signal without a handler is lost. Such
    /// a process therefore handles signals during the start, too, and keeps them for the client. During the
    /// start, they kill any other process, as without `--watch-client`.
    pub(crate) fn new() -> Result<Self> {
        let ignores_children = signals::is_ignored(SIGCHLD);
        let signals = is_first_process().then(listen).transpose()?;
        Ok(Self {
            signals,
            ignores_children,
        })
    }

    /// Runs the client, and returns when the client and all of its descendants have exited.
    pub(crate) fn watch(self) -> Result<ClientExit> {
        // Orphaned descendants of the client become children of this process.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(|error| Error::io("become a subreaper", error.into()))?;
        // The handlers must be installed before the child exists. Otherwise its SIGCHLD could be missed.
        let signals = match self.signals {
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
        // The signals are unblocked only now, because the client must inherit the original mask.
        signals::unblock(handled())
            .map_err(|error| Error::io("unblock the signals of the watcher", error))?;
        let mut processes = ClientProcesses::new(child.id());
        loop {
            // A process can become a child of this process without a signal, if its dead parent was not a child of this
            // process.
            let arrived = match processes.stop_for_orphans() {
                Some(_) => {
                    thread::sleep(INTERVAL);
                    signals.pending()
                }
                None => signals.wait(),
            };
            let arrived = arrived.map_err(|error| Error::io("read the signals", error))?;
            for signal in arrived {
                // The client may have exited already. Its descendants would miss a signal that is sent to the client.
                processes.reap();
                // The terminal also sends its signals to the client, which must not get them twice.
                if signal.number != SIGCHLD && !signal.is_from_kernel() {
                    processes.signal(signal.number);
                }
            }
            if processes.reap() {
                return Ok(ClientExit(processes.exit));
            }
            processes.stop_orphans();
        }
    }
}

/// Returns the forwarded signals that are not ignored, and SIGCHLD.
fn handled() -> impl Iterator<Item = i32> {
    let more = is_first_process().then(forwarded_by_first_process);
    let forwarded = FORWARDED.into_iter().chain(more.into_iter().flatten());
    forwarded
        .filter(|&signal| !signals::is_ignored(signal))
        .chain([SIGCHLD])
}

/// Handles the forwarded signals and SIGCHLD.
///
/// A signal that was ignored stays ignored in this process and, because `exec` keeps that, in the client. SIGCHLD must
/// be handled, because the kernel keeps no exit status while it is ignored.
fn listen() -> Result<ReceivedSignals> {
    ReceivedSignals::listen(handled()).map_err(|error| Error::io("handle signals", error))
}

/// The exit status of the client.
pub(crate) struct ClientExit(Option<ExitStatus>);

impl ClientExit {
    /// Returns the exit code of `run`: the client's, or 128 plus the signal that killed the client.
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

/// The client and its orphaned descendants.
struct ClientProcesses {
    client: Pid,
    exit: Option<ExitStatus>,
    /// The last stop signal that was forwarded.
    stop: Option<i32>,
    /// The living children that got `stop`.
    stopped: HashSet<Pid>,
}

impl ClientProcesses {
    fn new(pid: u32) -> Self {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        Self {
            client: pid.expect("a child has a pid"),
            exit: None,
            stop: None,
            stopped: HashSet::new(),
        }
    }

    /// Reaps all children that have exited. Returns `true` if the client and all of its descendants have exited.
    ///
    /// An orphan becomes a child of this process before its dead parent can be reaped. If only managed processes are
    /// children, no descendant of the client remains.
    fn reap(&mut self) -> bool {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    self.stopped.remove(&pid);
                    if pid == self.client {
                        self.exit = Some(ExitStatus::from_raw(status.as_raw()));
                    }
                }
                // If a child exits after `wait`, the next SIGCHLD reports it.
                Ok(None) => return self.exit.is_some() && orphans().is_empty(),
                Err(rustix::io::Errno::INTR) => {}
                // There are no children.
                Err(_) => return true,
            }
        }
    }

    /// Sends a signal to the client. If the client has exited, sends it to the client's orphaned descendants.
    ///
    /// The kernel cannot have reused their pids, because only this process reaps them.
    fn signal(&mut self, number: i32) {
        if is_stop(number) {
            self.stop = Some(number);
            self.stopped.clear();
        }
        let living = match self.exit {
            None => vec![self.client],
            Some(_) => orphans(),
        };
        for pid in living {
            // An error is ignored, because the process may have just exited.
            let _ = signals::send(pid, number);
            if is_stop(number) {
                self.stopped.insert(pid);
            }
        }
    }

    /// Returns the stop signal for orphans, if the client has exited after it got a stop signal.
    fn stop_for_orphans(&self) -> Option<i32> {
        self.exit.and(self.stop)
    }

    /// Sends the client's stop signal to each new orphan.
    ///
    /// A container's stop signal reaches only the client. If the client's descendants did not receive it,
    /// too, they would keep the container and the service running until the container is killed.
    fn stop_orphans(&mut self) {
        let Some(stop) = self.stop_for_orphans() else {
            return;
        };
        for pid in orphans() {
            if self.stopped.insert(pid) {
                let _ = signals::send(pid, stop);
            }
        }
    }
}

/// Returns the client's orphaned descendants: the children of this process that are not managed.
fn orphans() -> Vec<Pid> {
    let mut orphans = children(process::id());
    // A child that cannot be read counts as an orphan.
    orphans.retain(|&pid| !procref::is_managed(pid).unwrap_or(false));
    let pids = orphans.into_iter();
    pids.filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?))
        .collect()
}

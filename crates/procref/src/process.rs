//! Processes told apart: who is alive, who is signalled.
//!
//! A pid is a number that the kernel gives to somebody else once its process is gone,
//! so it names nobody for sure. Here a process is its pid **and its start time**, and on
//! Linux a [pidfd](https://man7.org/linux/man-pages/man2/pidfd_open.2.html), which stays
//! with one process whatever becomes of the number. [`Process`] is that; the functions
//! that take a bare pid are for callbacks that have nothing else.
//!
//! # Whom nobody here signals
//!
//! Pid 0 (to the kernel: "my whole process group"), pid 1, the calling process, and
//! everything above `i32::MAX` (to the kernel: a process group, or everybody). The
//! functions do nothing then but log a warning, the methods return an error.
//!
//! # Windows
//!
//! Windows has no signals. A process is asked to end by the first of these that it has, and by no other:
//!
//! 1. the event `Local\procref-stop-PID` (PID in decimal digits), which a service creates, if it wants to be asked,
//!    and waits for (in Rust: `StopEvent`; elsewhere
//!    [`CreateEventW`](https://learn.microsoft.com/windows/win32/api/synchapi/nf-synchapi-createeventw)). It is set;
//! 2. a console that the caller is on as well. It gets
//!    [`CTRL_BREAK_EVENT`](https://learn.microsoft.com/windows/console/ctrl-c-and-ctrl-break-signals), which ends a
//!    program that does not handle it. Only a service that procref has created, with a
//!    [stop signal](crate::StopSignal) that terminals send: of no other process is it known to be the head of a
//!    process group, and Ctrl-Break for one that is not reaches everybody on the console. So the functions here
//!    do not use it;
//! 3. top-level windows on the caller's desktop that no other window owns, visible or not, but for consoles. They get
//!    [`WM_CLOSE`](https://learn.microsoft.com/windows/win32/winmsg/wm-close). Of a service in procref's care that has none
//!    itself, those of the processes that it has started.
//!
//! A process that has none of these cannot be asked: [`terminate`] does nothing to it, and [`stop`] ends it at
//! once, as [`kill`] does (`TerminateProcess`, exit code 137). Both log a warning then. By what a process was asked is logged
//! as well, at the level of debugging.
//!
//! To look for windows user32.dll is loaded into the calling process, if it is not there. From then on
//! [Windows does not tell](https://learn.microsoft.com/windows/console/handlerroutine) a console program's control handlers
//! of a logoff or a shutdown.
//!
//! # Platforms
//!
//! On Windows a process is known by its pid and creation time, and its handle is kept open, so that nobody else
//! gets the pid.
//!
//! Linux 5.3 and later use pidfds. Where the kernel or a sandbox refuses them, the start
//! time in [`/proc/PID/stat`](https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html) is
//! compared right before each signal, and waiting looks every 5 ms.
//!
//! # Examples
//!
//! ```
//! use std::process::Command;
//! use std::time::Duration;
//! use procref::process::Process;
//!
//! let mut child = Command::new("sleep").arg("60").spawn()?;
//! let process = Process::open(child.id())?;
//! assert!(process.is_alive());
//! process.stop(Duration::from_secs(5))?;
//! assert!(!process.is_alive()); // also while it is a zombie
//! child.wait()?;
//! # Ok::<(), procref::Error>(())
//! ```

use std::io;
use std::time::Duration;

use crate::error::{Error, Result};

#[cfg(all(unix, feature = "fuzzing"))]
pub(crate) mod fuzz;
#[cfg(unix)]
pub(crate) mod proc_info;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;

#[cfg(windows)]
pub use sys::StopEvent;
#[cfg(windows)]
pub(crate) use sys::{BREAK, close_windows, is_supervisor, proc_info};
#[cfg(unix)]
pub(crate) use sys::{SUPERVISOR_TITLE, SignalSafeProcess, forked, has_executed};
pub(crate) use sys::{Signal, fork_epoch, is_suspended, view};
#[cfg(feature = "crash-points")]
pub(crate) use sys::{kill_myself, suspend_myself};

/// How long a killed process may take to be gone. Only one that is stuck in the kernel takes longer.
pub(crate) const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// The pids, the clock and the kernel objects that a process sees, as numbers.
///
/// A pid, a start time and the id of a kernel object mean something only to processes with equal views.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct View(pub(crate) [u64; Self::NUMBERS]);

impl View {
    /// Device and inode of three namespaces on Linux. On Windows the session, and zeros.
    pub(crate) const NUMBERS: usize = 6;
}

/// Whether this process still sees of the machine what it saw when `view` was taken.
///
/// A process can move to another IPC or time namespace, and its forked child can be in another pid namespace.
/// Identities, ids of kernel objects and records from before mean something else there.
pub(crate) fn check_view(view: View) -> Result<()> {
    if sys::view()? == view {
        return Ok(());
    }
    Err(Error::Namespaces {
        reason: "this process has moved to another pid, IPC or time namespace since the service was built; \
                 build the service again"
            .to_owned(),
    })
}

/// A process by pid and start time: what can be stored, and compared after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    pub(crate) pid: u32,
    /// Clock ticks from boot to its start; the unit does not matter, it is only compared.
    pub(crate) start: u64,
}

impl Identity {
    /// This very process, if it still lives.
    pub(crate) fn find(self) -> Result<Option<Process>> {
        Ok(Process::find(self.pid)?.filter(|found| found.identity == self))
    }

    pub(crate) fn is_alive(self) -> bool {
        matches!(self.find(), Ok(Some(_)))
    }
}

/// One process, told from a later one with the same pid.
///
/// It keeps its meaning for as long as it exists, also after the process has ended and its pid was
/// given away. On Linux it holds a file descriptor (close-on-exec) once it was asked or told
/// something.
///
/// ```
/// use std::process::Command;
/// use std::time::Duration;
/// use procref::process::Process;
///
/// let mut child = Command::new("sleep").arg("60").spawn()?;
/// let process = Process::open(child.id())?;
/// assert!(process.is_alive());
/// assert_eq!(process.pid(), child.id());
///
/// process.terminate()?; // asks
/// if !process.wait(Duration::from_secs(5))? {
///     process.kill()?; // makes it
/// }
/// child.wait()?;
///
/// // Whoever has the pid by now is not meant: this does nothing.
/// process.stop(Duration::from_secs(5))?;
/// assert!(!process.is_alive());
/// # Ok::<(), procref::Error>(())
/// ```
#[derive(Debug)]
pub struct Process {
    identity: Identity,
    handle: sys::Handle,
}

impl Process {
    /// The process that has this pid now.
    ///
    /// # Errors
    ///
    /// There is no such process (a zombie counts as gone), the number cannot be a process's,
    /// or `/proc` does not show the process (`hidepid`, `/proc` not mounted).
    pub fn open(pid: u32) -> Result<Self> {
        Self::find(pid)?.ok_or_else(|| Error::Process {
            operation: "open",
            pid,
            source: io::Error::new(io::ErrorKind::NotFound, "no such process"),
        })
    }

    /// The process that has this pid now; `None` if there is none.
    pub(crate) fn find(pid: u32) -> Result<Option<Self>> {
        if !is_possible(pid) {
            return Ok(None);
        }
        let found = sys::start_time(pid).map_err(|source| Error::Process {
            operation: "look up",
            pid,
            source,
        })?;
        Ok(found.map(|start| Self {
            identity: Identity { pid, start },
            handle: sys::Handle::default(),
        }))
    }

    /// The pid it has, or had.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.identity.pid
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    /// Whether it is alive. A zombie is dead; a process that may not be signalled is alive.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        sys::is_alive(self.identity, &self.handle)
    }

    /// Asks it to end (`SIGTERM`; on Windows [by what it has](self#windows)). One that is gone already is no
    /// error.
    ///
    /// # Errors
    ///
    /// It may not be signalled by this user, or is one that nobody here signals.
    pub fn terminate(&self) -> Result<()> {
        if !self.signal("terminate", sys::TERMINATE)? {
            let pid = self.pid();
            tracing::warn!(pid, "there is no way to ask it to end: nothing was done");
        }
        Ok(())
    }

    /// Ends it (`SIGKILL`, `TerminateProcess`). One that is gone already is no error.
    ///
    /// # Errors
    ///
    /// As [`terminate`](Self::terminate).
    pub fn kill(&self) -> Result<()> {
        self.signal("kill", sys::KILL).map(drop)
    }

    /// Asks it to end, and kills it if it is still there after `grace`.
    ///
    /// Returns as soon as it is gone. It need not be a child of this process. A process that is
    /// stopped (`SIGSTOP`) is continued, so that it can act on the request.
    ///
    /// # Errors
    ///
    /// As [`terminate`](Self::terminate), or it is alive 5 s after it was killed.
    pub fn stop(&self, grace: Duration) -> Result<()> {
        if self.signal("terminate", sys::TERMINATE)? {
            self.wake()?;
            if self.wait(grace)? {
                return Ok(());
            }
        } else {
            let pid = self.pid();
            tracing::warn!(
                pid,
                "there is no way to ask it to end: ended at once, without its grace"
            );
        }
        self.kill()?;
        if self.wait(KILL_TIMEOUT)? {
            return Ok(());
        }
        Err(Error::Process {
            operation: "stop",
            pid: self.pid(),
            source: io::Error::new(
                io::ErrorKind::TimedOut,
                "it is alive 5 s after SIGKILL, stuck in the kernel",
            ),
        })
    }

    /// Asks it to end by the signal of this number. False: there is no way to ask it.
    pub(crate) fn request_stop(&self, number: i32) -> Result<bool> {
        let signal = Signal::from_named_raw(number).unwrap_or(sys::TERMINATE);
        self.signal("terminate", signal)
    }

    /// Continues it where it is stopped, so that it can act on what it was sent.
    pub(crate) fn wake(&self) -> Result<()> {
        self.signal("continue", sys::CONTINUE).map(drop)
    }

    /// Waits until it is gone, at most `timeout`; tells whether it is.
    ///
    /// Returns as soon as it is gone, and does not reap it where it is a child of this process.
    ///
    /// # Errors
    ///
    /// The operating system refused to wait.
    pub fn wait(&self, timeout: Duration) -> Result<bool> {
        sys::wait(self.identity, &self.handle, timeout).map_err(|source| Error::Process {
            operation: "wait for",
            pid: self.pid(),
            source,
        })
    }

    /// False: it listens to nothing by which it could be told.
    fn signal(&self, operation: &'static str, signal: sys::Signal) -> Result<bool> {
        let pid = self.pid();
        if let Some(reason) = untouchable(pid) {
            return Err(Error::Process {
                operation,
                pid,
                source: io::Error::new(io::ErrorKind::InvalidInput, reason),
            });
        }
        sys::signal(self.identity, &self.handle, signal).map_err(|source| Error::Process {
            operation,
            pid,
            source,
        })
    }
}

/// Whether the process that has this pid now is alive.
///
/// A zombie is dead; a process that may not be signalled is alive. False for 0 and for
/// numbers above `i32::MAX`. The pid may have gone to another process meanwhile: to ask for
/// one process for sure, keep a [`Process`], or use
/// [`ServiceInfo::is_alive`](crate::ServiceInfo::is_alive) of a handle.
///
/// ```
/// assert!(procref::process::is_alive(std::process::id()));
/// assert!(!procref::process::is_alive(0));
/// ```
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    is_possible(pid) && sys::is_pid_alive(pid)
}

/// Asks the process that has this pid now to end (`SIGTERM`; on Windows [by what it has](self#windows)).
///
/// Does nothing if there is none, or if it is one that [nobody here signals](self).
///
/// ```
/// let mut child = std::process::Command::new("sleep").arg("60").spawn()?;
/// procref::process::terminate(child.id()); // it is still ours to wait for, so this pid is nobody else's
/// assert!(!child.wait()?.success());
/// # Ok::<(), procref::Error>(())
/// ```
pub fn terminate(pid: u32) {
    act("terminate", pid, Process::terminate);
}

/// Ends the process that has this pid now (`SIGKILL`).
///
/// Does nothing if there is none, or if it is one that [nobody here signals](self).
///
/// ```
/// let mut child = std::process::Command::new("sleep").arg("60").spawn()?;
/// procref::process::kill(child.id()); // it is still ours to wait for, so this pid is nobody else's
/// assert!(!child.wait()?.success());
/// # Ok::<(), procref::Error>(())
/// ```
pub fn kill(pid: u32) {
    act("kill", pid, Process::kill);
}

/// Asks the process that has this pid now to end, and kills it if it is still there after
/// `timeout_ms` milliseconds.
///
/// Blocks, and returns as soon as it is gone. See [`Process::stop`].
/// Does nothing if there is none, or if it is one that [nobody here signals](self).
///
/// ```
/// let mut child = std::process::Command::new("sleep").arg("60").spawn()?;
/// procref::process::stop(child.id(), 5_000);
/// assert!(!procref::process::is_alive(child.id()));
/// child.wait()?;
/// # Ok::<(), procref::Error>(())
/// ```
pub fn stop(pid: u32, timeout_ms: u64) {
    act("stop", pid, |process| {
        process.stop(Duration::from_millis(timeout_ms))
    });
}

fn act(operation: &'static str, pid: u32, action: impl FnOnce(&Process) -> Result<()>) {
    if let Some(reason) = untouchable(pid) {
        tracing::warn!(pid, operation, reason, "refused to signal a process");
        return;
    }
    let done = match Process::find(pid) {
        Ok(Some(process)) => action(&process),
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = done {
        tracing::warn!(pid, operation, %error, "could not signal a process");
    }
}

/// Returns `true` if the process that has this pid now is a supervisor.
#[cfg(unix)]
pub(crate) fn is_supervisor(pid: u32) -> bool {
    SignalSafeProcess::is_supervisor(pid)
}

fn is_possible(pid: u32) -> bool {
    pid != 0 && i32::try_from(pid).is_ok()
}

fn untouchable(pid: u32) -> Option<&'static str> {
    match pid {
        0 => Some("pid 0 would mean a whole process group"),
        1 => Some("pid 1 is the system's, or the container's, first process"),
        _ if !is_possible(pid) => Some("no process has a pid above i32::MAX"),
        _ if pid == std::process::id() => Some("it is the calling process"),
        _ => None,
    }
}

#[cfg(all(test, unix))]
mod tests;

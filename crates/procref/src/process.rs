//! Processes: identify them, check whether they are alive, and signal them.
//!
//! After a process has exited, the kernel gives its pid to another process. So a pid alone does not identify
//! a process. A [`Process`] is identified by its pid **and its start time**, and on Linux also by a
//! [pidfd](https://man7.org/linux/man-pages/man2/pidfd_open.2.html), which refers to one process even if the
//! pid is reused. The functions that take a pid are for callbacks that have only a pid.
//!
//! # Protected processes
//!
//! procref never signals these pids:
//!
//! - 0, which means the caller's whole process group to the kernel,
//! - 1, the first process of the system or of the container,
//! - the pid of the calling process,
//! - numbers above `i32::MAX`, which mean a process group, or every process, to the kernel.
//!
//! For these pids, the functions log a warning and do nothing, and the methods return an error.
//!
//! # Windows
//!
//! Windows has no signals. procref sends a stop request by the first of these means that the process has, and
//! by no other:
//!
//! 1. *The stop event.* Its name is `Local\procref-stop-PID`, with the pid in decimal digits. A service that
//!    supports stop requests creates the event and waits for it. In Rust, use `StopEvent`. In other
//!    languages, call
//!    [`CreateEventW`](https://learn.microsoft.com/windows/win32/api/synchapi/nf-synchapi-createeventw).
//! 2. *A console that the caller shares.* The process gets
//!    [`CTRL_BREAK_EVENT`](https://learn.microsoft.com/windows/console/ctrl-c-and-ctrl-break-signals), which ends a
//!    program that does not handle it. procref does this only for a service that it has started and whose [stop
//!    signal](crate::StopSignal) is one that terminals send. Such a service leads a process group. For any other
//!    process the event could reach every process on the console, so the functions of this module do not send it.
//! 3. *Windows.* Top-level windows on the caller's desktop that no other window owns get
//!    [`WM_CLOSE`](https://learn.microsoft.com/windows/win32/winmsg/wm-close), whether they are visible or not.
//!    Consoles are excluded. If a service that procref manages has no window, the windows of the processes that it
//!    has started get the message.
//!
//! A process that has none of these cannot receive a stop request. [`terminate`] then does nothing, and
//! [`stop`] terminates the process immediately, like [`kill`] (`TerminateProcess`, exit code 137). Both log a
//! warning. The means of each stop request is logged at level `debug`.
//!
//! To find windows, procref loads user32.dll into the calling process. After that, [Windows does not
//! notify](https://learn.microsoft.com/windows/console/handlerroutine) the control handlers of a console
//! program of a logoff or a shutdown.
//!
//! # Platforms
//!
//! Linux 5.3 and later have pidfds. If the kernel or a sandbox refuses them, procref compares the start time in
//! [`/proc/PID/stat`](https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html) right before each signal, and waits
//! by checking every 5 ms.
//!
//! On macOS, procref compares the start time right before each signal, and waits by
//! [kqueue](https://developer.apple.com/library/archive/documentation/System/Conceptual/ManPages_iPhoneOS/man2/kqueue.2.html).
//!
//! On Windows a process is identified by its pid and creation time. procref keeps a handle on it open, so that no
//! other process gets the pid.
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
//! assert!(!process.is_alive()); // a zombie is not alive
//! child.wait()?;
//! # Ok::<(), procref::Error>(())
//! ```

use std::io;
use std::time::Duration;

use crate::error::{Error, Result};

#[cfg(all(target_os = "linux", feature = "fuzzing"))]
pub(crate) mod fuzz;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
pub(crate) mod macos;
#[cfg(windows)]
mod windows;
#[cfg(target_os = "linux")]
use linux as sys;
#[cfg(target_os = "macos")]
use macos as sys;
#[cfg(windows)]
use windows as sys;

#[cfg(unix)]
pub(crate) use procref_supervisor::process::SignalSafeProcess;
pub(crate) use procref_supervisor::spec::KILL_TIMEOUT;
pub(crate) use procref_supervisor::state::Identity;
#[cfg(windows)]
pub use sys::StopEvent;
#[cfg(windows)]
pub(crate) use sys::{BREAK, close_windows};
pub(crate) use sys::{Signal, fork_epoch, is_supervisor, is_suspended, proc_info, view};
#[cfg(unix)]
pub(crate) use sys::{has_executed, supervisor_title};
#[cfg(all(windows, feature = "crash-points"))]
pub(crate) use sys::{kill_myself, suspend_myself};

/// The view of a process: its pids, its clock and its kernel objects, identified by numbers.
///
/// A pid, a start time and the id of a kernel object have the same meaning only for processes with equal views.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct View(pub(crate) [u64; Self::NUMBERS]);

impl View {
    /// On Linux, device and inode of three namespaces. On Windows, the session and zeros.
    pub(crate) const NUMBERS: usize = 6;
}

/// Checks that this thread has the same view as when `view` was taken.
///
/// A thread can move to another IPC or time namespace, and a forked child can be in another pid namespace.
/// Earlier identities, ids of kernel objects and records have another meaning there.
pub(crate) fn check_view(view: View) -> Result<()> {
    if sys::view()? == view {
        return Ok(());
    }
    Err(Error::Namespaces {
        reason: "this process has moved to another pid, IPC or time namespace since the service was built \
                 (build the service again)"
            .to_owned(),
    })
}

/// Returns the process with this identity, or `None` if it has exited.
pub(crate) fn find(identity: Identity) -> Result<Option<Process>> {
    Ok(Process::find(identity.pid)?.filter(|found| found.identity == identity))
}

/// Returns `true` if the process with this identity is alive.
pub(crate) fn is_identity_alive(identity: Identity) -> bool {
    matches!(find(identity), Ok(Some(_)))
}

/// A process, distinguished from later processes with the same pid.
///
/// A `Process` refers to one process as long as the value exists, even after that process has exited and
/// another one has its pid. On Linux it holds a file descriptor (close-on-exec) after its first use.
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
/// process.terminate()?; // asks the process to exit
/// if !process.wait(Duration::from_secs(5))? {
///     process.kill()?; // forces it to exit
/// }
/// child.wait()?;
///
/// // Another process may have the pid now. It is not signaled.
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
    /// Returns the process that has this pid now.
    ///
    /// # Errors
    ///
    /// [`Error::Process`]: no process has this pid (a zombie counts as exited), the number cannot be a pid, or
    /// `/proc` does not show the process (option `hidepid`, or `/proc` is not mounted).
    pub fn open(pid: u32) -> Result<Self> {
        Self::find(pid)?.ok_or_else(|| Error::Process {
            operation: "open",
            pid,
            source: io::Error::new(io::ErrorKind::NotFound, "no such process"),
        })
    }

    /// Returns the process that has this pid now, or `None` if there is none.
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

    /// Returns the pid of the process. After the process has exited, another one may have this pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.identity.pid
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    /// Returns `true` if the process is alive. A zombie is not alive. A process that this user may not signal is
    /// alive.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        sys::is_alive(self.identity, &self.handle)
    }

    /// Requests that the process exit: with `SIGTERM`, on Windows [in one of three ways](self#windows).
    /// Succeeds if the process has already exited.
    ///
    /// # Errors
    ///
    /// [`Error::Process`]: this user may not signal the process, or it is [protected](self#protected-processes).
    pub fn terminate(&self) -> Result<()> {
        if !self.signal("terminate", sys::TERMINATE)? {
            let pid = self.pid();
            tracing::warn!(
                pid,
                "the process offers no way to ask it to exit; nothing was done"
            );
        }
        Ok(())
    }

    /// Ends the process: with `SIGKILL`, on Windows with `TerminateProcess`. Succeeds if the process has already
    /// exited.
    ///
    /// # Errors
    ///
    /// [`Error::Process`]: this user may not signal the process, or it is [protected](self#protected-processes).
    pub fn kill(&self) -> Result<()> {
        self.signal("kill", sys::KILL).map(drop)
    }

    /// Requests that the process exit, and kills it if it is still alive after `grace`.
    ///
    /// Returns as soon as the process has exited. The process does not have to be a child of this process. If
    /// the process is suspended (`SIGSTOP`), it is continued, so that it can act on the request.
    ///
    /// # Errors
    ///
    /// [`Error::Process`]: this user may not signal the process, it is [protected](self#protected-processes), or it
    /// is still alive 5 s after it was killed.
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
                "the process offers no way to ask it to exit; killed it at once"
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
                "it is alive 5 s after it was killed, so it is stuck in the kernel",
            ),
        })
    }

    /// Sends the signal of this number as a stop request. Returns `false` if the process cannot receive one.
    pub(crate) fn request_stop(&self, number: i32) -> Result<bool> {
        let signal = Signal::from_named_raw(number).unwrap_or(sys::TERMINATE);
        self.signal("terminate", signal)
    }

    /// Continues the process if it is suspended, so that it can act on a signal.
    pub(crate) fn wake(&self) -> Result<()> {
        self.signal("continue", sys::CONTINUE).map(drop)
    }

    /// Waits until the process has exited, at most `timeout`. Returns `true` if it has exited.
    ///
    /// Does not reap the process if it is a child of this process.
    ///
    /// # Errors
    ///
    /// [`Error::Process`]: the operating system refused to wait.
    pub fn wait(&self, timeout: Duration) -> Result<bool> {
        sys::wait(self.identity, &self.handle, timeout).map_err(|source| Error::Process {
            operation: "wait for",
            pid: self.pid(),
            source,
        })
    }

    /// Returns `false` if the process cannot receive the signal.
    fn signal(&self, operation: &'static str, signal: sys::Signal) -> Result<bool> {
        let pid = self.pid();
        if let Some(reason) = protected(pid) {
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

/// Returns `true` if the process that has this pid now is alive.
///
/// A zombie is not alive. A process that this user may not signal is alive. Returns `false` for 0 and for numbers
/// above `i32::MAX`.
///
/// The pid may have been reused after the caller read it. To check one specific process, keep a [`Process`],
/// or use [`ServiceInfo::is_alive`](crate::ServiceInfo::is_alive) of a handle.
///
/// ```
/// assert!(procref::process::is_alive(std::process::id()));
/// assert!(!procref::process::is_alive(0));
/// ```
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    is_possible(pid) && sys::is_pid_alive(pid)
}

/// Requests that the process with this pid exit: with `SIGTERM`, on Windows [in one of three
/// ways](self#windows).
///
/// Does nothing if no process has the pid. Logs a warning and does nothing if the process is
/// [protected](self#protected-processes), or if this user may not signal it.
///
/// ```
/// let mut child = std::process::Command::new("sleep").arg("60").spawn()?;
/// procref::process::terminate(child.id()); // no other process has the pid before `wait`
/// assert!(!child.wait()?.success());
/// # Ok::<(), procref::Error>(())
/// ```
pub fn terminate(pid: u32) {
    act("terminate", pid, Process::terminate);
}

/// Ends the process that has this pid now: with `SIGKILL`, on Windows with `TerminateProcess`.
///
/// Does nothing if no process has the pid. Logs a warning and does nothing if the process is
/// [protected](self#protected-processes), or if this user may not signal it.
///
/// ```
/// let mut child = std::process::Command::new("sleep").arg("60").spawn()?;
/// procref::process::kill(child.id()); // no other process has the pid before `wait`
/// assert!(!child.wait()?.success());
/// # Ok::<(), procref::Error>(())
/// ```
pub fn kill(pid: u32) {
    act("kill", pid, Process::kill);
}

/// Requests that the process with this pid exit, and kills it if it is still alive after `timeout_ms`
/// milliseconds.
///
/// Blocks, and returns as soon as the process has exited. See [`Process::stop`].
///
/// Does nothing if no process has the pid. Logs a warning and does nothing if the process is
/// [protected](self#protected-processes), or if this user may not signal it.
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
    if let Some(reason) = protected(pid) {
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

/// Returns a title with the name of a service, on one line.
#[cfg(unix)]
fn title(before: &str, name: &str) -> String {
    let name: String = name
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    format!("{before}{name}")
}

/// Converts the arguments of a process, with a NUL after each, to one line. The program may have written any bytes there.
#[cfg(unix)]
fn on_one_line(words: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(words);
    let line: String = text
        .trim_end_matches('\0')
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    (!line.is_empty()).then_some(line)
}

fn is_possible(pid: u32) -> bool {
    pid != 0 && i32::try_from(pid).is_ok()
}

fn protected(pid: u32) -> Option<&'static str> {
    match pid {
        0 => Some("pid 0 means a whole process group"),
        1 => Some("pid 1 is the first process of the system or container"),
        _ if !is_possible(pid) => Some("no process has a pid above i32::MAX"),
        _ if pid == std::process::id() => Some("it is the calling process"),
        _ => None,
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests;

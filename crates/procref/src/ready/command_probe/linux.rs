//! Runs the program in its own process group, so that procref can kill it together with its children.
//!
//! The exit status of a child is lost if the host program ignores SIGCHLD or waits for every child. So the
//! program is not a child of this process but of a monitor, which is forked here and waits for the program.
//! The monitor executes nothing and sends no signal when it exits, so no other part of the host notices it.

#![expect(unsafe_code, reason = "fork, execve and waitpid")]

use std::ffi::{CString, OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::ptr;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal};

use super::output::Output;
use super::{CommandProbe, ReadinessWait, WakeReason};
use procref_supervisor::calls::{
    block_signals, close_from, fork_here, fork_unseen, reset_signals, set_default_signals,
    set_signal_mask,
};

/// A running program.
pub(super) struct Run {
    /// The leader of the program's process group. This value reaps the leader when it is dropped, so the
    /// kernel does not reuse the leader's pid before that.
    monitor: Pid,
    /// The pipe on which the monitor reports how the program ended.
    status: OwnedFd,
    output: Output,
}

impl Run {
    pub(super) fn start(trial: &CommandProbe) -> io::Result<Self> {
        let image = Image::new(trial)?;
        let (status, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let (output, printer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let output = Output::new(output)?;
        let null = OpenOptions::new().read(true).open("/dev/null")?;
        let before = block_signals();
        let monitor = match fork_unseen() {
            0 => {
                let io = [null.as_raw_fd(), printer.as_raw_fd(), printer.as_raw_fd()];
                image.monitor(io, writer.as_raw_fd())
            }
            monitor => monitor,
        };
        let error = io::Error::last_os_error();
        set_signal_mask(&before);
        let monitor = i32::try_from(monitor).ok().filter(|&monitor| monitor > 0);
        let monitor = monitor.and_then(Pid::from_raw).ok_or(error)?;
        Ok(Self {
            monitor,
            status,
            output,
        })
    }

    /// Waits for the exit status, the alarm or the end of the time. Returns an error if the program could not
    /// be executed.
    pub(super) fn wait(
        &mut self,
        watch: &ReadinessWait<'_>,
    ) -> io::Result<Result<ExitStatus, WakeReason>> {
        loop {
            match watch.wait_readable([&self.status].into_iter().chain(self.output.pipe())) {
                WakeReason::Event => {}
                woken => return Ok(Err(woken)),
            }
            // The program must not wait for room in the pipe.
            self.output.read();
            let mut status = [PollFd::new(&self.status, PollFlags::IN)];
            if poll(&mut status, Some(&Timespec::default())) != Ok(0) {
                break;
            }
        }
        // The program may have printed its reason between the read and its exit.
        self.output.read();
        let mut bytes = [0; End::SIZE];
        let read = File::from(self.status.try_clone()?).read_exact(&mut bytes);
        read.map_err(|_| io::Error::other("its monitor was killed"))?;
        match End::decode(bytes) {
            End::Refused(errno) => Err(io::Error::from_raw_os_error(errno)),
            End::Status(status) => Ok(Ok(ExitStatus::from_raw(status))),
        }
    }

    /// Returns the end of the output that was read.
    pub(super) fn output(&self) -> &[u8] {
        self.output.tail()
    }

    /// Kills the program with its process group.
    pub(super) fn end(self) {
        if let Err(error) = rustix::process::kill_process_group(self.monitor, Signal::KILL) {
            tracing::debug!(%error, "could not kill a readiness command");
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // The monitor has reported the status or was killed. In every other case it exits with the program,
        // which may take a long time.
        let _ = rustix::process::kill_process(self.monitor, Signal::KILL);
        let monitor = self.monitor.as_raw_nonzero().get();
        loop {
            // SAFETY: the status pointer is null; `__WALL` finds a child that sends no signal.
            let reaped = unsafe { libc::waitpid(monitor, ptr::null_mut(), libc::__WALL) };
            if reaped != -1 || last_errno() != libc::EINTR {
                return;
            }
        }
    }
}

/// The result of a run.
enum End {
    /// The program could not be executed.
    Refused(i32),
    /// The status as `waitpid` returns it.
    Status(i32),
}

impl End {
    const SIZE: usize = 5;

    fn encode(&self) -> [u8; Self::SIZE] {
        let (kind, value) = match self {
            Self::Refused(errno) => (0, errno),
            Self::Status(status) => (1, status),
        };
        let [a, b, c, d] = value.to_ne_bytes();
        [kind, a, b, c, d]
    }

    fn decode([kind, a, b, c, d]: [u8; Self::SIZE]) -> Self {
        let value = i32::from_ne_bytes([a, b, c, d]);
        match kind {
            0 => Self::Refused(value),
            _ => Self::Status(value),
        }
    }
}

/// A program as `execve` takes it, prepared before the fork, because the children must not allocate.
struct Image {
    program: CString,
    args: Texts,
    env: Texts,
    dir: CString,
}

impl Image {
    fn new(trial: &CommandProbe) -> io::Result<Self> {
        let variable = |(name, value): &(OsString, OsString)| {
            text([name.as_bytes(), value.as_bytes()].join(&b'='))
        };
        let args = std::iter::once(&trial.name).chain(&trial.args);
        Ok(Self {
            program: text(trial.program.as_os_str().as_bytes())?,
            args: Texts::new(
                args.map(|arg| text(OsStr::as_bytes(arg)))
                    .collect::<io::Result<_>>()?,
            ),
            env: Texts::new(trial.env.iter().map(variable).collect::<io::Result<_>>()?),
            dir: text(trial.dir.as_os_str().as_bytes())?,
        })
    }

    /// Runs in the monitor: forks the program, waits for it, and reports how it ended.
    fn monitor(&self, io: [RawFd; 3], status: RawFd) -> ! {
        let _ = rustix::process::setpgid(None, None);
        // Set the default action, because the kernel keeps no status if SIGCHLD is ignored.
        set_default_signals();
        let child = match fork_here() {
            0 => self.execute(io, status),
            child => i32::try_from(child).unwrap_or(-1),
        };
        if child <= 0 {
            say(status, &End::Refused(last_errno()));
            exit();
        }
        // Close the host's other descriptors, because the monitor may live for a while.
        // SAFETY: no pointers are passed. The replaced descriptor is the host's, and this process does not use it.
        unsafe { libc::dup2(status, 0) };
        close_from(1);
        let mut how = 0;
        loop {
            // SAFETY: `how` is an integer that lives for the call, which writes to it.
            let reaped = unsafe { libc::waitpid(child, &raw mut how, libc::__WALL) };
            if reaped == child {
                say(0, &End::Status(how));
                exit();
            }
            if last_errno() != libc::EINTR {
                exit();
            }
        }
    }

    /// Runs in the monitor's child: executes the program.
    fn execute(&self, io: [RawFd; 3], status: RawFd) -> ! {
        // Moves the descriptors above the standard ones, which a host may have closed.
        // SAFETY: no pointers are passed.
        let status = unsafe { libc::fcntl(status, libc::F_DUPFD_CLOEXEC, 3) };
        let refused = self.prepare(io).err().unwrap_or_else(|| {
            reset_signals();
            let (args, env) = (self.args.pointers.as_ptr(), self.env.pointers.as_ptr());
            // SAFETY: `program` is a NUL-terminated string. `args` and `env` are null-terminated arrays of
            // such strings. All are in this process's copy of the host's memory.
            unsafe { libc::execve(self.program.as_ptr(), args, env) };
            last_errno()
        });
        say(status, &End::Refused(refused));
        exit()
    }

    /// Returns the number of an error.
    fn prepare(&self, io: [RawFd; 3]) -> Result<(), i32> {
        // The copies are above the target descriptors, because `dup2` of a descriptor to itself would leave
        // it close-on-exec.
        let copies = io.map(|fd| {
            // SAFETY: no pointers are passed.
            unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) }
        });
        for (place, copy) in (0..).zip(copies) {
            // SAFETY: no pointers are passed.
            if copy == -1 || unsafe { libc::dup2(copy, place) } == -1 {
                return Err(last_errno());
            }
        }
        rustix::process::chdir(self.dir.as_c_str()).map_err(Errno::raw_os_error)
    }
}

/// Texts, and the null-terminated array of their addresses.
struct Texts {
    _texts: Vec<CString>,
    pointers: Vec<*const libc::c_char>,
}

impl Texts {
    fn new(texts: Vec<CString>) -> Self {
        let pointers = texts.iter().map(|text| text.as_ptr());
        Self {
            pointers: pointers.chain([ptr::null()]).collect(),
            _texts: texts,
        }
    }
}

fn text(bytes: impl Into<Vec<u8>>) -> io::Result<CString> {
    Ok(CString::new(bytes)?)
}

fn say(fd: RawFd, end: &End) {
    let bytes = end.encode();
    // SAFETY: the buffer is valid for its length.
    unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
}

fn exit() -> ! {
    // SAFETY: `_exit` takes no pointers and runs no destructors or handlers of this process.
    unsafe { libc::_exit(0) }
}

fn last_errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Returns `true` if the kernel does not know the file's format.
pub(super) fn is_no_program(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::NOEXEC)
}

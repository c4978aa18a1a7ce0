//! Between fork and exec: the service's process, until its program runs.

#![expect(
    unsafe_code,
    reason = "descriptors, signals and execve after a raw fork"
)]

use core::ptr;
use rustix::fd::RawFd;

use super::attendant;
use super::calls::write;
use crate::calls::{close_from, last_errno, reset_signals};
use crate::channel::{Refusal, Stage};
use crate::crash::{self, Point};
use crate::prepared::{PID_DIGITS, Program};
use crate::text::TextBuffer;

/// What every service gets: standard input, output and error.
const STANDARD: RawFd = 3;

/// The first descriptor that the program does not get.
const FIRST_OTHER: RawFd = STANDARD + 1;

impl Program {
    /// In the child: becomes the service.
    pub fn run(&self, parent: libc::pid_t) -> ! {
        // The gate's end alone would not do: a process that was forked during the start may have its other end. If the
        // starter dies, the supervisor ends this process, and if the supervisor dies, the kernel does.
        if !attendant::ends_with(parent) {
            end(0);
        }
        // A session of its own: no terminal, and no Ctrl-C meant for somebody else.
        let _ = rustix::process::setsid();
        reset_signals();
        let refusal = match self.take_descriptors() {
            Err(refusal) => refusal,
            Ok([gate, exec_status]) => {
                crash::point(Point::AtGate);
                if !passed(gate) {
                    end(0);
                }
                crash::point(Point::GatePassed);
                outlive_parent();
                self.execute(exec_status);
            }
        };
        self.refuse(self.exec_status, refusal)
    }

    fn execute(&self, exec_status: RawFd) -> ! {
        if let Err(error) = rustix::process::chdir(self.dir.as_c_str()) {
            self.refuse(
                exec_status,
                Refusal::new(Stage::Directory, error.raw_os_error()),
            );
        }
        self.write_listen_pid();
        // SAFETY: `path` is a NUL-terminated text, `args` and `env` are arrays of such that end with a
        // null, all in memory that this process keeps.
        unsafe { libc::execve(self.path.as_ptr(), self.args.cast(), self.env.cast()) };
        self.refuse(exec_status, Refusal::new(Stage::Execute, last_errno()))
    }

    fn refuse(&self, exec_status: RawFd, refusal: Refusal) -> ! {
        write(exec_status, &refusal.encode());
        end(127)
    }

    /// Puts what the program gets where it expects it, closes everything else, and tells where gate and
    /// exec are now.
    ///
    /// First out of the way, then into place: any of them may have the number of another one's place.
    /// What remains open of its starter's until then includes the gate's other end, without whose
    /// closing the end of the starter would not be the end of the pipe.
    fn take_descriptors(&self) -> Result<[RawFd; 2], Refusal> {
        let listeners = RawFd::from(self.listener >= 0);
        let (gate, exec_status) = (STANDARD + listeners, FIRST_OTHER + listeners);
        let above = exec_status + 1;
        let null = duplicate(self.null, above)?;
        let log = duplicate(self.log, above)?;
        let from_gate = duplicate(self.gate, above)?;
        let from_exec = duplicate(self.exec_status, above)?;
        if self.listener >= 0 {
            let listener = duplicate(self.listener, above)?;
            place(listener, STANDARD, 0)?;
        }
        place(null, 0, 0)?;
        place(log, 1, 0)?;
        place(log, 2, 0)?;
        place(from_gate, gate, libc::O_CLOEXEC)?;
        place(from_exec, exec_status, libc::O_CLOEXEC)?;
        close_from(above);
        Ok([gate, exec_status])
    }

    fn write_listen_pid(&self) {
        if self.listen_pid.is_null() {
            return;
        }
        let pid = rustix::process::getpid().as_raw_nonzero();
        // One byte more than a pid can have stays a NUL.
        let digits = TextBuffer::<{ PID_DIGITS + 1 }>::format(format_args!("{pid}"));
        let digits = digits.padded();
        // SAFETY: there are ten digits and a NUL at `listen_pid`, in memory of this process alone.
        unsafe { ptr::copy_nonoverlapping(digits.as_ptr(), self.listen_pid, digits.len()) };
    }
}

/// Waits at the gate. False: nobody will open it any more.
fn passed(gate: RawFd) -> bool {
    let mut byte = [0_u8];
    loop {
        // SAFETY: the buffer is valid for its length.
        match unsafe { libc::read(gate, byte.as_mut_ptr().cast(), byte.len()) } {
            1 => return true,
            -1 if last_errno() == libc::EINTR => {}
            _ => return false,
        }
    }
}

/// From now on this process does not end with its parent.
fn outlive_parent() {
    // SAFETY: no pointers are passed.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, 0, 0, 0, 0) };
}

fn duplicate(fd: RawFd, above: RawFd) -> Result<RawFd, Refusal> {
    // SAFETY: takes numbers, and makes a descriptor of this process alone.
    match unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, above) } {
        -1 => Err(Refusal::new(Stage::Descriptors, last_errno())),
        duplicate => Ok(duplicate),
    }
}

fn place(fd: RawFd, at: RawFd, flags: libc::c_int) -> Result<(), Refusal> {
    // SAFETY: takes numbers, and replaces a descriptor of this process alone.
    match unsafe { libc::dup3(fd, at, flags) } {
        -1 => Err(Refusal::new(Stage::Descriptors, last_errno())),
        _ => Ok(()),
    }
}

fn end(status: libc::c_int) -> ! {
    // SAFETY: `_exit` runs nothing of this process's.
    unsafe { libc::_exit(status) }
}

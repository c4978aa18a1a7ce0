//! The process of a service between fork and exec.

#![expect(unsafe_code, reason = "descriptors and execve after a raw fork")]

use core::ptr;

use rustix::fd::RawFd;

use crate::calls::{
    self, await_gate, close_from, die_with_parent, exit_with, last_errno, outlive_parent,
    reset_signals, write,
};
use crate::channel::{ExecFailure, ExecStage};
use crate::crash::{self, Point};
use crate::prepared::{PID_DIGITS, Program};
use crate::text::TextBuffer;

/// Number of the descriptors that every service gets: standard input, output and error.
const STANDARD: RawFd = 3;

/// The first descriptor after the standard ones and one socket.
const FIRST_OTHER: RawFd = STANDARD + 1;

impl Program {
    /// Waits at the gate, and executes the program. Call this in a child that was just forked by `parent`.
    ///
    /// `limit` sets the resource limits of the program. It is called after the program's descriptors were moved to their
    /// numbers. Before that, the process has all descriptors of its parent, and a lower limit would refuse copies.
    pub fn run(&self, parent: libc::pid_t, limit: impl FnOnce()) -> ! {
        // EOF on the gate is not sufficient, because a process that was forked during the start may have a
        // copy of the write end. If the starter dies, the supervisor stops this process. If the supervisor
        // dies, the kernel kills this process, or `await_gate` returns.
        if !die_with_parent(parent) {
            exit_with(0);
        }
        // The service gets its own session, so it has no terminal and receives no Ctrl-C of another program.
        let _ = rustix::process::setsid();
        reset_signals();
        let failure = match self.take_descriptors() {
            Err(failure) => failure,
            Ok([gate, exec_status]) => {
                limit();
                crash::point(Point::AtGate);
                if !await_gate(gate, parent) || !is_opened(gate) {
                    exit_with(0);
                }
                crash::point(Point::GatePassed);
                outlive_parent();
                self.execute(exec_status);
            }
        };
        self.fail(self.exec_status, failure)
    }

    fn execute(&self, exec_status: RawFd) -> ! {
        if let Err(error) = rustix::process::chdir(self.dir.as_c_str()) {
            let failure = ExecFailure::new(ExecStage::Directory, error.raw_os_error());
            self.fail(exec_status, failure);
        }
        self.write_listen_pid();
        // SAFETY: `path` is a NUL-terminated text. `args` and `env` are arrays of pointers to such texts, and a null
        // pointer ends each. All of it is in the arena, which this process keeps and no thread writes to.
        unsafe { libc::execve(self.path.as_ptr(), self.args.cast(), self.env.cast()) };
        self.fail(
            exec_status,
            ExecFailure::new(ExecStage::Execute, last_errno()),
        )
    }

    fn fail(&self, exec_status: RawFd, failure: ExecFailure) -> ! {
        write(exec_status, &failure.encode());
        exit_with(127)
    }

    /// Moves the program's descriptors to their numbers and closes all others. Returns the new numbers of gate and exec
    /// status.
    ///
    /// Each descriptor is first copied to a higher number, because it may have the number that another one
    /// needs. This function also closes the process's copy of the gate's write end, so that the death of the
    /// starter causes EOF on the gate.
    fn take_descriptors(&self) -> Result<[RawFd; 2], ExecFailure> {
        let listeners = RawFd::from(self.listener >= 0);
        let (gate, exec_status) = (STANDARD + listeners, FIRST_OTHER + listeners);
        let above = exec_status + 1;
        let null = duplicate(self.null, above)?;
        let log = duplicate(self.log, above)?;
        let from_gate = duplicate(self.gate, above)?;
        let from_exec = duplicate(self.exec_status, above)?;
        if self.listener >= 0 {
            let listener = duplicate(self.listener, above)?;
            replace(STANDARD, listener, false)?;
        }
        replace(0, null, false)?;
        replace(1, log, false)?;
        replace(2, log, false)?;
        replace(gate, from_gate, true)?;
        replace(exec_status, from_exec, true)?;
        close_from(above);
        Ok([gate, exec_status])
    }

    fn write_listen_pid(&self) {
        if self.listen_pid.is_null() {
            return;
        }
        let pid = rustix::process::getpid().as_raw_nonzero();
        // A pid has at most `PID_DIGITS` digits, so the last byte stays a NUL.
        let digits = TextBuffer::<{ PID_DIGITS + 1 }>::format(format_args!("{pid}"));
        let digits = digits.padded();
        // SAFETY: `listen_pid` points to the value of LISTEN_PID in the arena, which has `PID_DIGITS` digits and a NUL.
        // `digits` is a local array of the same length. This process has its own copy of the arena, and no reference to
        // that value exists.
        unsafe { ptr::copy_nonoverlapping(digits.as_ptr(), self.listen_pid, digits.len()) };
    }
}

/// Waits at the gate. Returns `false` if the gate will never be opened.
fn is_opened(gate: RawFd) -> bool {
    let mut byte = [0_u8];
    loop {
        // SAFETY: the call writes at most one byte to `byte`, which is alive and borrowed by nothing else.
        match unsafe { libc::read(gate, byte.as_mut_ptr().cast(), byte.len()) } {
            1 => return true,
            -1 if last_errno() == libc::EINTR => {}
            _ => return false,
        }
    }
}

fn duplicate(fd: RawFd, above: RawFd) -> Result<RawFd, ExecFailure> {
    // SAFETY: no pointers are passed. The new descriptor has a number that was free.
    match unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, above) } {
        -1 => Err(ExecFailure::new(ExecStage::Descriptors, last_errno())),
        duplicate => Ok(duplicate),
    }
}

/// Makes the descriptor `at` a copy of `fd`.
fn replace(at: RawFd, fd: RawFd, is_private: bool) -> Result<(), ExecFailure> {
    match calls::replace(at, fd, is_private) {
        true => Ok(()),
        false => Err(ExecFailure::new(ExecStage::Descriptors, last_errno())),
    }
}

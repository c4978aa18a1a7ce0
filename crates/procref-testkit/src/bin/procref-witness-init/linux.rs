//! Pid 1 of a test's PID namespace, which detects signals to unrelated processes.
//!
//! The program runs the given command and reaps orphans. A signal to pid 1 makes the result a failure, because pid 1 is
//! one of the pids that procref must refuse. A broadcast by `kill(-1)` also reaches this process. A pid above `i32::MAX`
//! would become such a broadcast.

use std::io::{self, Write};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{WaitOptions, wait};
use signal_hook::consts::{SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

pub fn main() -> io::Result<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    let program = args.next().expect("a program to run");

    // The signal handler itself sets the flag, so a signal that was sent before the command exited is never missed.
    let signalled = Arc::new(AtomicBool::new(false));
    for signal in [SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2] {
        signal_hook::flag::register(signal, Arc::clone(&signalled))?;
    }

    let child = Command::new(program).args(args).spawn()?;
    let child = i32::try_from(child.id()).expect("a pid");
    let code = loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get() == child => {
                break status.exit_status().unwrap_or(98);
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    };
    if signalled.load(Ordering::SeqCst) {
        writeln!(io::stderr(), "pid 1 got a signal")?;
        return Ok(ExitCode::from(97));
    }
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(96)))
}

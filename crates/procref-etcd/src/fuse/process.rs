//! The process of the fuse.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use procref::process::Process;
use procref::{SharedService, State};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::{STUCK, tree};
use crate::drive::now;
use crate::error::{Error, Result};
use crate::timing::Millis;

/// The time that the local supervisor gets for a stop, in addition to the grace.
const SUPERVISOR: Millis = 1_000;

/// How long to wait for the end of killed processes before the fuse looks for others.
const RESCAN: Duration = Duration::from_millis(50);

/// Waits for the times that the link writes to standard input, and returns when the link and its service are dead.
///
/// # Errors
/// If the link cannot be identified, or the kernel refuses a timer.
pub fn run(link: u32, runtime_dir: &Path, instance: &str, grace: Duration) -> Result<()> {
    let failed = |what: &str, cause: &dyn std::fmt::Display| {
        Error::new(format!("fuse of `{instance}`: {what}: {cause}"))
    };
    // The supervisor of the link stops every process that the link has left. It must not stop the fuse before the fuse
    // is done.
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))
            .map_err(|cause| failed("handle signals", &cause))?;
    }
    let service = SharedService::builder(instance)
        .base_dir(runtime_dir)
        .stop_timeout(grace)
        .build()
        .map_err(|cause| failed("open the service", &cause))?;
    let link = Process::open(link).ok();
    let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC)
        .map_err(|cause| failed("create a timer", &cause))?;
    let end = wait(&timer).map_err(|cause| failed("wait", &cause))?;
    if let (true, Some(link)) = (end.expired, link.filter(Process::is_alive)) {
        eprintln!(
            "procref-etcd: killing the link of `{instance}`, because it did not renew its reference in time"
        );
        // A link that has exited is no error.
        let _ = link.kill();
    }
    let grace = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX / 2);
    let kill = end.kill.min(now() + grace + SUPERVISOR);
    finish(&service, kill).map_err(|cause| failed("stop the service", &cause))
}

/// Why the fuse must act.
struct End {
    /// `true` if the link did not extend its time, and `false` if it has closed the pipe.
    expired: bool,
    /// When to kill what is left of the service.
    kill: Millis,
}

/// Waits until the link closes the pipe or does not extend its time.
fn wait(timer: &OwnedFd) -> io::Result<End> {
    let stdin = io::stdin();
    let mut times: Option<[Millis; 2]> = None;
    loop {
        let mut polled = [
            PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN),
            PollFd::new(timer, PollFlags::IN),
        ];
        match poll(&mut polled, None) {
            Err(Errno::INTR) => continue,
            polled => polled?,
        };
        // Read the pipe first: a suspended fuse may find its timer expired and newer times in the pipe.
        let mut message = [0; 16];
        match rustix::io::read(&stdin, &mut message) {
            Ok(16) => {
                let [link, kill] = [0, 8].map(|at| {
                    let mut bytes = [0; 8];
                    bytes.copy_from_slice(&message[at..at + 8]);
                    Millis::from_le_bytes(bytes)
                });
                times = Some([link, kill]);
                timerfd_settime(timer, TimerfdTimerFlags::ABSTIME, &at(link + STUCK))?;
                continue;
            }
            Ok(_) => {
                let kill = times.map_or(Millis::MAX, |[_, kill]| kill);
                let expired = false;
                return Ok(End { expired, kill });
            }
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => {}
            Err(cause) => return Err(cause.into()),
        }
        if let Some([_, kill]) = times.filter(|[link, _]| now() >= link + STUCK) {
            let expired = true;
            return Ok(End { expired, kill });
        }
    }
}

fn at(time: Millis) -> Itimerspec {
    let zero = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let it_value = Timespec {
        tv_sec: i64::try_from(time / 1_000).unwrap_or(i64::MAX),
        tv_nsec: (time % 1_000 * 1_000_000) as _,
    };
    Itimerspec {
        it_interval: zero,
        it_value,
    }
}

/// Waits until the service is dead, and kills what is left of it at `kill`.
fn finish(service: &SharedService, kill: Millis) -> procref::Result<()> {
    let mut first = None;
    loop {
        let status = service.status()?;
        if status.state() == State::Absent && status.supervisor().is_none() {
            return Ok(());
        }
        let fence = status.fingerprint().map(str::to_owned);
        // If the supervisor of the link was killed, too, a new link may have started the service by now.
        if *first.get_or_insert_with(|| fence.clone()) != fence {
            return Ok(());
        }
        let wait = Duration::from_millis(kill.saturating_sub(now()));
        if !wait.is_zero() {
            service.wait_stopped_blocking(wait)?;
            continue;
        }
        let left = tree::kill(&status);
        if left == 0 && status.supervisor().is_none() {
            // Nothing lives, and no supervisor is left to remove the kernel object.
            service.force_stop_blocking()?;
            return Ok(());
        }
        if left > 0 {
            eprintln!(
                "procref-etcd: killed {left} processes of `{}` that were left",
                service.name()
            );
        }
        service.wait_stopped_blocking(RESCAN)?;
    }
}

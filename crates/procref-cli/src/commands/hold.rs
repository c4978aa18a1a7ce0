use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use procref::ServiceInfo;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::low_level::pipe;

use crate::acquire::Held;
use crate::args::{Globals, HoldArgs};
use crate::error::{Error, Result};
use crate::output::{self, shown};
use crate::plan::Plan;
use crate::report::{self, Instance};

pub(crate) fn run(globals: &Globals, args: &HoldArgs) -> Result<ExitCode> {
    let plan = Plan::new(globals, &args.name, &args.service)?;
    let held = Held::new(globals, &plan)?;
    // From here on a signal is a wish to let go. Before, it ends this process, and the kernel lets go.
    let failed = |error| Error::io("listen to signals", error);
    let (signalled, sender) = UnixStream::pair().map_err(failed)?;
    for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM] {
        pipe::register(signal, sender.try_clone().map_err(failed)?).map_err(failed)?;
    }
    let service = held.service();
    if args.json.json {
        output::print_json(&Instance::acquired(service))?;
    } else {
        let line = report::line(service.handle.info());
        output::print(&format!("{}: {line}\n", shown(&service.name)))?;
    }
    match wait(&held, &signalled)? {
        End::Signal => {
            held.release()?;
            Ok(ExitCode::SUCCESS)
        }
        End::Death => {
            let service = shown(&plan.service.name);
            let status = plan.service.build()?.status()?.exit_status();
            let how = status.map(|status| format!(": {}", report::ended(status)));
            held.release()?;
            Err(Error::Ended {
                service,
                how: how.unwrap_or_default(),
            })
        }
    }
}

enum End {
    Signal,
    Death,
}

/// Whichever comes first.
fn wait(held: &Held, signalled: &UnixStream) -> Result<End> {
    let failed = |error: Errno| Error::io("wait for the service's end", error.into());
    let process = open(held.service().handle.info()).map_err(failed)?;
    loop {
        let mut watched = vec![PollFd::new(signalled, PollFlags::IN)];
        watched.extend(process.iter().map(|it| PollFd::new(it, PollFlags::IN)));
        match poll(&mut watched, None) {
            Err(Errno::INTR) => continue,
            polled => polled.map_err(failed)?,
        };
        if !watched[0].revents().is_empty() {
            return Ok(End::Signal);
        }
        if watched.get(1).is_some_and(|it| !it.revents().is_empty()) {
            return Ok(End::Death);
        }
    }
}

/// The service's process; `None` where it is none of this machine.
fn open(info: &ServiceInfo) -> Result<Option<OwnedFd>, Errno> {
    let pid = i32::try_from(info.pid()).ok().and_then(Pid::from_raw);
    let Some(pid) = pid else {
        return Ok(None);
    };
    match pidfd_open(pid, PidfdFlags::empty()) {
        // Another process may have got its pid by now; it is dead then, and that is what is told.
        Ok(process) if info.is_alive() => Ok(Some(process)),
        // The end of this pipe has come already.
        Ok(_) | Err(Errno::SRCH) => Ok(Some(rustix::pipe::pipe()?.0)),
        Err(error) => Err(error),
    }
}

use std::time::SystemTime;

use crate::error::Result;
use crate::process::{self, Process, proc_info};

/// A process that holds a reference to a service.
///
/// ```no_run
/// # fn example(service: procref::SharedService) -> procref::Result<()> {
/// for holder in service.status()?.holders() {
///     let command = holder.command().unwrap_or("(exiting)");
///     println!("pid {}: {command}, started {:?}", holder.pid(), holder.since());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pid: u32,
    command: Option<String>,
    since: SystemTime,
    suspended: bool,
}

impl Holder {
    /// Returns the process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns the program and its arguments on one line of at most 4 KiB. Invalid UTF-8 is replaced. Returns `None` if
    /// the process has no command line, or is exiting.
    #[must_use]
    pub fn command(&self) -> Option<&str> {
        self.command.as_deref()
    }

    /// Returns when the process was started, to a hundredth of a second. The time at which it took its reference is not
    /// recorded.
    #[must_use]
    pub fn since(&self) -> SystemTime {
        self.since
    }

    /// Returns `true` if Ctrl-Z, `SIGSTOP` or a debugger has suspended the process.
    ///
    /// ```no_run
    /// # fn example(service: procref::SharedService) -> procref::Result<()> {
    /// for holder in service.status()?.holders().iter().filter(|it| it.is_suspended()) {
    ///     println!("process {} is suspended, and holds the service", holder.pid());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        self.suspended
    }

    /// Returns `None` if the process has exited.
    pub(super) fn find(pid: u32) -> Result<Option<Self>> {
        let found = Process::find(pid)?;
        Ok(found.map(|process| Self {
            pid,
            command: proc_info::command_line(pid),
            since: proc_info::started_at(process.identity().start),
            suspended: process::is_suspended(pid),
        }))
    }
}

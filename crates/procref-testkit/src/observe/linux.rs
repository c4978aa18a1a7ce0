//! Observations by `/proc` and pidfds.

use std::fs;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::time::clock_getcpuclockid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use rustix::time::{ClockId, clock_gettime};

use super::Identity;

/// Returns the start time from `/proc/PID/stat`.
pub(super) fn start_of(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may contain spaces and parentheses, so the fields are counted from its end.
    let mut columns = text[text.rfind(')')? + 1..].split_whitespace();
    columns.nth(19)?.parse().ok()
}

pub(super) fn kill(process: Identity) {
    process.signal(Signal::KILL);
}

/// Polls a pidfd. The state in `/proc/PID/stat` would be wrong: it is the state of the first thread, which can exit
/// while other threads still run and keep files open.
pub(super) fn exits_within(process: Identity, limit: Duration) -> bool {
    let Some(fd) = process.open() else {
        return true;
    };
    let limit = Timespec::try_from(limit).expect("a short time");
    loop {
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&limit)) {
            Ok(ready) => return ready > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("poll of a pidfd: {error}"),
        }
    }
}

/// Observations that exist only on Linux.
impl Identity {
    /// Opens a pidfd of this process, or of its zombie.
    fn open(self) -> Option<OwnedFd> {
        let pid = Pid::from_raw(i32::try_from(self.pid).ok()?)?;
        let fd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // The start time is read after the pidfd is opened. If it still matches, the pidfd refers to this
        // process.
        (start_of(self.pid) == Some(self.start)).then_some(fd)
    }

    /// Sends a signal to this process. Does nothing if the process has exited, even if another process has its pid.
    pub fn signal(self, signal: Signal) {
        if let Some(fd) = self.open() {
            let _ = pidfd_send_signal(fd, signal);
        }
    }

    /// Returns the CPU time of the process: user and system time, including threads that have exited
    /// ([`clock_getcpuclockid(3)`](https://man7.org/linux/man-pages/man3/clock_getcpuclockid.3.html)). Returns zero if
    /// the process has exited.
    #[must_use]
    pub fn cpu_time(self) -> Duration {
        let used = i32::try_from(self.pid).ok().and_then(|pid| {
            let clock = clock_getcpuclockid(nix::unistd::Pid::from_raw(pid)).ok()?;
            nix::time::clock_gettime(clock).ok()
        });
        used.map_or(Duration::ZERO, Duration::from)
    }

    /// Returns the peak resident memory, in bytes.
    #[must_use]
    pub fn peak_memory(self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok())
            .map_or(0, |kilobytes| kilobytes * 1024)
    }

    /// Returns the command line that `ps` shows. A NUL follows each argument.
    #[must_use]
    pub fn command_line(self) -> Vec<u8> {
        fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default()
    }

    /// Returns the children of the process.
    #[must_use]
    pub fn children(self) -> Vec<Self> {
        // Each thread has a list of its own. A keeper starts services from threads.
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid));
        let threads = threads.into_iter().flatten().flatten();
        let lists =
            threads.map(|it| fs::read_to_string(it.path().join("children")).unwrap_or_default());
        let list = lists.collect::<Vec<_>>().join(" ");
        let pids = list.split_whitespace().filter_map(|pid| pid.parse().ok());
        pids.filter_map(Self::of).collect()
    }

    /// Returns a field of `/proc/PID/stat`, numbered from 1 as in proc_pid_stat(5). Returns 0 if the process has
    /// exited.
    fn stat_field(self, number: usize) -> i64 {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        let rest = text.rfind(')').map_or("", |end| &text[end + 1..]);
        let field = rest.split_whitespace().nth(number - 3);
        field.and_then(|field| field.parse().ok()).unwrap_or(0)
    }

    /// Returns the process group.
    #[must_use]
    pub fn group(self) -> i64 {
        self.stat_field(5)
    }

    /// Returns the number of the controlling terminal, or 0 if there is none.
    #[must_use]
    pub fn terminal(self) -> i64 {
        self.stat_field(7)
    }

    /// Returns `true` if the process is suspended (`SIGSTOP`).
    #[must_use]
    pub fn is_suspended(self) -> bool {
        self.status("State")
            .is_some_and(|state| state.starts_with('T'))
    }

    /// Returns the number of open descriptors.
    #[must_use]
    pub fn descriptors(self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid)).map_or(0, Iterator::count)
    }

    /// Returns the targets of the open descriptors.
    #[must_use]
    pub fn open_files(self) -> Vec<String> {
        let list = fs::read_dir(format!("/proc/{}/fd", self.pid));
        let links = list.into_iter().flatten().flatten();
        links
            .filter_map(|link| fs::read_link(link.path()).ok())
            .map(|target| target.to_string_lossy().into_owned())
            .collect()
    }

    /// Returns the value of a field of `/proc/PID/status`.
    #[must_use]
    pub fn status(self, field: &str) -> Option<String> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status
            .lines()
            .find(|line| line.split(':').next() == Some(field))?;
        line.split_once(':')
            .map(|(_, value)| value.trim().to_owned())
    }

    /// Returns the private memory of the process, in KiB.
    #[must_use]
    pub fn private_memory(self) -> u64 {
        let smaps = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid));
        let smaps = smaps.unwrap_or_default();
        let private = smaps.lines().filter(|line| line.starts_with("Private_"));
        private
            .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
            .sum()
    }

    /// Returns the number of threads with this name.
    #[must_use]
    pub fn threads_named(self, name: &str) -> usize {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid)).into_iter();
        tasks
            .flatten()
            .flatten()
            .filter_map(|task| fs::read_to_string(task.path().join("comm")).ok())
            .filter(|comm| comm.trim_end() == name)
            .count()
    }

    /// Returns the number of threads.
    #[must_use]
    pub fn threads(self) -> usize {
        fs::read_dir(format!("/proc/{}/task", self.pid)).map_or(0, Iterator::count)
    }
}

fn nanoseconds(clock: ClockId) -> u64 {
    let now = Duration::try_from(clock_gettime(clock)).expect("a positive time");
    u64::try_from(now.as_nanos()).expect("less than five centuries")
}

/// Returns the clock ticks since boot, the unit of [`Identity::start`].
#[must_use]
pub fn now_ticks() -> u64 {
    // `USER_HZ` is 100 on every supported architecture.
    nanoseconds(ClockId::Boottime) / 10_000_000
}

/// Returns the nanoseconds of the clock that all processes of the machine share.
#[must_use]
pub fn now_ns() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

/// Returns the live supervisors of all services with this name, in every runtime directory. A test that needs its own
/// supervisor uses a unique name.
#[must_use]
pub fn supervisors_of(name: &str) -> Vec<Identity> {
    let title = format!("procref: {name}");
    live_processes(|words| words.next() == Some(title.as_bytes()))
}

/// Returns the live processes that have this argument.
///
/// # Panics
///
/// Panics if `/proc` cannot be read.
#[must_use]
pub fn processes_with_argument(argument: &str) -> Vec<Identity> {
    live_processes(|words| words.skip(1).any(|word| word == argument.as_bytes()))
}

/// Returns the live processes whose command line is accepted.
fn live_processes(accepts: impl Fn(&mut dyn Iterator<Item = &[u8]>) -> bool) -> Vec<Identity> {
    let processes = fs::read_dir("/proc").expect("read /proc").flatten();
    processes
        .filter_map(|entry| Identity::of(entry.file_name().to_str()?.parse().ok()?))
        .filter(|process| {
            let command_line = process.command_line();
            accepts(&mut command_line.split(|&byte| byte == 0)) && process.is_live()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn zombie_is_not_live() {
        let mut child = Command::new("true").spawn().expect("spawn");
        let identity = Identity::of(child.id()).expect("not reaped yet");
        identity.wait_exit();
        assert!(!identity.is_live());
        child.wait().expect("wait");
    }

    #[test]
    fn cpu_time_increases_with_work() {
        let own = Identity::own();
        let before = own.cpu_time();
        let mut sum = 0_u64;
        for i in 0..3_000_000_u64 {
            sum = std::hint::black_box(sum ^ i);
        }
        assert!(own.cpu_time() > before);
        assert!(own.threads() >= 1);
        assert!(own.peak_memory() > 1 << 20);
    }
}

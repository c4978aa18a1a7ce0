//! By `/proc` and descriptors of processes.

use std::fs;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::time::clock_getcpuclockid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use rustix::time::{ClockId, clock_gettime};

use super::Identity;

/// The start time in `/proc/PID/stat`.
pub(super) fn start_of(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may hold spaces and parentheses: count from its end.
    let mut columns = text[text.rfind(')')? + 1..].split_whitespace();
    columns.nth(19)?.parse().ok()
}

pub(super) fn kill(process: Identity) {
    process.signal(Signal::KILL);
}

/// The state in `stat` does not tell: it is that of the first thread, which may be gone while others, and
/// the files they have open, live on.
pub(super) fn exits_within(process: Identity, limit: Duration) -> bool {
    let Some(fd) = process.open() else {
        return true;
    };
    let limit = Timespec::try_from(limit).expect("not that long");
    loop {
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&limit)) {
            Ok(ready) => return ready > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("poll of a pidfd: {error}"),
        }
    }
}

/// What only Linux tells.
impl Identity {
    /// A descriptor of this very process, or its zombie.
    fn open(self) -> Option<OwnedFd> {
        let pid = Pid::from_raw(i32::try_from(self.pid).ok()?)?;
        let fd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // Looked at after opening: whoever has the pid now is who was opened.
        (start_of(self.pid) == Some(self.start)).then_some(fd)
    }

    /// Signals this very process; nobody else, and nobody if it is gone.
    pub fn signal(self, signal: Signal) {
        if let Some(fd) = self.open() {
            let _ = pidfd_send_signal(fd, signal);
        }
    }

    /// CPU time that it has used, user and system, with that of threads which have ended
    /// ([`clock_getcpuclockid(3)`](https://man7.org/linux/man-pages/man3/clock_getcpuclockid.3.html)). Zero once
    /// it is gone.
    #[must_use]
    pub fn cpu_time(self) -> Duration {
        let used = i32::try_from(self.pid).ok().and_then(|pid| {
            let clock = clock_getcpuclockid(nix::unistd::Pid::from_raw(pid)).ok()?;
            nix::time::clock_gettime(clock).ok()
        });
        used.map_or(Duration::ZERO, Duration::from)
    }

    /// The most memory it ever had resident, in bytes.
    #[must_use]
    pub fn peak_memory(self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok())
            .map_or(0, |kilobytes| kilobytes * 1024)
    }

    /// The name that `ps` shows, its arguments one after the other.
    #[must_use]
    pub fn command_line(self) -> Vec<u8> {
        fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default()
    }

    /// The processes whose parent it is.
    #[must_use]
    pub fn children(self) -> Vec<Self> {
        let path = format!("/proc/{}/task/{}/children", self.pid, self.pid);
        let list = fs::read_to_string(path).unwrap_or_default();
        let pids = list.split_whitespace().filter_map(|pid| pid.parse().ok());
        pids.filter_map(Self::of).collect()
    }

    /// A field of `/proc/PID/stat`, numbered from 1 as in proc_pid_stat(5); 0 if it is gone.
    fn stat_field(self, number: usize) -> i64 {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        let rest = text.rfind(')').map_or("", |end| &text[end + 1..]);
        let field = rest.split_whitespace().nth(number - 3);
        field.and_then(|field| field.parse().ok()).unwrap_or(0)
    }

    /// The group of processes it belongs to.
    #[must_use]
    pub fn group(self) -> i64 {
        self.stat_field(5)
    }

    /// The number of its terminal; 0 if it has none.
    #[must_use]
    pub fn terminal(self) -> i64 {
        self.stat_field(7)
    }

    /// Whether it is suspended (`SIGSTOP`).
    #[must_use]
    pub fn is_suspended(self) -> bool {
        self.status("State")
            .is_some_and(|state| state.starts_with('T'))
    }

    /// How many descriptors it has open.
    #[must_use]
    pub fn descriptors(self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid)).map_or(0, Iterator::count)
    }

    /// What its descriptors lead to.
    #[must_use]
    pub fn open_files(self) -> Vec<String> {
        let list = fs::read_dir(format!("/proc/{}/fd", self.pid));
        let links = list.into_iter().flatten().flatten();
        links
            .filter_map(|link| fs::read_link(link.path()).ok())
            .map(|target| target.to_string_lossy().into_owned())
            .collect()
    }

    /// A line of `/proc/PID/status`, after its colon.
    #[must_use]
    pub fn status(self, field: &str) -> Option<String> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status
            .lines()
            .find(|line| line.split(':').next() == Some(field))?;
        line.split_once(':')
            .map(|(_, value)| value.trim().to_owned())
    }

    /// Memory that is its alone, in KiB.
    #[must_use]
    pub fn private_memory(self) -> u64 {
        let smaps = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid));
        let smaps = smaps.unwrap_or_default();
        let private = smaps.lines().filter(|line| line.starts_with("Private_"));
        private
            .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
            .sum()
    }

    /// How many of its threads have this name.
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

    /// How many threads it has.
    #[must_use]
    pub fn threads(self) -> usize {
        fs::read_dir(format!("/proc/{}/task", self.pid)).map_or(0, Iterator::count)
    }
}

fn nanoseconds(clock: ClockId) -> u64 {
    let now = Duration::try_from(clock_gettime(clock)).expect("a time after the boot");
    u64::try_from(now.as_nanos()).expect("fewer than five centuries")
}

/// Ticks since boot, as [`Identity::start`] counts them.
#[must_use]
pub fn now_ticks() -> u64 {
    // USER_HZ is 100 on every architecture that matters here.
    nanoseconds(ClockId::Boottime) / 10_000_000
}

/// Nanoseconds on the clock that all processes of the machine share.
#[must_use]
pub fn now_ns() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

/// The supervisors of the service of this name, in whatever runtime directory: a test that looks for
/// one gives its service a name that nobody else has.
#[must_use]
pub fn supervisors_of(name: &str) -> Vec<Identity> {
    let title = format!("procref: {name}");
    let processes = fs::read_dir("/proc").expect("read /proc").flatten();
    processes
        .filter_map(|entry| Identity::of(entry.file_name().to_str()?.parse().ok()?))
        .filter(|process| {
            let shown = process.command_line();
            let shown = shown.split(|&byte| byte == 0).next();
            shown == Some(title.as_bytes()) && process.is_live()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_zombie_is_not_live() {
        let mut child = Command::new("true").spawn().expect("spawn");
        let identity = Identity::of(child.id()).expect("not reaped yet");
        identity.wait_exit();
        assert!(!identity.is_live());
        child.wait().expect("wait");
    }

    #[test]
    fn cpu_time_grows() {
        let me = Identity::own();
        let before = me.cpu_time();
        let mut sum = 0_u64;
        for i in 0..3_000_000_u64 {
            sum = std::hint::black_box(sum ^ i);
        }
        assert!(me.cpu_time() > before);
        assert!(me.threads() >= 1);
        assert!(me.peak_memory() > 1 << 20);
    }
}

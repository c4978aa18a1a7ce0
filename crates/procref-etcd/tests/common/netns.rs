//! Network namespaces, which a bridge connects.
//!
//! ```text
//! procref-test-PID-N-bridge      br0 ── a, b, c, m0, …
//!                                       │  │  a pair of virtual interfaces for each
//! procref-test-PID-N-a           eth0 ──┘  │     10.213.0.1/24
//! procref-test-PID-N-b           eth0 ─────┘     10.213.0.2/24
//! ```
//!
//! The namespace of the machine is not connected, so that networks of several tests can have the same addresses.

use std::ffi::OsStr;
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Returns the command of a program in this network namespace. The pid of the child is that of the program.
pub fn within(space: Option<&str>, program: impl AsRef<OsStr>) -> Command {
    let Some(space) = space else {
        return Command::new(program);
    };
    let mut command = Command::new("ip");
    command.args(["netns", "exec", space]).arg(program);
    command
}

/// Network namespaces. They and all processes in them end with this value.
pub struct Network {
    prefix: String,
    names: Vec<String>,
}

impl Network {
    /// Makes namespaces with these names, and connects them. The addresses are 10.213.0.1, 10.213.0.2 and so on.
    pub fn new(names: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut network = Self {
            prefix: format!("procref-test-{}-{count}", std::process::id()),
            names: Vec::new(),
        };
        let bridge = network.create("bridge");
        ip(&format!("-n {bridge} link add br0 type bridge"));
        ip(&format!("-n {bridge} link set br0 up"));
        for name in names {
            let space = network.create(name);
            let address = network.address(name);
            ip(&format!("-n {space} link set lo up"));
            ip(&format!(
                "-n {space} link add eth0 type veth peer name {name} netns {bridge}"
            ));
            ip(&format!("-n {space} address add {address}/24 dev eth0"));
            ip(&format!("-n {space} link set eth0 up"));
            ip(&format!("-n {bridge} link set dev {name} master br0 up"));
        }
        network
    }

    fn create(&mut self, name: &str) -> String {
        // First, because a namespace that was made only in part must be deleted, too.
        self.names.push(name.to_owned());
        let space = self.space(name);
        ip(&format!("netns add {space}"));
        space
    }

    /// Returns the namespace with this name.
    pub fn space(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// Returns the address in the namespace with this name.
    pub fn address(&self, name: &str) -> Ipv4Addr {
        let index = self.names.iter().position(|other| other == name).unwrap();
        Ipv4Addr::new(10, 213, 0, u8::try_from(index).unwrap())
    }

    /// Cuts the cable of a namespace. Its interface and its address stay, so that its programs get no error.
    pub fn cut(&self, name: &str) {
        ip(&format!(
            "-n {} link set dev {name} down",
            self.space("bridge")
        ));
    }

    /// Connects a namespace again.
    pub fn heal(&self, name: &str) {
        ip(&format!(
            "-n {} link set dev {name} up",
            self.space("bridge")
        ));
    }

    /// Returns the processes in a namespace.
    pub fn pids(&self, name: &str) -> Vec<Pid> {
        // The namespace may be missing when the rest of a test that failed is deleted.
        let text = try_ip(&format!("netns pids {}", self.space(name))).unwrap_or_default();
        text.split_whitespace()
            .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
            .collect()
    }

    /// Sends a signal to all processes in a namespace.
    pub fn signal(&self, name: &str, signal: Signal) {
        for pid in self.pids(name) {
            // A process may exit before the signal.
            let _ = kill_process(pid, signal);
        }
    }
}

/// Calls `run` on a thread in this namespace, so that its connections begin there.
pub fn enter<T: Send>(space: &str, run: impl FnOnce() -> T + Send) -> T {
    let file = File::open(Path::new("/run/netns").join(space)).unwrap();
    let inside = move || {
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        run()
    };
    let done = thread::scope(|scope| scope.spawn(inside).join());
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

impl Drop for Network {
    fn drop(&mut self) {
        let begun = Instant::now();
        for name in std::mem::take(&mut self.names) {
            // A process may fork while the list is read.
            while !self.pids(&name).is_empty() && begun.elapsed() < Duration::from_secs(10) {
                self.signal(&name, Signal::KILL);
                thread::sleep(Duration::from_millis(20));
            }
            // A panic here would abort the other tests.
            if let Err(error) = try_ip(&format!("netns delete {}", self.space(&name))) {
                eprintln!("{error}");
            }
        }
    }
}

/// Runs `ip`, and returns its output.
fn ip(arguments: &str) -> String {
    try_ip(arguments).unwrap_or_else(|error| {
        panic!(
            "{error} (this test makes network namespaces, so it needs root and Debian's iproute2)"
        )
    })
}

fn try_ip(arguments: &str) -> Result<String, String> {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    let output = output.map_err(|error| format!("cannot run `ip {arguments}`: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(format!("`ip {arguments}` failed: {}", text(&output.stderr))),
    }
}

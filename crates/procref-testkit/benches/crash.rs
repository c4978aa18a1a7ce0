//! How long it takes from the death of the last client to the end of the service, against the least it
//! could take: from the same death to the wake of a process that sleeps in the bare array.
//!
//! Measured in turns in one run, and told as the ratio of the medians. Then crowds of clients are killed
//! at once. Whatever is left after any round ends the program with 1, and so does, with `--check`, a
//! ratio above its limit.
//!
//! ```sh
//! cargo bench -p procref-testkit --bench crash -- --rounds 1000 --crowds 50 --crowd 200
//! ```

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use procref::{Ready, ServiceCommand, ServiceInfo, SharedService};
use procref_testkit::deadline;
use procref_testkit::kernel::{self, Set};
use procref_testkit::observe::now_ns;
use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;

const LIMIT: f64 = 3.0;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["raw-hold", key] => raw_hold(key.parse().expect("a key")),
        ["raw-wait", key] => raw_wait(key.parse().expect("a key")),
        ["hold", kind, dir] => hold(Kind::named(kind), Path::new(dir)),
        ["serve", file] => serve(Path::new(file)),
        rest => return measure(&Plan::parse(rest)),
    }
    ExitCode::SUCCESS
}

struct Plan {
    rounds: usize,
    crowds: usize,
    crowd: usize,
    check: bool,
}

impl Plan {
    fn parse(words: &[&str]) -> Self {
        let number = |name: &str, otherwise: usize| {
            let at = words.iter().position(|word| *word == name);
            let value = at.and_then(|at| words.get(at + 1));
            value.map_or(otherwise, |value| value.parse().expect("a number"))
        };
        Self {
            rounds: number("--rounds", 60),
            crowds: number("--crowds", 3),
            crowd: number("--crowd", 50),
            check: words.contains(&"--check"),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Callback,
    Executed,
    Lingering,
}

const LINGER: Duration = Duration::from_millis(150);
/// How long after its linger a service may still be there.
const IN_TIME: Duration = Duration::from_millis(100);

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Callback => "callback",
            Self::Executed => "executed",
            Self::Lingering => "lingering",
        }
    }

    fn named(name: &str) -> Self {
        let kinds = [Self::Callback, Self::Executed, Self::Lingering];
        let named = kinds.into_iter().find(|kind| kind.name() == name);
        named.expect("a kind of service")
    }

    fn service(self, dir: &Path) -> SharedService {
        let program = env::current_exe().expect("own path");
        let file = times(dir);
        let builder = SharedService::builder(self.name()).base_dir(dir.join("run"));
        let builder = match self {
            Self::Lingering => builder.linger(LINGER),
            _ => builder,
        };
        let builder = match self {
            Self::Callback => builder.on_first_acquire(move || {
                let (program, file) = (program.clone(), file.clone());
                async move {
                    let mut command = Command::new(program);
                    command.arg("serve").arg(file).stdin(Stdio::null());
                    let mut child = command.stdout(Stdio::piped()).spawn()?;
                    let out = child.stdout.take().ok_or("no pipe")?;
                    BufReader::new(out).read_line(&mut String::new())?;
                    Ok(ServiceInfo::with_pid(child.id()))
                }
            }),
            Self::Executed | Self::Lingering => builder.command(
                ServiceCommand::new(program)
                    .args([OsStr::new("serve"), file.as_os_str()])
                    .ready(Ready::notify()),
            ),
        };
        builder.build().expect("build")
    }
}

/// Where the service writes down when it was asked to end.
fn times(dir: &Path) -> PathBuf {
    dir.join("times")
}

fn hold(kind: Kind, dir: &Path) {
    let handle = kind.service(dir).acquire_blocking().expect("acquire");
    say("held");
    let _ = std::io::stdin().read(&mut [0]);
    drop(handle);
}

fn serve(file: &Path) {
    let mut signals = Signals::new([SIGTERM]).expect("a handler");
    match env::var("NOTIFY_SOCKET") {
        Ok(name) => {
            let name = name.strip_prefix('@').expect("an abstract socket");
            let address = SocketAddr::from_abstract_name(name).expect("an address");
            let socket = UnixDatagram::unbound().expect("a socket");
            socket.send_to_addr(b"READY=1", &address).expect("send");
        }
        Err(_) => say("ready"),
    }
    signals.forever().next();
    let line = format!("{}\n", now_ns());
    let mut file = fs::File::options()
        .append(true)
        .create(true)
        .open(file)
        .expect("open");
    file.write_all(line.as_bytes()).expect("write");
}

const REFS: u16 = 0;
const PIN: u16 = 1;
const LOCK: u16 = 2;

fn raw_hold(key: i32) {
    kernel::find(key)
        .expect("the set")
        .operate(&[(REFS, 1)])
        .expect("semop");
    say("held");
    let _ = std::io::stdin().read(&mut [0]);
}

fn raw_wait(key: i32) {
    let set = kernel::find(key).expect("the set");
    say("here");
    let idle = [(REFS, 0), (PIN, 0), (LOCK, 0), (LOCK, 1)];
    set.operate(&idle).expect("semop");
    say(&now_ns().to_string());
}

fn say(line: &str) {
    println!("{line}");
}

/// One of this program's other roles, until it says something.
struct Role {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Role {
    fn start(words: &[&OsStr]) -> Self {
        let mut child = Command::new(env::current_exe().expect("own path"))
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start again");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, out }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).expect("a line");
        assert!(!line.is_empty(), "it ended without a word");
        line.trim().to_owned()
    }

    /// When it was killed.
    fn kill(&mut self) -> u64 {
        let at = now_ns();
        self.child.kill().expect("kill");
        at
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn raw_round(set: &Set) -> u64 {
    let key = set.key.to_string();
    let mut holder = Role::start(&["raw-hold".as_ref(), key.as_ref()]);
    holder.line();
    let mut waiter = Role::start(&["raw-wait".as_ref(), key.as_ref()]);
    waiter.line();
    deadline::until_true("it sleeps", || {
        set.sleepers(REFS.into()).is_ok_and(|count| count == 1)
    });
    let killed = holder.kill();
    let woken: u64 = waiter.line().parse().expect("a time");
    woken - killed
}

fn round(kind: Kind, dir: &Path, key: i32) -> u64 {
    let mut holder = Role::start(&["hold".as_ref(), kind.name().as_ref(), dir.as_os_str()]);
    holder.line();
    let killed = holder.kill();
    wait_all_gone(dir, key);
    let times = fs::read_to_string(times(dir)).expect("it was asked to end");
    fs::remove_file(self::times(dir)).expect("remove");
    let asked: Vec<u64> = times
        .lines()
        .map(|line| line.parse().expect("a time"))
        .collect();
    assert_eq!(asked.len(), 1, "asked once");
    asked[0] - killed
}

fn wait_all_gone(dir: &Path, key: i32) {
    deadline::until_true("set and record are gone", || {
        kernel::find(key).is_none()
            && fs::read_dir(dir.join("run"))
                .expect("read")
                .next()
                .is_none()
    });
}

fn crowd(kind: Kind, dir: &Path, key: i32, count: usize) {
    let role: [&OsStr; 3] = ["hold".as_ref(), kind.name().as_ref(), dir.as_os_str()];
    let mut clients: Vec<Role> = (0..count).map(|_| Role::start(&role)).collect();
    for client in &mut clients {
        client.line();
    }
    for client in &mut clients {
        client.kill();
    }
    drop(clients);
    wait_all_gone(dir, key);
    let times = fs::read_to_string(times(dir)).expect("it was stopped gracefully");
    assert_eq!(times.lines().count(), 1, "and once");
    fs::remove_file(self::times(dir)).expect("remove");
}

fn measure(plan: &Plan) -> ExitCode {
    let dir = tempfile::tempdir().expect("temporary directory");
    let kinds = [Kind::Callback, Kind::Executed];
    let keys = kinds.map(|kind| kernel::parse_key(&kind.service(dir.path()).kernel_object()));
    let raw_key = 0x5ca1_0000 | (std::process::id() & 0xffff) as i32;
    let set = Set::create(raw_key, 3, 0o600).expect("a set");
    let mut floor = Vec::new();
    let mut taken = [Vec::new(), Vec::new()];
    for _ in 0..plan.rounds {
        floor.push(raw_round(&set));
        for ((taken, kind), key) in taken.iter_mut().zip(kinds).zip(keys) {
            taken.push(round(kind, dir.path(), key));
        }
    }
    set.remove().expect("remove");
    let floor = median(&mut floor);
    println!(
        "SIGKILL of the last client to SIGTERM at the service, {} rounds",
        plan.rounds
    );
    println!(
        "{:<12} {:>9} {:>7} {:>7}",
        "", "median µs", "ratio", "limit"
    );
    println!("{:<12} {:>9.0}", "bare wake", floor as f64 / 1000.0);
    let mut within = true;
    for (taken, kind) in taken.iter_mut().zip(kinds) {
        let median = median(taken);
        let ratio = median as f64 / floor as f64;
        println!(
            "{:<12} {:>9.0} {ratio:>7.2} {LIMIT:>7.1}",
            kind.name(),
            median as f64 / 1000.0
        );
        within &= ratio <= LIMIT;
    }
    let key = kernel::parse_key(&Kind::Lingering.service(dir.path()).kernel_object());
    let mut late: Vec<u64> = (0..plan.rounds.div_ceil(10))
        .map(|_| round(Kind::Lingering, dir.path(), key) - LINGER.as_nanos() as u64)
        .collect();
    let median = median(&mut late);
    let worst = late.last().copied().unwrap_or(0);
    println!(
        "kept warm for {LINGER:?}, and stopped {} µs later in the median of {}, at the latest {} µs (limit {IN_TIME:?})",
        median / 1000,
        late.len(),
        worst / 1000
    );
    within &= u128::from(worst) <= IN_TIME.as_nanos();
    let begun = Instant::now();
    for _ in 0..plan.crowds {
        for (kind, key) in kinds.into_iter().zip(keys) {
            crowd(kind, dir.path(), key, plan.crowd);
        }
    }
    println!(
        "{} times {} clients killed at once: stopped gracefully each time, nothing left ({:.0?})",
        2 * plan.crowds,
        plan.crowd,
        begun.elapsed()
    );
    if plan.check && !within {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn median(values: &mut [u64]) -> u64 {
    values.sort_unstable();
    values[values.len() / 2]
}

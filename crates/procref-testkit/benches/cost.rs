//! What a reference costs, against the least it could cost: a bare pair of `semop` calls, +1 and
//! −1 with `SEM_UNDO`.
//!
//! Everything is measured side by side in one run, in turns, and told as the median of the ratios:
//! absolute times on a shared machine mean little. `--check` exits with 1 where a ratio is above
//! its limit.

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]

use std::env;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use procref::{Ready, ServiceCommand, ServiceInfo, SharedService};
use procref_testkit::kernel::{self, Set};

const ROUNDS: usize = 40;
const REPEATS: u32 = 10_000;
/// Processes are started in a row, as a test suite does it, and the floor is taken between the rows.
const ROWS_OF_PROCESSES: usize = 8;
const PROCESSES_IN_A_ROW: usize = 25;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.as_slice() {
        [role, dir] if role == "hold" => hold(Path::new(dir)),
        [role, dir] if role == "join" => join_once(Path::new(dir)),
        rest => return measure(rest.iter().any(|argument| argument == "--check")),
    }
    ExitCode::SUCCESS
}

/// The service is the process that holds it: what is measured is counting, not the service.
fn service(dir: &Path) -> SharedService {
    SharedService::builder("cost")
        .base_dir(dir)
        .on_first_acquire(|| async { Ok(ServiceInfo::new(std::process::id(), 7)) })
        .build()
        .expect("build")
}

/// A service that procref executes: letting go of it is its supervisor's business.
fn executed(dir: &Path) -> SharedService {
    let sleep = ServiceCommand::new("sleep")
        .arg("3600")
        .ready(Ready::at_once());
    SharedService::builder("executed")
        .base_dir(dir)
        .command(sleep)
        .build()
        .expect("build")
}

/// The other process, without which every client would be the first and the last.
fn hold(dir: &Path) {
    let handles = [service(dir), executed(dir)].map(|it| it.acquire_blocking().expect("acquire"));
    println!("held");
    let _ = std::io::stdin().read(&mut [0]);
    drop(handles);
}

/// One acquire in a process that has never seen the service, in nanoseconds.
fn join_once(dir: &Path) {
    let service = service(dir);
    let began = Instant::now();
    let handle = join(&service);
    let took = began.elapsed();
    drop(handle);
    println!("{}", took.as_nanos());
}

fn again(role: &str, dir: &Path) -> Child {
    Command::new(env::current_exe().expect("own path"))
        .arg(role)
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start again")
}

fn measure(check: bool) -> ExitCode {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut holder = again("hold", dir.path());
    let mut line = String::new();
    BufReader::new(holder.stdout.take().expect("piped"))
        .read_line(&mut line)
        .expect("the holder is ready");

    let service = service(dir.path());
    let set = set_of(&service);
    let mut rows = [
        Row::new("join + leave, done before", 3.0),
        Row::new("another handle in a holder", 1.5),
        Row::new("first join of a process", 30.0),
        Row::new("release of a command", 1.5),
    ];
    let executed = executed(dir.path());
    for _ in 0..ROUNDS {
        let floor = floor(&set);
        rows[0].add(per_repeat(|| drop(join(&service))), floor);
        let held = join(&service);
        rows[1].add(per_repeat(|| drop(join(&service))), floor);
        drop(held);
        let mut releasing = Duration::ZERO;
        for _ in 0..REPEATS {
            let held = join(&executed);
            let began = Instant::now();
            drop(held);
            releasing += began.elapsed();
        }
        rows[3].add(releasing.as_nanos() as f64 / f64::from(REPEATS), floor);
    }
    for _ in 0..ROWS_OF_PROCESSES {
        let floor = floor(&set);
        for _ in 0..PROCESSES_IN_A_ROW {
            let joiner = again("join", dir.path());
            let output = joiner.wait_with_output().expect("joiner");
            let nanos = String::from_utf8_lossy(&output.stdout);
            rows[2].add(nanos.trim().parse().expect("nanoseconds"), floor);
        }
    }
    drop(holder.stdin.take());
    holder.wait().expect("the holder ends");
    let gone = executed.wait_stopped_blocking(Duration::from_secs(60));
    assert!(gone.expect("wait"), "the executed service is stopped");

    println!(
        "{:<28} {:>9} {:>9} {:>7} {:>7}",
        "", "floor ns", "ns", "ratio", "limit"
    );
    let mut within = true;
    for row in &mut rows {
        within &= row.print();
    }
    if check && !within {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn set_of(service: &SharedService) -> Set {
    kernel::find(kernel::parse_key(&service.kernel_object())).expect("the set")
}

fn join(service: &SharedService) -> procref::ServiceHandle {
    pollster::block_on(service.acquire()).expect("join")
}

fn floor(set: &Set) -> f64 {
    // SUPERVISOR: a slot that nobody else changes while the holder has the service to itself.
    const UNUSED: u16 = 2;
    per_repeat(|| set.up_and_down(UNUSED).expect("semop"))
}

fn per_repeat(mut step: impl FnMut()) -> f64 {
    let began = Instant::now();
    for _ in 0..REPEATS {
        step();
    }
    began.elapsed().as_nanos() as f64 / f64::from(REPEATS)
}

struct Row {
    name: &'static str,
    limit: f64,
    floors: Vec<f64>,
    costs: Vec<f64>,
    ratios: Vec<f64>,
}

impl Row {
    fn new(name: &'static str, limit: f64) -> Self {
        Self {
            name,
            limit,
            floors: Vec::new(),
            costs: Vec::new(),
            ratios: Vec::new(),
        }
    }

    fn add(&mut self, cost: f64, floor: f64) {
        self.floors.push(floor);
        self.costs.push(cost);
        self.ratios.push(cost / floor);
    }

    /// Whether the ratio is within its limit.
    fn print(&mut self) -> bool {
        let (floor, cost) = (median(&mut self.floors), median(&mut self.costs));
        let ratio = median(&mut self.ratios);
        println!(
            "{:<28} {floor:>9.0} {cost:>9.0} {ratio:>7.2} {:>7.1}",
            self.name, self.limit
        );
        ratio <= self.limit
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

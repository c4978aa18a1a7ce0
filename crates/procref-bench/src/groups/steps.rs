//! System calls and instructions of the steps that clients make most often.
//!
//! Unlike times, these counts do not depend on the load of the machine. So `--check` compares them with limits. The
//! programs `strace` and `valgrind` count.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use procref_testkit::observe::{self, Identity};

use super::Run;
use crate::contender::Contender;
use crate::driver::Setup;
use crate::error::Result;
use crate::stats::{Measure, Row, Samples, Unit};

/// Pairs of attach and detach whose system calls are counted.
const PAIRS: usize = 50;
/// Pairs whose instructions are counted.
const COUNTED: usize = 1000;

/// Counts of a contender, or their limits.
#[derive(Clone, Copy)]
struct Counts {
    /// System calls of the first attach of a process.
    first_calls: usize,
    /// System calls of a pair of attach and detach by a process that did it before.
    again_calls: usize,
    /// System calls of the supervisor from the death of the last client to the stop signal.
    crash_calls: usize,
    /// Instructions of the first attach and detach of a process.
    first_instructions: usize,
    /// Instructions of a pair by a process that did it before.
    again_instructions: usize,
}

/// Returns the largest accepted counts. If a change adds a system call, state the reason in `docs/benchmarks.md`. A kernel
/// without some call may need fewer. The instructions are those of a build that is not optimized, and a fifth more.
fn limits(contender: Contender) -> Counts {
    match contender {
        Contender::Command => Counts {
            first_calls: 15,
            again_calls: 4,
            crash_calls: 7,
            first_instructions: 149_000,
            again_instructions: 62_000,
        },
        _ => Counts {
            first_calls: 13,
            again_calls: 4,
            crash_calls: 12,
            first_instructions: 131_000,
            again_instructions: 60_000,
        },
    }
}

pub fn measure(run: &Run<'_>) -> Result<Vec<Measure>> {
    let ours = run.usable().into_iter().filter(|it| it.is_ours());
    let found: Vec<(Contender, Counts)> = ours
        .map(|contender| Ok((contender, count(run, contender)?)))
        .collect::<Result<_>>()?;
    let measure = |id: &'static str, title: &'static str, pick: fn(&Counts) -> usize| Measure {
        id: id.into(),
        title: title.into(),
        unit: Unit::Count,
        floor: None,
        axis: None,
        rows: found
            .iter()
            .map(|(contender, counts)| {
                let mut samples = Samples::default();
                samples.add(pick(counts) as f64);
                Row::new(contender.title(), &samples).at_most(pick(&limits(*contender)))
            })
            .collect(),
    };
    Ok(vec![
        measure(
            "attach-calls",
            "System calls of the first attach of a fresh process",
            |it| it.first_calls,
        ),
        measure(
            "re-attach-calls",
            "System calls of an attach and detach by a process that did it before",
            |it| it.again_calls,
        ),
        measure(
            "crash-to-stop-calls",
            "System calls from SIGKILL of the last client to SIGTERM at the service",
            |it| it.crash_calls,
        ),
        measure(
            "attach-instructions",
            "Instructions of the first attach and detach of a fresh process",
            |it| it.first_instructions,
        ),
        measure(
            "re-attach-instructions",
            "Instructions of an attach and detach by a process that did it before",
            |it| it.again_instructions,
        ),
    ])
}

fn count(run: &Run<'_>, contender: Contender) -> Result<Counts> {
    let limits = limits(contender);
    let setup = run.scratch.set_up(contender)?;
    // Holds the service, because otherwise the client would be the first and the last one.
    let holder = setup.holder()?;
    let (first, again) = calls_of_client(&setup)?;
    let [idle, once, often] = [
        &[][..],
        &["attach", "detach"],
        &["attach", "detach", &format!("repeat {COUNTED}")],
    ]
    .map(|commands| instructions(&setup, commands));
    let (idle, once, often) = (idle?, once?, often?);
    holder.finish()?;
    let crash = calls_after_crash(&run.scratch.set_up(contender)?)?;
    print_above("first attach", &first, limits.first_calls);
    print_above("attach and detach again", &again, limits.again_calls);
    print_above("death to stop signal", &crash, limits.crash_calls);
    Ok(Counts {
        first_calls: first.len(),
        again_calls: again.len(),
        crash_calls: crash.len(),
        first_instructions: once.saturating_sub(idle),
        again_instructions: often.saturating_sub(once) / COUNTED,
    })
}

/// Prints the system calls of a step that makes too many, because the count alone does not show the new one.
fn print_above(step: &str, calls: &[String], limit: usize) {
    if calls.len() > limit {
        eprintln!("{step}: {} system calls, limit {limit}", calls.len());
        for call in calls {
            eprintln!("  {call:.150}");
        }
    }
}

/// Returns the system calls of the first attach, and those of one pair of attach and detach after that.
fn calls_of_client(setup: &Setup) -> Result<(Vec<String>, Vec<String>)> {
    let trace = setup.site.file("trace");
    let mut strace = Command::new("strace");
    strace.arg("-o").arg(&trace);
    let mut client = setup.client_under(strace)?;
    for command in ["attach", "detach", "repeat 2", &format!("repeat {PAIRS}")] {
        client.run(command)?;
    }
    client.finish()?;
    let commands = calls_of_commands(&fs::read_to_string(trace)?);
    let [first, _, _, again] = commands.as_slice() else {
        return Err(format!("the trace has {} commands, not 4", commands.len()).into());
    };
    // A client checks the size of the log once per second, so a few pairs have more calls than the others.
    Ok((first.clone(), again[..again.len() / PAIRS].to_vec()))
}

/// Returns the system calls between each command that a client reads and its answer.
fn calls_of_commands(trace: &str) -> Vec<Vec<String>> {
    let mut commands = Vec::new();
    let mut current: Option<Vec<String>> = None;
    for line in trace.lines() {
        let input = line.strip_prefix("read(0, \"");
        if input.is_some_and(|it| it.starts_with(|first: char| first.is_ascii_lowercase())) {
            current = Some(Vec::new());
        } else if line.starts_with("write(1, \"ok") {
            commands.extend(current.take());
        } else if let Some(calls) = current.as_mut().filter(|_| is_of_procref(line)) {
            calls.push(line.to_owned());
        }
    }
    commands
}

/// Returns `false` for calls of the client program. It reads its processor time and, in a build for debugging, the
/// standard library checks each descriptor that it closes.
fn is_of_procref(call: &str) -> bool {
    !call.starts_with("clock_gettime") && !call.contains("F_GETFD")
}

/// Returns the instructions of a client that runs these commands and exits.
fn instructions(setup: &Setup, commands: &[&str]) -> Result<usize> {
    let log = setup.site.file("valgrind");
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    valgrind.arg(format!("--log-file={}", log.display()));
    let mut client = setup.client_under(valgrind)?;
    for command in commands {
        client.run(command)?;
    }
    client.finish()?;
    let text = fs::read_to_string(log)?;
    let count = text.split("Collected :").nth(1);
    let count = count.and_then(|rest| rest.split_whitespace().next());
    Ok(count
        .ok_or_else(|| format!("valgrind printed no count: {text}"))?
        .parse()?)
}

/// Returns the system calls of the supervisor from the death of the last client to the stop signal.
fn calls_after_crash(setup: &Setup) -> Result<Vec<String>> {
    let trace = setup.site.file("trace");
    let mut holder = setup.holder()?;
    let supervisors = observe::supervisors_of(&setup.site.name());
    let supervisor = supervisors.first().ok_or("no supervisor was found")?;
    let mut strace = Command::new("strace")
        .args(["-f", "-o"])
        .arg(&trace)
        .args(["-p", &supervisor.pid.to_string()])
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("start strace: {error}"))?;
    wait_traced(*supervisor)?;
    holder.kill();
    // strace exits with the supervisor, and would wait indefinitely for one that does not exit.
    supervisor.wait_exit();
    strace.wait()?;
    calls_until_signal(&trace)
}

/// Waits until strace has attached to the process, and the process sleeps again.
fn wait_traced(process: Identity) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let status = fs::read_to_string(format!("/proc/{}/status", process.pid))?;
        if !status.contains("TracerPid:\t0\n") && status.contains("State:\tS") {
            return Ok(());
        }
        if Instant::now() > end {
            return Err("strace did not attach to the supervisor".into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn calls_until_signal(trace: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(trace)?;
    let calls: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(_, call)| call.trim_start())
        .collect();
    let is_sleep = |call: &&str| call.starts_with("semtimedop") && call.contains("tv_sec");
    let is_signal = |call: &&str| call.contains("SIGTERM") && call.contains('(');
    let woken = calls
        .iter()
        .rposition(is_sleep)
        .ok_or("no sleep was traced")?;
    let stopped = calls.iter().position(is_signal);
    let stopped = stopped.ok_or("no stop signal was traced")?;
    let between = calls.get(woken + 1..=stopped);
    let between = between.ok_or("the stop signal was traced before the sleep")?;
    let own = between.iter().filter(|call| is_of_procref(call));
    Ok(own.map(ToString::to_string).collect())
}

#[cfg(test)]
mod tests {
    use super::calls_of_commands;

    #[test]
    fn calls_are_those_between_a_command_and_its_answer() {
        let trace = "read(3, \"\", 1) = 0\n\
                     read(0, \"attach\\n\", 8192) = 7\n\
                     clock_gettime(CLOCK_MONOTONIC, {}) = 0\n\
                     semget(0x1, 0, 000) = 4\n\
                     write(1, \"ok 1 2 3\\n\", 9) = 9\n\
                     close(3) = 0\n\
                     read(0, \"detach\\n\", 8192) = 7\n\
                     fcntl(3, F_GETFD) = 0\n\
                     write(1, \"ok 4 5 6\\n\", 9) = 9\n";
        let expected = [vec!["semget(0x1, 0, 000) = 4".to_owned()], vec![]];
        assert_eq!(calls_of_commands(trace), expected);
    }
}

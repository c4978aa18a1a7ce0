//! The fake service, which the clients of a test share.
//!
//! The service is a separate process that listens on a TCP port and exits after a stop signal, like a real service. While
//! it is alive, it also locks a file that procref does not know. A second live instance finds the lock and writes that
//! to the log.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::str::FromStr;
use std::time::Duration;

use crate::log::{self, Line};
use crate::observe::{self, Identity};

#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;

/// The reason in the log of an instance that procref has stopped.
pub const STOP_REASON: &str = sys::STOP_REASON;

#[derive(Clone, Default)]
struct Options {
    prefix: Vec<String>,
    log: PathBuf,
    witness: PathBuf,
    port: bool,
    listen: Option<u16>,
    activated: bool,
    unix: Option<PathBuf>,
    notify: bool,
    notify_port: bool,
    notify_lines: Vec<String>,
    wait_for: Option<PathBuf>,
    print: Vec<String>,
    exit: Option<u8>,
    workers: u32,
    workers_ignoring_sigterm: u32,
    is_worker: bool,
    await_confirm: bool,
    ignore_sigterm: bool,
    no_stop_handler: bool,
    slow_stop: Duration,
    unhealthy_file: Option<PathBuf>,
    exit_after: Option<Duration>,
    guardian: Option<Identity>,
}

fn number<T: FromStr>(text: String) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text} is no number"))
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options::default();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        let millis = |text| number(text).map(Duration::from_millis);
        match arg.as_str() {
            "--log" => options.log = value()?.into(),
            "--witness" => options.witness = value()?.into(),
            "--port" => options.port = true,
            "--listen" => options.listen = Some(number(value()?)?),
            "--activated" => options.activated = true,
            "--unix" => options.unix = Some(value()?.into()),
            "--notify" => options.notify = true,
            "--notify-port" => options.notify_port = true,
            "--notify-line" => options.notify_lines.push(value()?),
            "--wait-for" => options.wait_for = Some(value()?.into()),
            "--print" => options.print.push(value()?),
            "--exit" => options.exit = Some(number(value()?)?),
            "--workers" => options.workers = number(value()?)?,
            "--workers-ignoring-sigterm" => options.workers_ignoring_sigterm = number(value()?)?,
            "--await-confirm" => options.await_confirm = true,
            "--worker" => options.is_worker = true,
            "--ignore-sigterm" => options.ignore_sigterm = true,
            "--no-stop-handler" => options.no_stop_handler = true,
            "--slow-stop" => options.slow_stop = millis(value()?)?,
            "--unhealthy-file" => options.unhealthy_file = Some(value()?.into()),
            "--exit-after" => options.exit_after = Some(millis(value()?)?),
            "--guardian" => {
                options.guardian = Some(value()?.parse().map_err(|e| format!("{e}"))?);
            }
            _ => return Err(format!("unknown option {arg}")),
        }
    }
    Ok(options)
}

/// Runs the service with these arguments until it exits.
///
/// Its workers run the same program, with `prefix` before their arguments.
#[must_use]
pub fn main(prefix: &[&str], args: impl Iterator<Item = String>) -> ExitCode {
    let run = || -> Result<u8, String> {
        let options = Options {
            prefix: prefix.iter().map(ToString::to_string).collect(),
            ..parse(args)?
        };
        if options.is_worker {
            run_worker(&options)?;
            return Ok(0);
        }
        run_service(&options)?;
        Ok(options.exit.unwrap_or(0))
    };
    match run() {
        Ok(status) => ExitCode::from(status),
        Err(text) => {
            let _ = writeln!(io::stderr(), "procref-fake-service: {text}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a worker: a process of the service that cannot be found by its parent or session. It exits only if
/// procref finds it anyway.
fn run_worker(options: &Options) -> Result<(), String> {
    let text = |error: io::Error| error.to_string();
    let mut stop = sys::StopRequests::register().map_err(text)?;
    sys::leave_session();
    if let Some(guardian) = options.guardian {
        observe::exit_with_guardian(guardian);
    }
    let mut out = io::stdout().lock();
    writeln!(out, "ready {}", Identity::own())
        .and_then(|()| out.flush())
        .map_err(text)?;
    stop.wait(options.ignore_sigterm);
    Ok(())
}

/// Starts a worker and waits until it is ready.
fn start_worker(options: &Options, ignore_sigterm: bool) -> Result<(), String> {
    let text = |error: io::Error| error.to_string();
    let mut args: Vec<OsString> = options.prefix.iter().map(Into::into).collect();
    args.extend(["--worker".into(), "--log".into()]);
    args.push(options.log.clone().into());
    if ignore_sigterm {
        args.push("--ignore-sigterm".into());
    }
    if let Some(guardian) = options.guardian {
        args.extend(["--guardian".into(), guardian.to_string().into()]);
    }
    let program = std::env::current_exe().map_err(text)?;
    let mut launcher = sys::launcher(&program, &args)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(text)?;
    let out = launcher.stdout.take().ok_or("no pipe")?;
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line).map_err(text)?;
    sys::finish_launcher(launcher).map_err(text)?;
    let worker = line.trim().strip_prefix("ready ").unwrap_or_default();
    let worker = worker.parse().map_err(text)?;
    log::append(&options.log, &Line::Worker(worker)).map_err(text)
}

fn run_service(options: &Options) -> Result<(), String> {
    let text = |error: io::Error| error.to_string();
    for line in &options.print {
        writeln!(io::stdout(), "{line}").map_err(text)?;
    }
    // This comes before any output, because a stop request may follow the output at once.
    let stop = if options.no_stop_handler {
        None
    } else {
        Some(sys::StopRequests::register().map_err(text)?)
    };
    let own = Identity::own();
    if let Some(guardian) = options.guardian {
        observe::exit_with_guardian(guardian);
    }

    if options.await_confirm {
        let options = options.clone();
        std::thread::spawn(move || await_confirm(&options, own));
    } else {
        record_start(options, own).map_err(text)?;
    }
    for number in 0..options.workers + options.workers_ignoring_sigterm {
        start_worker(options, number >= options.workers)?;
    }
    if options.exit.is_some() {
        return Ok(());
    }
    if let Some(limit) = options.exit_after {
        let log = options.log.clone();
        std::thread::spawn(move || {
            std::thread::sleep(limit);
            let _ = log::append(&log, &Line::Stop(own.pid, "by itself".to_owned()));
            std::process::exit(0);
        });
    }
    if let Some(file) = options.wait_for.clone() {
        let options = options.clone();
        std::thread::spawn(move || {
            while !file.exists() {
                std::thread::sleep(Duration::from_millis(2));
            }
            if let Err(text) = open(&options, own) {
                let _ = writeln!(io::stderr(), "procref-fake-service: {text}");
                std::process::exit(1);
            }
        });
    } else {
        open(options, own)?;
    }

    let Some(mut stop) = stop else {
        loop {
            std::thread::park();
        }
    };
    let reason = stop.wait(options.ignore_sigterm);
    std::thread::sleep(options.slow_stop);
    log::append(&options.log, &Line::Stop(own.pid, reason)).map_err(text)
}

/// Records that this process is an instance, and locks the file that only one instance can lock.
fn record_start(options: &Options, own: Identity) -> io::Result<()> {
    match sys::lock_exclusively(&options.witness, own)? {
        // The lock lasts until the process exits.
        Some(witness) => std::mem::forget(witness),
        None => log::append(&options.log, &Line::Overlap(own.pid))?,
    }
    log::append(&options.log, &Line::Start(own))
}

/// Waits until the starter confirms that the instance is published. Exits if the starter exits first, because no other
/// process could find a process that a start callback has spawned.
fn await_confirm(options: &Options, own: Identity) {
    let mut line = String::new();
    if io::stdin().read_line(&mut line).unwrap_or(0) == 0 || record_start(options, own).is_err() {
        std::process::exit(0);
    }
    let _ = writeln!(io::stdout(), "confirmed");
}

/// Starts to listen. Reports that the service is ready, in each way that is set in the options.
fn open(options: &Options, own: Identity) -> Result<(), String> {
    let text = |error: io::Error| error.to_string();
    let mut port = 0;
    if let Some(listener) = listener(options).map_err(text)? {
        port = listener.local_addr().map_err(text)?.port();
        let unhealthy_file = options.unhealthy_file.clone();
        std::thread::spawn(move || {
            for caller in listener.incoming().flatten() {
                let healthy = !unhealthy_file
                    .as_ref()
                    .is_some_and(|file| names(file, own.pid));
                let _ = answer(caller, own.pid, healthy);
            }
        });
    }
    if let Some(path) = &options.unix {
        sys::listen_local(path).map_err(text)?;
    }
    if options.notify {
        let mut lines = options.notify_lines.clone();
        if options.notify_port {
            lines.push(format!("PROCREF_PORT={port}"));
        }
        sys::notify(&lines).map_err(text)?;
    }

    // This is the only line of the handshake. The reader may close the pipe afterwards.
    let mut out = io::stdout().lock();
    writeln!(out, "ready {} {port}", own.pid)
        .and_then(|()| out.flush())
        .map_err(text)
}

fn listener(options: &Options) -> io::Result<Option<TcpListener>> {
    if options.activated {
        let passed = |name| std::env::var(name).unwrap_or_default();
        let (pid, count) = (passed("LISTEN_PID"), passed("LISTEN_FDS"));
        if pid != std::process::id().to_string() || count != "1" {
            let reason = format!("LISTEN_PID is {pid:?}, LISTEN_FDS {count:?}");
            return Err(io::Error::other(reason));
        }
        return sys::passed_listener().map(Some);
    }
    let port = match options.listen {
        Some(port) => port,
        None if options.port => 0,
        None => return Ok(None),
    };
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(Some)
}

/// Returns `true` if the file contains this pid, or 0 for every instance.
fn names(file: &Path, pid: u32) -> bool {
    std::fs::read_to_string(file).is_ok_and(|text| text == "0" || text == pid.to_string())
}

/// Answers after the caller's request, so that the caller closes the connection first and no port stays in TIME_WAIT.
fn answer(mut caller: TcpStream, pid: u32, healthy: bool) -> io::Result<()> {
    caller.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut request = String::new();
    BufReader::new(&caller).read_line(&mut request)?;
    if request.starts_with("GET ") {
        let status = if healthy {
            "200 OK"
        } else {
            "503 Service Unavailable"
        };
        return write!(
            caller,
            "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    }
    let health = if healthy { "healthy" } else { "unhealthy" };
    writeln!(caller, "{pid} {health}")
}

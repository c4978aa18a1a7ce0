//! The service that the clients of a test share.
//!
//! It is a process of its own that serves a TCP port and ends when it is asked
//! to, as a real one would; and it is a witness: while it lives it has a file
//! for itself alone that procref knows nothing about, so a second live instance
//! finds out and says so in the log.

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

/// Why an instance has ended that procref asked to, as the log has it.
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
    wait_for: Option<PathBuf>,
    say: Vec<String>,
    exit: Option<u8>,
    workers: u32,
    stubborn_workers: u32,
    is_worker: bool,
    leash: bool,
    ignore_sigterm: bool,
    deaf: bool,
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
        let mut value = || args.next().ok_or(format!("{arg} wants a value"));
        let millis = |text| number(text).map(Duration::from_millis);
        match arg.as_str() {
            "--log" => options.log = value()?.into(),
            "--witness" => options.witness = value()?.into(),
            "--port" => options.port = true,
            "--listen" => options.listen = Some(number(value()?)?),
            "--activated" => options.activated = true,
            "--unix" => options.unix = Some(value()?.into()),
            "--notify" => options.notify = true,
            "--wait-for" => options.wait_for = Some(value()?.into()),
            "--print" => options.say.push(value()?),
            "--exit" => options.exit = Some(number(value()?)?),
            "--workers" => options.workers = number(value()?)?,
            "--workers-ignoring-sigterm" => options.stubborn_workers = number(value()?)?,
            "--await-confirm" => options.leash = true,
            "--worker" => options.is_worker = true,
            "--ignore-sigterm" => options.ignore_sigterm = true,
            "--no-stop-handler" => options.deaf = true,
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

/// Runs the service with these arguments, until it ends.
///
/// Its workers are the same program; `prefix` comes before their arguments.
#[must_use]
pub fn main(prefix: &[&str], args: impl Iterator<Item = String>) -> ExitCode {
    let run = || -> Result<u8, String> {
        let options = Options {
            prefix: prefix.iter().map(ToString::to_string).collect(),
            ..parse(args)?
        };
        if options.is_worker {
            work(&options)?;
            return Ok(0);
        }
        serve(&options)?;
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

/// A process that the service has started, which nobody is to find by its parents: it ends only if somebody
/// finds it all the same.
fn work(options: &Options) -> Result<(), String> {
    let text = |error: io::Error| error.to_string();
    let mut asks = sys::Asks::listen().map_err(text)?;
    sys::go_apart();
    if let Some(guardian) = options.guardian {
        observe::exit_with_guardian(guardian);
    }
    let mut out = io::stdout().lock();
    writeln!(out, "ready {}", Identity::own())
        .and_then(|()| out.flush())
        .map_err(text)?;
    asks.wait(options.ignore_sigterm);
    Ok(())
}

/// Starts a worker and waits until it is there.
fn start_worker(options: &Options, stubborn: bool) -> Result<(), String> {
    let text = |error: io::Error| error.to_string();
    let mut args: Vec<OsString> = options.prefix.iter().map(Into::into).collect();
    args.extend(["--worker".into(), "--log".into()]);
    args.push(options.log.clone().into());
    if stubborn {
        args.push("--ignore-sigterm".into());
    }
    if let Some(guardian) = options.guardian {
        args.extend(["--guardian".into(), guardian.to_string().into()]);
    }
    let program = std::env::current_exe().map_err(text)?;
    let mut starter = sys::starter(&program, &args)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(text)?;
    let out = starter.stdout.take().ok_or("no pipe")?;
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line).map_err(text)?;
    sys::started(starter).map_err(text)?;
    let worker = line.trim().strip_prefix("ready ").unwrap_or_default();
    let worker = worker.parse().map_err(text)?;
    log::append(&options.log, &Line::Worker(worker)).map_err(text)
}

fn serve(options: &Options) -> Result<(), String> {
    let text = |error: io::Error| error.to_string();
    for line in &options.say {
        writeln!(io::stdout(), "{line}").map_err(text)?;
    }
    // Before anything is announced: a stop may come as soon as it is.
    let asks = if options.deaf {
        None
    } else {
        Some(sys::Asks::listen().map_err(text)?)
    };
    let me = Identity::own();
    if let Some(guardian) = options.guardian {
        observe::exit_with_guardian(guardian);
    }

    if options.leash {
        let options = options.clone();
        std::thread::spawn(move || wait_unleashed(&options, me));
    } else {
        testify(options, me).map_err(text)?;
    }
    for number in 0..options.workers + options.stubborn_workers {
        start_worker(options, number >= options.workers)?;
    }
    if options.exit.is_some() {
        return Ok(());
    }
    if let Some(limit) = options.exit_after {
        let log = options.log.clone();
        std::thread::spawn(move || {
            std::thread::sleep(limit);
            let _ = log::append(&log, &Line::Stop(me.pid, "by itself".to_owned()));
            std::process::exit(0);
        });
    }
    if let Some(file) = options.wait_for.clone() {
        let options = options.clone();
        std::thread::spawn(move || {
            while !file.exists() {
                std::thread::sleep(Duration::from_millis(2));
            }
            if let Err(text) = open(&options, me) {
                let _ = writeln!(io::stderr(), "procref-fake-service: {text}");
                std::process::exit(1);
            }
        });
    } else {
        open(options, me)?;
    }

    let Some(mut asks) = asks else {
        loop {
            std::thread::park();
        }
    };
    let why = asks.wait(options.ignore_sigterm);
    std::thread::sleep(options.slow_stop);
    log::append(&options.log, &Line::Stop(me.pid, why)).map_err(text)
}

/// From now on this is an instance, and holds what no other one may hold at the same time.
fn testify(options: &Options, me: Identity) -> io::Result<()> {
    match sys::have_alone(&options.witness, me)? {
        // Held until the end of the process.
        Some(witness) => std::mem::forget(witness),
        None => log::append(&options.log, &Line::Overlap(me.pid))?,
    }
    log::append(&options.log, &Line::Start(me))
}

/// Until its starter says that it is known, it ends with its starter: what a start callback has spawned,
/// nobody else could find.
fn wait_unleashed(options: &Options, me: Identity) {
    let mut word = String::new();
    if io::stdin().read_line(&mut word).unwrap_or(0) == 0 || testify(options, me).is_err() {
        std::process::exit(0);
    }
    let _ = writeln!(io::stdout(), "confirmed");
}

/// Opens for business, and says so in every way that it was told to.
fn open(options: &Options, me: Identity) -> Result<(), String> {
    let text = |error: io::Error| error.to_string();
    let mut port = 0;
    if let Some(listener) = listener(options).map_err(text)? {
        port = listener.local_addr().map_err(text)?.port();
        let unhealthy_file = options.unhealthy_file.clone();
        std::thread::spawn(move || {
            for caller in listener.incoming().flatten() {
                let healthy = !unhealthy_file
                    .as_ref()
                    .is_some_and(|file| names(file, me.pid));
                let _ = answer(caller, me.pid, healthy);
            }
        });
    }
    if let Some(path) = &options.unix {
        sys::listen_locally(path).map_err(text)?;
    }
    if options.notify {
        sys::notify().map_err(text)?;
    }

    // The one line of the handshake. The pipe may be closed afterwards.
    let mut out = io::stdout().lock();
    writeln!(out, "ready {} {port}", me.pid)
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

/// Whether the file of ill health is there and means this instance, or all.
fn names(file: &Path, pid: u32) -> bool {
    std::fs::read_to_string(file).is_ok_and(|text| text == "0" || text == pid.to_string())
}

/// Answers once the caller has asked, so that the connection is closed by the
/// caller first and no port lingers.
fn answer(mut caller: TcpStream, pid: u32, healthy: bool) -> io::Result<()> {
    caller.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut question = String::new();
    BufReader::new(&caller).read_line(&mut question)?;
    if question.starts_with("GET ") {
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

//! The service that the clients of a test share.
//!
//! It is a process of its own that serves a TCP port and ends on SIGTERM, as a
//! real one would; and it is a witness: while it lives it holds a file locked
//! that procref knows nothing about, so a second live instance finds out and
//! says so in the log.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use procref_testkit::log::{self, Line};
use procref_testkit::observe::{self, Identity};
use rustix::fs::{FlockOperation, flock};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

#[derive(Default)]
struct Options {
    log: PathBuf,
    witness: PathBuf,
    port: bool,
    ignore_sigterm: bool,
    slow_stop: Duration,
    unhealthy_file: Option<PathBuf>,
    exit_after: Option<Duration>,
    guardian: Option<Identity>,
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options::default();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} wants a value"));
        let millis = |text: String| {
            let number = text.parse().map_err(|_| format!("{text} is no number"))?;
            Ok::<_, String>(Duration::from_millis(number))
        };
        match arg.as_str() {
            "--log" => options.log = value()?.into(),
            "--witness" => options.witness = value()?.into(),
            "--port" => options.port = true,
            "--ignore-sigterm" => options.ignore_sigterm = true,
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

fn main() -> ExitCode {
    let run = || -> Result<(), String> { serve(&parse(std::env::args().skip(1))?) };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            let _ = writeln!(io::stderr(), "procref-fake-service: {text}");
            ExitCode::FAILURE
        }
    }
}

fn serve(options: &Options) -> Result<(), String> {
    let text = |error: io::Error| error.to_string();
    // Before anything is announced: a stop may come as soon as it is.
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(text)?;
    let me = Identity::own();
    if let Some(guardian) = options.guardian {
        observe::die_with(guardian);
    }

    let witness = File::options()
        .append(true)
        .create(true)
        .open(&options.witness)
        .map_err(text)?;
    if flock(&witness, FlockOperation::NonBlockingLockExclusive).is_err() {
        log::append(&options.log, &Line::Overlap(me.pid)).map_err(text)?;
    }
    log::append(&options.log, &Line::Start(me)).map_err(text)?;

    let mut port = 0;
    if options.port {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(text)?;
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
    if let Some(limit) = options.exit_after {
        let log = options.log.clone();
        std::thread::spawn(move || {
            std::thread::sleep(limit);
            let _ = log::append(&log, &Line::Stop(me.pid, "by itself".to_owned()));
            std::process::exit(0);
        });
    }

    // The one line of the handshake. The pipe may be closed afterwards.
    let mut out = io::stdout().lock();
    writeln!(out, "ready {} {port}", me.pid)
        .and_then(|()| out.flush())
        .map_err(text)?;

    for signal in signals.forever() {
        if options.ignore_sigterm && signal == SIGTERM {
            continue;
        }
        std::thread::sleep(options.slow_stop);
        let why = format!("signal {signal}");
        log::append(&options.log, &Line::Stop(me.pid, why)).map_err(text)?;
        break;
    }
    Ok(())
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
    let health = if healthy { "healthy" } else { "unhealthy" };
    writeln!(caller, "{pid} {health}")
}

//! The program that needs the service, and the service: the two other parts that `procref` itself plays.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{self, ExitCode};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use clap::Args;
use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;

use crate::error::{Error, Result};

/// How the hidden subcommands are called.
pub(crate) const CLIENT: &str = "__demo-client";
pub(crate) const SERVICE: &str = "__demo-service";

/// Tells the service the number of the client that has started it.
pub(super) const STARTER: &str = "PROCREF_DEMO_STARTER";

/// How long the service takes to start, so that there is something to wait for.
const START: Duration = Duration::from_millis(700);

/// Between two requests of a client.
const PAUSE: Duration = Duration::from_millis(150);

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(30);

#[derive(Args, Debug)]
pub(crate) struct ServiceArgs {
    /// Where it writes down what it does.
    log: OsString,
}

/// Asks the service again and again, until its input ends.
pub(crate) fn client() -> Result<ExitCode> {
    let port = port("PROCREF_PORT")?;
    thread::spawn(|| {
        // Its end is what is waited for.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        process::exit(0);
    });
    loop {
        let answer = ask(port).map_err(|error| Error::io("ask the service", error))?;
        let said = writeln!(io::stdout(), "{answer}");
        said.map_err(|error| Error::io("tell what it has answered", error))?;
        thread::sleep(PAUSE);
    }
}

fn ask(port: u16) -> io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(ANSWER))?;
    writeln!(stream, "request of {}", process::id())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(answer.trim_end().to_owned())
}

/// What the service has done so far.
struct Work {
    log: File,
    answers: usize,
}

impl Work {
    fn note(&mut self, line: &str) -> Result<()> {
        // In one piece, as long as it is short.
        let written = self.log.write_all(format!("{line}\n").as_bytes());
        written.map_err(|error| Error::io("write the service's log", error))
    }
}

/// Answers every line with its pid and the number of the answer, and writes down what it does.
pub(crate) fn service(args: &ServiceArgs) -> Result<ExitCode> {
    let pid = process::id();
    let port = port("PORT")?;
    let log = OpenOptions::new().create(true).append(true).open(&args.log);
    let log = log.map_err(|error| Error::io("open the service's log", error))?;
    let work = Arc::new(Mutex::new(Work { log, answers: 0 }));
    let starter = std::env::var(STARTER).unwrap_or_default();
    lock(&work).note(&format!("started pid={pid} starter={starter}"))?;
    stop_when_told(Arc::clone(&work))?;
    thread::sleep(START);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let listener = listener.map_err(|error| Error::io(format!("listen on port {port}"), error))?;
    for stream in listener.incoming().flatten() {
        // Whoever looks whether it is ready says nothing, and who was killed does not read.
        let _ = answer(stream, &work);
    }
    Ok(ExitCode::SUCCESS)
}

fn stop_when_told(work: Arc<Mutex<Work>>) -> Result<()> {
    let mut signals =
        Signals::new([SIGTERM]).map_err(|error| Error::io("listen to signals", error))?;
    thread::spawn(move || {
        if signals.forever().next().is_some() {
            let mut work = lock(&work);
            let (pid, answers) = (process::id(), work.answers);
            let _ = work.note(&format!("stopped pid={pid} after={answers}"));
            process::exit(0);
        }
    });
    Ok(())
}

fn answer(stream: TcpStream, work: &Mutex<Work>) -> Result<()> {
    let failed = |error| Error::io("answer", error);
    stream.set_read_timeout(Some(ANSWER)).map_err(failed)?;
    let mut request = String::new();
    let mut reader = BufReader::new(&stream);
    reader.read_line(&mut request).map_err(failed)?;
    if request.is_empty() {
        return Ok(());
    }
    let pid = process::id();
    let number = {
        let mut work = lock(work);
        work.answers += 1;
        let number = work.answers;
        work.note(&format!("answer pid={pid} number={number}"))?;
        number
    };
    writeln!(&stream, "{pid} {number}").map_err(failed)
}

fn lock(work: &Mutex<Work>) -> std::sync::MutexGuard<'_, Work> {
    work.lock().unwrap_or_else(PoisonError::into_inner)
}

fn port(variable: &str) -> Result<u16> {
    let port = std::env::var(variable).ok();
    let port = port.and_then(|port| port.parse().ok());
    port.ok_or_else(|| {
        Error::Usage(format!(
            "there is no port in ${variable}; this is for `procref demo`"
        ))
    })
}

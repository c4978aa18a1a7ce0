//! The client program and the service. `procref` itself runs both.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{self, ExitCode};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;

use crate::demo::args::DemoServiceArgs;
use crate::error::{Error, Result};

/// The variable with the number of the client that started the service.
pub(super) const STARTER: &str = "PROCREF_DEMO_STARTER";

/// The duration of the service's start. It is long enough to show that clients wait.
const START: Duration = Duration::from_millis(700);

/// The time between two requests of a client.
const PAUSE: Duration = Duration::from_millis(150);

/// The time limit for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Sends requests to the service until standard input is closed.
pub(crate) fn client() -> Result<ExitCode> {
    let port = port("PROCREF_PORT")?;
    thread::spawn(|| {
        // The parent closes standard input to stop this client.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        process::exit(0);
    });
    loop {
        let answer = request(port).map_err(|error| Error::io("request an answer", error))?;
        let written = writeln!(io::stdout(), "{answer}");
        written.map_err(|error| Error::io("write to the standard output", error))?;
        thread::sleep(PAUSE);
    }
}

fn request(port: u16) -> io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    writeln!(stream, "request of {}", process::id())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(answer.trim_end().to_owned())
}

/// An event of the service, as its log records it.
struct Work {
    log: File,
    answers: usize,
}

impl Work {
    /// Writes a line by one call, so that no reader sees only a part of it.
    fn record(&mut self, line: &str) -> Result<()> {
        let written = self.log.write_all(format!("{line}\n").as_bytes());
        written.map_err(|error| Error::io("write the service's log", error))
    }
}

/// Runs the service. The service answers each line with its pid and the number of the answer, and records its
/// events.
pub(crate) fn service(args: &DemoServiceArgs) -> Result<ExitCode> {
    let pid = process::id();
    let port = port("PORT")?;
    let log = OpenOptions::new().create(true).append(true).open(&args.log);
    let log = log.map_err(|error| Error::io("open the service's log", error))?;
    let work = Arc::new(Mutex::new(Work { log, answers: 0 }));
    let starter = std::env::var(STARTER).unwrap_or_default();
    lock(&work).record(&format!("started pid={pid} starter={starter}"))?;
    stop_on_sigterm(Arc::clone(&work))?;
    thread::sleep(START);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let listener = listener.map_err(|error| Error::io(format!("listen on port {port}"), error))?;
    for stream in listener.incoming().flatten() {
        // An error is ignored: a readiness probe sends nothing, and a killed client does not read.
        let _ = answer(stream, &work);
    }
    Ok(ExitCode::SUCCESS)
}

fn stop_on_sigterm(work: Arc<Mutex<Work>>) -> Result<()> {
    let mut signals =
        Signals::new([SIGTERM]).map_err(|error| Error::io("handle signals", error))?;
    thread::spawn(move || {
        if signals.forever().next().is_some() {
            let mut work = lock(&work);
            let (pid, answers) = (process::id(), work.answers);
            let _ = work.record(&format!("stopped pid={pid} after={answers}"));
            process::exit(0);
        }
    });
    Ok(())
}

fn answer(stream: TcpStream, work: &Mutex<Work>) -> Result<()> {
    let failed = |error| Error::io("answer", error);
    stream
        .set_read_timeout(Some(ANSWER_TIMEOUT))
        .map_err(failed)?;
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
        work.record(&format!("answer pid={pid} number={number}"))?;
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
            "no port in ${variable} (only `procref demo` runs this command)"
        ))
    })
}

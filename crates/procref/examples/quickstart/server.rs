//! The shared service: a small HTTP server that writes down what it does.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crate::common::{Result, report, signals};

/// A server that nobody talks to for so long ends by itself: a demonstration
/// must not leave anything behind, however it is interrupted.
const LONELY: Duration = Duration::from_secs(120);

/// Starts a server process, and returns its pid and the port it chose.
pub fn start(log: &Path) -> io::Result<(u32, u16)> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("server")
        .arg(log)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(open(log)?)
        .spawn()?;
    let mut line = String::new();
    if let Some(pipe) = child.stdout.take() {
        // The first line says the port; the end of the pipe, that there is none.
        BufReader::new(pipe).read_line(&mut line)?;
    }
    match line.trim().parse() {
        Ok(port) => Ok((child.id(), port)),
        Err(_) => {
            child.kill()?;
            child.wait()?;
            Err(io::Error::other("the server did not come up"))
        }
    }
}

/// A client's request.
pub fn get(url: &str, page: &str) -> Result<String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(30)))
        .proxy(None)
        .build()
        .into();
    let mut answer = agent.get(format!("{url}/{page}")).call()?;
    Ok(answer.body_mut().read_to_string()?)
}

fn open(log: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(log)
}

/// The server process.
pub fn run(log: &Path) -> Result<()> {
    let mut log = open(log)?;
    let pid = std::process::id();
    let server = tiny_http::Server::http("127.0.0.1:0").map_err(|error| error.to_string())?;
    let server = Arc::new(server);
    let address = server.server_addr().to_ip().ok_or("no port")?;

    let bell = Arc::clone(&server);
    signals::on_interruption(move || bell.unblock())?;

    writeln!(log, "started pid={pid} port={}", address.port())?;
    report(address.port())?;

    let mut served = 0;
    while let Some(request) = server.recv_timeout(LONELY)? {
        let page = request.url().trim_start_matches('/').to_owned();
        if page != "health" {
            served += 1;
            writeln!(log, "request pid={pid} number={served} {page}")?;
        }
        let answer = tiny_http::Response::from_string(format!("{pid} {served}"));
        // A client that was killed meanwhile does not read its answer.
        let _ = request.respond(answer);
    }
    writeln!(log, "stopped pid={pid} after={served}")?;
    Ok(())
}

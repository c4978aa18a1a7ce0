//! The fork server: a process with one thread that has not used procref, and forks the clients.
//!
//! Executing a program for each client would take most of the time of a storm that kills hundreds of clients. A
//! forked client is an ordinary process: its references, locks and threads are its own.

use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use procref_testkit::observe::Identity;
use procref_testkit::process::{Forked, exit_at_once, fork};
use rustix::process::{Pid, WaitOptions, waitpid};

use crate::linux::client::{self, ClientSpec};

/// The runner's connection to the fork server.
pub struct ForkServer {
    process: Child,
    channel: BufReader<UnixStream>,
}

impl ForkServer {
    /// Starts the server. Its clients report their events on `events`. The server exits with this process.
    pub fn new(root: &Path, events: OwnedFd) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let process = Command::new(std::env::current_exe()?)
            .arg("fork-server")
            // The argument marks the process as one of this storm, and makes room for a supervisor's title.
            .arg(root.join("the processes of a storm of procref's own tests"))
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(events)
            .current_dir("/")
            .spawn()?;
        Ok(Self {
            process,
            channel: BufReader::new(ours),
        })
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Forks a client for each spec, in this order. The clients are children of this process, because it is the
    /// nearest subreaper.
    pub fn fork_clients(&mut self, specs: &[ClientSpec]) -> io::Result<Vec<Identity>> {
        let mut text = String::new();
        for spec in specs {
            text += &serde_json::to_string(spec)?;
            text += "\n";
        }
        self.channel.get_mut().write_all(text.as_bytes())?;
        let mut clients = Vec::new();
        for _ in specs {
            let mut line = String::new();
            self.channel.read_line(&mut line)?;
            let pid = line.trim().parse().map_err(io::Error::other)?;
            // This succeeds even if the client is a zombie, because only this process reaps it.
            let missing = || io::Error::other("a client without an identity");
            clients.push(Identity::of(pid).ok_or_else(missing)?);
        }
        Ok(clients)
    }
}

/// Runs the fork server until its standard input ends.
pub fn main() -> ExitCode {
    for line in io::stdin().lock().lines() {
        let Ok(spec) = line.map_err(drop).and_then(|line| parse(&line)) else {
            return ExitCode::from(2);
        };
        if fork_client(spec).is_err() {
            return ExitCode::FAILURE;
        }
    }
    // The runner has exited.
    ExitCode::SUCCESS
}

fn parse(line: &str) -> Result<ClientSpec, ()> {
    serde_json::from_str(line).map_err(drop)
}

/// Forks twice, so that the client becomes a child of the runner. The runner then gets the client's exit status
/// from the kernel.
fn fork_client(spec: ClientSpec) -> io::Result<()> {
    match fork()? {
        Forked::Parent(intermediate) => {
            waitpid(Pid::from_raw(intermediate as i32), WaitOptions::empty())?;
            Ok(())
        }
        Forked::Child => match fork() {
            Ok(Forked::Parent(client)) => {
                let line = format!("{client}\n");
                let written = rustix::io::write(rustix::stdio::stdin(), line.as_bytes());
                exit_at_once(i32::from(written.is_err()));
            }
            Ok(Forked::Child) => {
                let null = std::fs::File::open("/dev/null");
                let closed = null.and_then(|null| Ok(rustix::stdio::dup2_stdin(null)?));
                let code = if closed.is_ok() {
                    client::main(spec)
                } else {
                    1
                };
                std::process::exit(code);
            }
            Err(_) => exit_at_once(1),
        },
    }
}

//! Where clients are born: a process with one thread that has used nothing of procref's yet, and forks.
//!
//! To execute a program for each client would take most of the time of a storm that kills clients by the
//! hundred. What is forked here is a process like any other: its references, locks and threads are its own.

use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use procref_testkit::observe::Identity;
use procref_testkit::process::{Forked, exit_at_once, fork};
use rustix::process::{Pid, WaitOptions, waitpid};

use crate::linux::client::{self, Orders};

/// The director's end of it.
pub struct Nursery {
    process: Child,
    channel: BufReader<UnixStream>,
}

impl Nursery {
    /// Its children tell what they do on `events`. It ends with this process.
    pub fn new(root: &Path, events: OwnedFd) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let process = Command::new(std::env::current_exe()?)
            .arg("nursery")
            // So that it is found as one of the storm's, and a supervisor's title has room.
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

    /// Clients, in this order. They are children of this process, the nearest subreaper.
    pub fn bear(&mut self, orders: &[Orders]) -> io::Result<Vec<Identity>> {
        let mut text = String::new();
        for orders in orders {
            text += &serde_json::to_string(orders)?;
            text += "\n";
        }
        self.channel.get_mut().write_all(text.as_bytes())?;
        let mut born = Vec::new();
        for _ in orders {
            let mut line = String::new();
            self.channel.read_line(&mut line)?;
            let pid = line.trim().parse().map_err(io::Error::other)?;
            // A zombie has an identity, too, and only this process reaps it.
            let lost = || io::Error::other("a client without an identity");
            born.push(Identity::of(pid).ok_or_else(lost)?);
        }
        Ok(born)
    }
}

pub fn main() -> ExitCode {
    for line in io::stdin().lock().lines() {
        let Ok(orders) = line.map_err(drop).and_then(|line| parse(&line)) else {
            return ExitCode::from(2);
        };
        if bear(orders).is_err() {
            return ExitCode::FAILURE;
        }
    }
    // The director has ended.
    ExitCode::SUCCESS
}

fn parse(line: &str) -> Result<Orders, ()> {
    serde_json::from_str(line).map_err(drop)
}

/// Twice, so that the client is the director's child, which learns from the kernel how it ended.
fn bear(orders: Orders) -> io::Result<()> {
    match fork()? {
        Forked::Parent(between) => {
            waitpid(Pid::from_raw(between as i32), WaitOptions::empty())?;
            Ok(())
        }
        Forked::Child => match fork() {
            Ok(Forked::Parent(client)) => {
                let told =
                    rustix::io::write(rustix::stdio::stdin(), format!("{client}\n").as_bytes());
                exit_at_once(i32::from(told.is_err()));
            }
            Ok(Forked::Child) => {
                let null = std::fs::File::open("/dev/null");
                let closed = null.and_then(|null| Ok(rustix::stdio::dup2_stdin(null)?));
                let code = if closed.is_ok() {
                    client::main(orders)
                } else {
                    1
                };
                std::process::exit(code);
            }
            Err(_) => exit_at_once(1),
        },
    }
}

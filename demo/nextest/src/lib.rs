//! One Redis for all tests of a project, each of which is a process of its own.
//!
//! The first test that needs it starts it, the others join, and two seconds after the last
//! one it is stopped, however the tests have ended. This file is all that it takes; the tests
//! are in `tests/forty.rs`.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use procref::{Mismatch, Result, ServiceCommand, ServiceHandle, ServiceInfo, SharedService};

/// What has to be in the database before any test runs. Change it, and tests get another
/// database, even if one with the old contents is still warm.
const MIGRATIONS: &[&str] = &["INCR migrated", "HSET colour:1 name blue"];

/// A test's connection, which keeps the database alive.
pub struct Redis {
    // In this order they are dropped: nobody talks to a database that may be gone.
    connection: BufReader<TcpStream>,
    _handle: ServiceHandle,
}

fn shared_redis() -> Result<SharedService> {
    let server = ServiceCommand::new("redis-server")
        .args(["--bind", "127.0.0.1", "--port", "{port}"])
        .args(["--dir", "{dir}", "--save", ""])
        // How often it looks whether it is to stop: 100 times a second.
        .args(["--loglevel", "verbose", "--hz", "100"])
        .log("{dir}/demo-redis.log");
    SharedService::builder("demo-redis")
        .command(server)
        // Long enough from one test to the next.
        .linger(Duration::from_secs(2))
        // In one process, before any test gets in.
        .on_ready(|info| async move { migrate(&info) })
        .fingerprint(MIGRATIONS.join("\n"), Mismatch::Separate)
        .build()
}

fn migrate(info: &ServiceInfo) -> Result<()> {
    let mut connection = connect(info)?;
    for migration in MIGRATIONS {
        ask(&mut connection, migration)?;
    }
    Ok(())
}

impl Redis {
    /// Starts the database, or joins those that use it.
    ///
    /// # Errors
    ///
    /// It cannot be started, or does not answer.
    pub fn acquire() -> Result<Self> {
        let handle = shared_redis()?.acquire_blocking()?;
        Ok(Self {
            connection: connect(handle.info())?,
            _handle: handle,
        })
    }

    /// The answer to a command, in one line.
    ///
    /// # Errors
    ///
    /// The database refuses it, or is gone.
    pub fn ask(&mut self, command: &str) -> Result<String> {
        ask(&mut self.connection, command)
    }
}

fn connect(info: &ServiceInfo) -> Result<BufReader<TcpStream>> {
    let connection = TcpStream::connect(("127.0.0.1", info.port()))?;
    connection.set_nodelay(true)?;
    Ok(BufReader::new(connection))
}

/// Enough of Redis's protocol for a demonstration: words in, a number or a word out.
fn ask(connection: &mut BufReader<TcpStream>, command: &str) -> Result<String> {
    let words = format!("{command}\r\n");
    connection.get_mut().write_all(words.as_bytes())?;
    let mut line = String::new();
    connection.read_line(&mut line)?;
    let Some((kind, rest)) = line.trim_end().split_at_checked(1) else {
        return Err("Redis has closed the connection".into());
    };
    match kind {
        "+" | ":" => Ok(rest.to_owned()),
        // A word follows on the next line, unless there is none.
        "$" if rest != "-1" => {
            line.clear();
            connection.read_line(&mut line)?;
            Ok(line.trim_end().to_owned())
        }
        _ => Err(format!("'{command}': {line}").into()),
    }
}

//! One Redis for all tests of a project, each of which is a separate process.
//!
//! The first test that needs Redis starts it, and the other tests join it. Redis stops two seconds after the
//! last test has ended, even if tests are killed. A project needs only the code in this file. The tests are
//! in `tests/forty.rs`.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use procref::{Mismatch, Result, ServiceCommand, ServiceHandle, ServiceInfo, SharedService};

/// The commands that fill the database before the first test runs.
///
/// Tests with other commands use another database, even if one with the old contents is still lingering.
const MIGRATIONS: &[&str] = &["INCR migrated", "HSET color:1 name blue"];

/// The connection of a test, which keeps the database running.
pub struct Redis {
    // Fields are dropped in this order. The connection closes before the database may stop.
    connection: BufReader<TcpStream>,
    _handle: ServiceHandle,
}

fn shared_redis() -> Result<SharedService> {
    let server = ServiceCommand::new("redis-server")
        .args(["--bind", "127.0.0.1", "--port", "{port}"])
        .args(["--dir", "{dir}", "--save", ""])
        // Redis checks for a stop signal 100 times a second.
        .args(["--loglevel", "verbose", "--hz", "100"]);
    SharedService::builder("demo-redis")
        .command(server)
        // The database runs for this long after a test, until the next test joins.
        .linger(Duration::from_secs(2))
        // One process runs the migrations before any test gets the database.
        .on_ready(|info| async move { migrate(&info) })
        .fingerprint(MIGRATIONS.join("\n"), Mismatch::Separate)
        .build()
}

fn migrate(info: &ServiceInfo) -> Result<()> {
    let mut connection = connect(info)?;
    for migration in MIGRATIONS {
        query(&mut connection, migration)?;
    }
    Ok(())
}

impl Redis {
    /// Starts the database, or joins the tests that use it.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be started or does not answer.
    pub fn acquire() -> Result<Self> {
        let handle = shared_redis()?.acquire_blocking()?;
        Ok(Self {
            connection: connect(handle.info())?,
            _handle: handle,
        })
    }

    /// Sends a command and returns the answer, which is one line.
    ///
    /// # Errors
    ///
    /// Fails if the database rejects the command or has closed the connection.
    pub fn query(&mut self, command: &str) -> Result<String> {
        query(&mut self.connection, command)
    }
}

fn connect(info: &ServiceInfo) -> Result<BufReader<TcpStream>> {
    let connection = TcpStream::connect(("127.0.0.1", info.port()))?;
    connection.set_nodelay(true)?;
    Ok(BufReader::new(connection))
}

/// Implements as much of the Redis protocol as the demo needs: a command of words, and a number or a word as answer.
fn query(connection: &mut BufReader<TcpStream>, command: &str) -> Result<String> {
    let request = format!("{command}\r\n");
    connection.get_mut().write_all(request.as_bytes())?;
    let mut line = String::new();
    connection.read_line(&mut line)?;
    let Some((kind, rest)) = line.trim_end().split_at_checked(1) else {
        return Err("Redis has closed the connection".into());
    };
    match kind {
        "+" | ":" => Ok(rest.to_owned()),
        // The word is on the next line. Length -1 means that there is no word.
        "$" if rest != "-1" => {
            line.clear();
            connection.read_line(&mut line)?;
            Ok(line.trim_end().to_owned())
        }
        _ => Err(format!("'{command}': {line}").into()),
    }
}

//! A private PostgreSQL in one directory, reachable only over a socket in that directory.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use postgres::{Client, Config, NoTls, Transaction};
use procref::{Ready, ServiceCommand, StopSignal};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};

use super::common::Result;

/// The port that is part of the socket's name. PostgreSQL does not listen on the network.
pub const PORT: u16 = 5432;

/// Number of rows in a batch. A client writes the first batch in transactions of [`ROWS_PER_TRANSACTION`] rows, and the
/// second one in a single transaction.
pub const BATCH: i32 = 250;
const ROWS_PER_TRANSACTION: i32 = 25;

const USER: &str = "procref";

#[derive(Clone)]
pub struct Database {
    dir: PathBuf,
}

impl Database {
    pub fn in_dir(dir: &Path) -> Self {
        Self { dir: dir.into() }
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The directory of the socket.
    pub fn socket_dir(&self) -> PathBuf {
        self.dir.join("socket")
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("postgres.log")
    }

    pub fn log(&self) -> io::Result<String> {
        fs::read_to_string(self.log_path())
    }

    /// Creates the database's files unless they exist. Several processes may call this at the same time. If
    /// this process dies, the kernel releases the lock, and the unfinished files have another name.
    pub fn create(&self) -> procref::Result<()> {
        let lock = File::create(self.dir.join("initdb.lock"))?;
        flock(&lock, FlockOperation::LockExclusive).map_err(io::Error::from)?;
        if self.data().exists() {
            return Ok(());
        }
        fs::create_dir_all(self.socket_dir())?;
        let unfinished = self.dir.join("data.unfinished");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished)?;
        }
        let mut initdb = program("initdb")?;
        initdb
            .args([
                "--auth=trust",
                "--encoding=UTF8",
                "--no-locale",
                "--no-sync",
            ])
            .args(["--username", USER])
            .arg("--pgdata")
            .arg(&unfinished);
        run(initdb)?;
        Ok(fs::rename(unfinished, self.data())?)
    }

    /// Returns the options of `postgres`, for both start methods.
    fn options(&self) -> procref::Result<Vec<String>> {
        let socket_dir = self.socket_dir();
        let socket_dir = socket_dir
            .to_str()
            .ok_or("the directory's name is not UTF-8")?;
        let settings = [
            "listen_addresses=".to_owned(),
            format!("unix_socket_directories={socket_dir}"),
            "fsync=off".to_owned(),
            // The log then shows each table that is created.
            "log_statement=ddl".to_owned(),
        ];
        let settings = settings.map(|setting| ["-c".to_owned(), setting]);
        let port = ["-p".to_owned(), PORT.to_string()];
        Ok(port
            .into_iter()
            .chain(settings.into_iter().flatten())
            .collect())
    }

    /// Returns the command with which procref starts the database.
    pub fn command(&self) -> procref::Result<ServiceCommand> {
        let port = PORT.to_string();
        let is_ready = program("pg_isready")?;
        let socket_dir = self.socket_dir();
        let address = [
            OsStr::new("--port"),
            OsStr::new(&port),
            OsStr::new("--host"),
            socket_dir.as_os_str(),
        ];
        let command = ServiceCommand::new(program("postgres")?.get_program())
            .arg("-D")
            .arg(self.data())
            .args(self.options()?)
            .env("LC_ALL", "C")
            .log(self.log_path())
            .ready(Ready::command(is_ready.get_program(), address))
            // A fast shutdown, as in `request_stop`.
            .stop_signal(StopSignal::Int);
        Ok(command)
    }

    /// Starts the database with `pg_ctl`, waits until it answers, and returns the pid of its main process.
    pub fn start(&self) -> procref::Result<u32> {
        // `pg_ctl` passes the options to a shell.
        let options = self.options()?;
        let options: Vec<_> = options.iter().map(|word| format!("'{word}'")).collect();
        // `pg_ctl` returns when the database is ready or has failed.
        let mut start = program("pg_ctl")?;
        start
            .args(["start", "--wait", "--silent", "--timeout=60"])
            .arg("--pgdata")
            .arg(self.data())
            .arg("--log")
            .arg(self.log_path())
            .arg("--options")
            .arg(options.join(" "));
        run(start)?;
        let lock = fs::read_to_string(self.data().join("postmaster.pid"))?;
        let pid = lock
            .lines()
            .next()
            .and_then(|line| line.trim().parse().ok());
        Ok(pid.ok_or("postmaster.pid contains no pid")?)
    }

    pub fn connect(&self) -> Result<Client> {
        let mut config = Config::new();
        config
            .host_path(self.socket_dir())
            .port(PORT)
            .user(USER)
            .dbname("postgres")
            .connect_timeout(Duration::from_secs(30));
        Ok(config.connect(NoTls)?)
    }

    /// Creates the table that the clients use. It may exist from an earlier start of the database.
    pub fn migrate(&self) -> Result<()> {
        let table = "CREATE TABLE IF NOT EXISTS rows \
                     (client int, n int, text text, PRIMARY KEY (client, n))";
        Ok(self.connect()?.batch_execute(table)?)
    }

    /// Checks that the database executes a statement.
    pub fn check(&self) -> Result<()> {
        self.connect()?.simple_query("SELECT 1")?;
        Ok(())
    }

    /// Stops a database that still runs after the example has failed.
    pub fn stop_leftover(&self) {
        if !self.data().join("postmaster.pid").exists() {
            return;
        }
        let stopped = program("pg_ctl").and_then(|mut stop| {
            stop.args(["stop", "--silent", "--mode=immediate", "--pgdata"]);
            stop.arg(self.data());
            run(stop)
        });
        if let Err(error) = stopped {
            super::common::print_error("while stopping PostgreSQL", &error);
        }
    }

    /// Returns the state of a stopped database, as `pg_controldata` prints it.
    pub fn state_on_disk(&self) -> procref::Result<String> {
        let mut control = program("pg_controldata")?;
        control.arg(self.data());
        let text = run(control)?;
        let state = text
            .lines()
            .find_map(|line| line.strip_prefix("Database cluster state:"));
        Ok(state
            .ok_or("pg_controldata prints no state")?
            .trim()
            .to_owned())
    }
}

/// Requests a fast shutdown, which ends all sessions. SIGTERM would wait until every session ends by itself.
pub fn request_stop(pid: u32) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("not a pid"))?;
    Ok(kill_process(pid, Signal::INT)?)
}

/// Writes a client's first batch in small transactions and reads it. Returns the number of this client's rows, and of all
/// rows.
pub fn write_and_read(connection: &mut Client, client: i32) -> Result<(i64, i64)> {
    let mut n = 0;
    while n < BATCH {
        let mut transaction = connection.transaction()?;
        insert(&mut transaction, client, n, ROWS_PER_TRANSACTION)?;
        transaction.commit()?;
        n += ROWS_PER_TRANSACTION;
    }
    let own = "SELECT n, text FROM rows WHERE client = $1 ORDER BY n";
    let rows = connection.query(own, &[&client])?;
    for (n, row) in (0..).zip(&rows) {
        let (stored, text): (i32, String) = (row.try_get(0)?, row.try_get(1)?);
        if (stored, text) != (n, text_of(client, n)) {
            return Err(format!("row {n} of client {client} is not as it was written").into());
        }
    }
    Ok((i64::try_from(rows.len())?, count_and_sum(connection)?.0))
}

/// Writes the second batch. Returns the number of that client's rows in the transaction.
pub fn insert_second_batch(transaction: &mut Transaction<'_>, client: i32) -> Result<i64> {
    insert(transaction, client, BATCH, BATCH)?;
    let row = transaction.query_one("SELECT count(*) FROM rows WHERE client = $1", &[&client])?;
    Ok(row.try_get(0)?)
}

/// Returns the number of all rows, and the sum of their numbers.
pub fn count_and_sum(connection: &mut Client) -> Result<(i64, i64)> {
    let row = connection.query_one("SELECT count(*), coalesce(sum(n), 0) FROM rows", &[])?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

fn insert(transaction: &mut Transaction<'_>, client: i32, from: i32, rows: i32) -> Result<()> {
    let row = transaction.prepare("INSERT INTO rows (client, n, text) VALUES ($1, $2, $3)")?;
    for n in from..from + rows {
        transaction.execute(&row, &[&client, &n, &text_of(client, n)])?;
    }
    Ok(())
}

fn text_of(client: i32, n: i32) -> String {
    format!("row {n} of client {client}")
}

/// One of PostgreSQL's programs, from `PATH` or from Debian's directories, the newest version first.
fn program(name: &str) -> procref::Result<Command> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = env::split_paths(&path).collect();
    let mut versions: Vec<(u32, PathBuf)> = Vec::new();
    if let Ok(entries) = fs::read_dir("/usr/lib/postgresql") {
        for entry in entries {
            let entry = entry?;
            let version = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            versions.push((version.unwrap_or(0), entry.path().join("bin")));
        }
    }
    versions.sort();
    dirs.extend(versions.into_iter().rev().map(|(_, dir)| dir));
    // All programs must have the same version, so they come from one directory.
    let found = dirs.into_iter().find(|dir| {
        let all = [
            "initdb",
            "pg_ctl",
            "pg_controldata",
            "pg_isready",
            "postgres",
        ];
        all.iter().all(|program| dir.join(program).is_file())
    });
    let dir = found.ok_or("PostgreSQL is not installed (on Debian: apt-get install postgresql)")?;
    let mut command = Command::new(dir.join(name));
    // The messages are in English in every locale of the user.
    command.env("LC_ALL", "C");
    Ok(command)
}

/// Runs a program, and returns its output.
fn run(mut command: Command) -> procref::Result<String> {
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let name = command.get_program().to_string_lossy().into_owned();
    let more = String::from_utf8_lossy(&output.stderr);
    Err(format!("{name}: {}\n{text}{more}", output.status).into())
}

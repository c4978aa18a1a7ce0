//! Starts the clients, sends them orders, and checks the result from outside.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use procref::SharedService;

use super::StartMethod;
use super::clients::{Clients, Report};
use super::common::Result;
use super::database::{BATCH, Database};
use super::observe::{self, Identity, lines_with};
use super::screen::Screen;

const COUNT: usize = 16;

/// Longer than a shutdown takes on a busy machine.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

struct Driver {
    screen: Screen,
    clients: Clients,
    /// The driver holds no reference. It only reads the state of the service.
    service: SharedService,
    database: Database,
    method: StartMethod,
    dir: PathBuf,
}

/// Runs the example in a temporary directory.
pub fn run(method: StartMethod) -> Result<()> {
    let clients = Clients::new(None)?;
    let dir = tempfile::Builder::new()
        .prefix("procref-postgres-")
        .tempdir()?;
    let result = drive(clients, method, dir.path());
    let removed = dir.close();
    result?;
    Ok(removed?)
}

/// Runs the example in a directory of the process that started this one. Standard input ends when that process exits.
pub fn run_in(method: StartMethod, dir: &Path) -> Result<()> {
    drive(Clients::new(Some(io::stdin()))?, method, dir)
}

fn drive(clients: Clients, method: StartMethod, dir: &Path) -> Result<()> {
    let database = Database::in_dir(dir);
    let mut driver = Driver {
        screen: Screen::new(),
        clients,
        service: super::shared_database(dir, method)?,
        database: database.clone(),
        method,
        dir: dir.to_owned(),
    };
    let result = driver.run();
    // The clients exit first, even after an error.
    drop(driver);
    database.stop_leftover();
    result
}

impl Driver {
    fn run(&mut self) -> Result<()> {
        let pid = std::process::id();
        self.screen.title(&format!(
            "procref and PostgreSQL (pid {pid}): {COUNT} processes, one database"
        ))?;

        self.screen.section(&format!(
            "{COUNT} processes acquire the database at the same time"
        ))?;
        let (server, starters) = self.all_acquire()?;
        let process = Identity::of(server).ok_or("the database is not alive")?;
        let all = self.service.count()?;
        let key = self.service.kernel_object();
        let set_was_there = observe::semaphore_set_exists(&key)?;
        let files = observe::listing(self.service.runtime_dir())?;

        self.screen
            .section("Each of them writes rows and reads them")?;
        self.all_write()?;

        self.screen
            .section("One is killed in the middle of a transaction")?;
        let victim = COUNT / 2;
        let open = self.clients.ask(victim, "begin")?.number(1)?;
        self.print(
            victim,
            "opened transaction",
            &format!("sees {open} rows of its own"),
        )?;
        self.clients.kill(victim)?;
        let rest = self.service.count()?;
        self.print(victim, "killed (SIGKILL)", &format!("clients {rest}"))?;
        let (other, last) = (COUNT / 2 + 1, COUNT);
        let before = self.counted(last)?;
        // Write the rows of the killed client again, with the same keys. The database delays this until it
        // has rolled back the transaction of that client. It would refuse the rows if a row of the
        // transaction remained.
        let redone = self
            .clients
            .ask(other, &format!("redo {victim}"))?
            .number(1)?;
        self.print(
            other,
            "wrote its rows",
            &format!("sees {redone} rows of client {victim}"),
        )?;
        let after = self.counted(last)?;

        let (title, stopper) = match self.method {
            StartMethod::Callbacks => (
                "They leave, and the last one stops the database",
                Some(last),
            ),
            StartMethod::Command => ("They leave, and procref stops the database", None),
        };
        self.screen.section(title)?;
        let stoppers = self.all_leave(last)?;
        if !self.service.wait_stopped_blocking(STOP_TIMEOUT)? {
            return Err("the database has not stopped".into());
        }

        self.screen.section("Checks from outside")?;
        let log = self.database.log()?;
        let clients = u32::try_from(COUNT)?;
        let batch = u32::try_from(BATCH)?;
        // The numbers of the first batch begin with 0, and those of the second batch follow.
        let sum_of = |first: u32, rows: u32| (first..first + rows).sum::<u32>();
        let expected = (clients * batch, clients * sum_of(0, batch));
        let with_second = (expected.0 + batch, expected.1 + sum_of(batch, batch));
        let screen = &mut self.screen;
        screen.check(
            starters == 1,
            format_args!("one of {COUNT} clients started the database, all got pid {server}"),
        )?;
        screen.check(
            (all, rest) == (clients, clients - 1),
            format_args!("number of clients: {all}, after the kill {rest}"),
        )?;
        screen.check(
            open == 2 * batch && before == expected,
            format_args!(
                "{} rows after the kill: none of the open transaction",
                before.0
            ),
        )?;
        screen.check(
            redone == 2 * batch && after == with_second,
            format_args!("{} rows at the end, and their sum is right", after.0),
        )?;
        screen.check(
            stoppers.iter().eq(&stopper),
            match stopper {
                Some(last) => format!("only the last client ({last}) stopped the database"),
                None => "the supervisor stopped the database, and no client did".to_owned(),
            },
        )?;
        screen.check(
            lines_with(&log, "starting PostgreSQL") == 1
                && lines_with(&log, "database system is ready to accept connections") == 1,
            "the database's log: one start",
        )?;
        screen.check(
            lines_with(&log, "statement: CREATE TABLE") == 1,
            "the database's log: one migration",
        )?;
        screen.check(
            lines_with(
                &log,
                "unexpected EOF on client connection with an open transaction",
            ) == 1,
            "the database's log: one client died with an open transaction",
        )?;
        let state = self.database.state_on_disk()?;
        screen.check(
            lines_with(&log, "received fast shutdown request") == 1
                && log.trim_end().ends_with("database system is shut down")
                && lines_with(&log, "database system is shut down") == 1
                && lines_with(&log, "PANIC:") == 0
                && state == "shut down",
            format_args!("the database's log and pg_controldata: one shutdown, clean ('{state}')"),
        )?;
        screen.check(
            process.is_gone() && observe::processes_of(&self.dir)?.is_empty(),
            format_args!("/proc: pid {server} is gone, and no other process is left"),
        )?;
        screen.check(
            set_was_there && !observe::semaphore_set_exists(&key)?,
            format_args!("/proc/sysvipc/sem: set {key} existed, and is gone"),
        )?;
        let left = observe::listing(self.service.runtime_dir())?;
        let sockets = observe::listing(&self.database.socket_dir())?;
        screen.check(
            files.len() == 1 && left.is_empty() && sockets.is_empty(),
            format_args!(
                "the runtime directory contained {}, and is empty",
                files.join(" and ")
            ),
        )?;
        screen.finish()
    }

    /// Returns the pid of the database, and the number of clients that started it.
    fn all_acquire(&mut self) -> Result<(u32, usize)> {
        for number in 1..=COUNT {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("client").arg(self.method.name());
            command.arg(&self.dir).arg(number.to_string());
            self.clients.start(command)?;
        }
        for number in self.clients.present() {
            self.clients.order(number, "acquire")?;
        }
        let (mut servers, mut starters) = (BTreeSet::new(), 0);
        for report in self.clients.next_led_by("started", COUNT)? {
            let (pid, count) = (report.number(1)?, report.number(2)?);
            let what = match report.word(0) {
                "started" => {
                    starters += 1;
                    "started the database"
                }
                "joined" => "joined",
                _ => return Err(unexpected(&report)),
            };
            servers.insert(pid);
            self.print(
                report.client,
                what,
                &format!("database {pid:<7}  clients {count}"),
            )?;
        }
        match (servers.pop_first(), servers.is_empty()) {
            (Some(server), true) => Ok((server, starters)),
            _ => Err("the clients did not all get the same database".into()),
        }
    }

    fn all_write(&mut self) -> Result<()> {
        let present = self.clients.present();
        for &number in &present {
            self.clients.order(number, "write")?;
        }
        for _ in present {
            let report = self.clients.next()?;
            if report.word(0) != "wrote" || report.word(1) != BATCH.to_string() {
                return Err(unexpected(&report));
            }
            let seen = format!(
                "read {} rows of its own, {} of all",
                report.word(1),
                report.word(2)
            );
            self.print(report.client, "wrote its rows", &seen)?;
        }
        Ok(())
    }

    /// Returns the number of rows that a client reads, and the sum of their numbers.
    fn counted(&mut self, number: usize) -> Result<(u32, u32)> {
        let report = self.clients.ask(number, "count")?;
        let seen = (report.number(1)?, report.number(2)?);
        self.print(number, "counted", &format!("{} rows of all", seen.0))?;
        Ok(seen)
    }

    /// All clients but `last` leave at the same time, and then `last`. Returns the clients that stopped the database.
    fn all_leave(&mut self, last: usize) -> Result<Vec<usize>> {
        let mut stoppers = Vec::new();
        let others: Vec<_> = self
            .clients
            .present()
            .into_iter()
            .filter(|number| *number != last)
            .collect();
        for leavers in [others, vec![last]] {
            for &number in &leavers {
                self.clients.order(number, "leave")?;
            }
            for _ in &leavers {
                let report = self.clients.next()?;
                let what = match report.word(0) {
                    "left" => "left",
                    "stopped" => {
                        stoppers.push(report.client);
                        "stopped the database"
                    }
                    _ => return Err(unexpected(&report)),
                };
                let count = self.service.count()?;
                self.print(report.client, what, &format!("clients {count}"))?;
            }
            for number in leavers {
                self.clients.dismiss(number)?;
            }
        }
        Ok(stoppers)
    }

    fn print(&mut self, number: usize, action: &str, result: &str) -> Result<()> {
        let pid = self.clients.pid(number);
        self.screen
            .event(&format!("client {number}"), pid, action, result)?;
        Ok(())
    }
}

fn unexpected(report: &Report) -> Box<dyn std::error::Error + Send + Sync> {
    format!("unexpected report of client {}: {report}", report.client).into()
}

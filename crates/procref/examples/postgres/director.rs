//! Starts the processes, tells them what to do and when, and judges from
//! outside.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use procref::SharedService;

use crate::Way;
use crate::common::Result;
use crate::common::cast::{Cast, Report};
use crate::common::outside::{self, Run, lines_with};
use crate::common::screen::Screen;
use crate::database::{BATCH, Database};

const CLIENTS: usize = 16;

/// Longer than a shutdown takes, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(60);

struct Show {
    screen: Screen,
    cast: Cast,
    /// For looking only: it holds no reference.
    service: SharedService,
    database: Database,
    way: Way,
    dir: PathBuf,
}

/// In a temporary directory of our own.
pub fn run(way: Way) -> Result<()> {
    let cast = Cast::new(None)?;
    let dir = tempfile::Builder::new()
        .prefix("procref-postgres-")
        .tempdir()?;
    let played = perform(cast, way, dir.path());
    let closed = dir.close();
    played?;
    Ok(closed?)
}

/// In a directory that somebody else made and removes. Our stdin ends when
/// they are gone.
pub fn run_in(way: Way, dir: &Path) -> Result<()> {
    perform(Cast::new(Some(io::stdin()))?, way, dir)
}

fn perform(cast: Cast, way: Way, dir: &Path) -> Result<()> {
    let database = Database::in_dir(dir);
    let mut show = Show {
        screen: Screen::new(),
        cast,
        service: crate::shared_database(dir, way)?,
        database: database.clone(),
        way,
        dir: dir.to_owned(),
    };
    let played = show.play();
    // Whatever happened: first the clients leave.
    drop(show);
    database.stop_anyhow();
    played
}

impl Show {
    fn play(&mut self) -> Result<()> {
        let who = std::process::id();
        self.screen.title(&format!(
            "procref and PostgreSQL (pid {who}): {CLIENTS} processes, one database"
        ))?;

        self.screen.act(&format!(
            "{CLIENTS} processes ask for the database at the same moment"
        ))?;
        let (server, starters) = self.all_acquire()?;
        let run = Run::of(server).ok_or("the database is not alive")?;
        let all = self.service.count()?;
        let key = self.service.kernel_object();
        let set_was_there = outside::semaphore_set_exists(&key)?;
        let files = outside::listing(self.service.runtime_dir())?;

        self.screen
            .act("Each of them writes rows and reads them back")?;
        self.everybody_writes()?;

        self.screen.act("One dies in the middle of a transaction")?;
        let victim = CLIENTS / 2;
        let open = self.cast.ask(victim, "begin")?.number(1)?;
        self.tell(
            victim,
            "opened transaction",
            &format!("sees {open} rows of its own"),
        )?;
        self.cast.kill(victim)?;
        let rest = self.service.count()?;
        self.tell(victim, "killed (SIGKILL)", &format!("clients {rest}"))?;
        let (other, last) = (CLIENTS / 2 + 1, CLIENTS);
        let before = self.counted(last)?;
        // The same rows again, with the same keys. The database makes this
        // wait until the transaction of the dead client is rolled back, and
        // would refuse it if anything of that had stayed.
        let redone = self.cast.ask(other, &format!("redo {victim}"))?.number(1)?;
        self.tell(
            other,
            "wrote them instead",
            &format!("sees {redone} rows of client {victim}"),
        )?;
        let after = self.counted(last)?;

        let (title, stopper) = match self.way {
            Way::Callbacks => (
                "They leave, and the last one shuts the database down",
                Some(last),
            ),
            Way::Command => ("They leave, and procref shuts the database down", None),
        };
        self.screen.act(title)?;
        let stoppers = self.all_leave(last)?;
        if !self.service.wait_stopped_blocking(PATIENCE)? {
            return Err("the database does not stop".into());
        }

        self.screen.act("Seen from outside")?;
        let log = self.database.log()?;
        let clients = u32::try_from(CLIENTS)?;
        let batch = u32::try_from(BATCH)?;
        // The numbers of a first batch count from 0, of a second one go on.
        let sum_of = |first: u32, rows: u32| (first..first + rows).sum::<u32>();
        let expected = (clients * batch, clients * sum_of(0, batch));
        let with_second = (expected.0 + batch, expected.1 + sum_of(batch, batch));
        let screen = &mut self.screen;
        screen.check(
            starters == 1,
            format_args!("one of {CLIENTS} clients started the database, all got pid {server}"),
        )?;
        screen.check(
            (all, rest) == (clients, clients - 1),
            format_args!("clients counted: {all}, after the kill {rest}"),
        )?;
        screen.check(
            open == 2 * batch && before == expected,
            format_args!(
                "{} rows after the kill: of the open transaction, none",
                before.0
            ),
        )?;
        screen.check(
            redone == 2 * batch && after == with_second,
            format_args!(
                "{} rows at the end, and the sum over them is right",
                after.0
            ),
        )?;
        screen.check(
            stoppers.iter().eq(&stopper),
            match stopper {
                Some(last) => format!("only the last one (client {last}) shut it down"),
                None => "no client shut it down, the supervisor did".to_owned(),
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
            run.is_over() && outside::processes_of(&self.dir)?.is_empty(),
            format_args!("/proc: pid {server} is gone, and no other process is left"),
        )?;
        screen.check(
            set_was_there && !outside::semaphore_set_exists(&key)?,
            format_args!("/proc/sysvipc/sem: set {key} was there, and is gone"),
        )?;
        let left = outside::listing(self.service.runtime_dir())?;
        let sockets = outside::listing(&self.database.socket_dir())?;
        screen.check(
            files.len() == 1 && left.is_empty() && sockets.is_empty(),
            format_args!(
                "the runtime directory: held {}, and is empty",
                files.join(" and ")
            ),
        )?;
        screen.verdict()
    }

    /// Returns the pid of the database, and how many started it.
    fn all_acquire(&mut self) -> Result<(u32, usize)> {
        for number in 1..=CLIENTS {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("client").arg(self.way.name());
            command.arg(&self.dir).arg(number.to_string());
            self.cast.start(command)?;
        }
        for number in self.cast.present() {
            self.cast.order(number, "acquire")?;
        }
        let (mut servers, mut starters) = (BTreeSet::new(), 0);
        for report in self.cast.next_led_by("started", CLIENTS)? {
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
            self.tell(
                report.from,
                what,
                &format!("database {pid:<7}  clients {count}"),
            )?;
        }
        match (servers.pop_first(), servers.is_empty()) {
            (Some(server), true) => Ok((server, starters)),
            _ => Err("the clients did not all get the same database".into()),
        }
    }

    fn everybody_writes(&mut self) -> Result<()> {
        let present = self.cast.present();
        for &number in &present {
            self.cast.order(number, "write")?;
        }
        for _ in present {
            let report = self.cast.next()?;
            if report.word(0) != "wrote" || report.word(1) != BATCH.to_string() {
                return Err(unexpected(&report));
            }
            let seen = format!(
                "read {} rows of its own, {} of all",
                report.word(1),
                report.word(2)
            );
            self.tell(report.from, "wrote its rows", &seen)?;
        }
        Ok(())
    }

    /// How many rows one client counts, and the sum of their numbers.
    fn counted(&mut self, number: usize) -> Result<(u32, u32)> {
        let report = self.cast.ask(number, "count")?;
        let seen = (report.number(1)?, report.number(2)?);
        self.tell(number, "counted", &format!("{} rows of all", seen.0))?;
        Ok(seen)
    }

    /// All but one leave at the same moment, then that one. Returns who shut
    /// the database down.
    fn all_leave(&mut self, last: usize) -> Result<Vec<usize>> {
        let mut stoppers = Vec::new();
        let others: Vec<_> = self
            .cast
            .present()
            .into_iter()
            .filter(|one| *one != last)
            .collect();
        for leavers in [others, vec![last]] {
            for &number in &leavers {
                self.cast.order(number, "leave")?;
            }
            for _ in &leavers {
                let report = self.cast.next()?;
                let what = match report.word(0) {
                    "left" => "left",
                    "stopped" => {
                        stoppers.push(report.from);
                        "shut it down"
                    }
                    _ => return Err(unexpected(&report)),
                };
                let count = self.service.count()?;
                self.tell(report.from, what, &format!("clients {count}"))?;
            }
            for number in leavers {
                self.cast.dismiss(number)?;
            }
        }
        Ok(stoppers)
    }

    fn tell(&mut self, number: usize, what: &str, seen: &str) -> Result<()> {
        let pid = self.cast.pid(number);
        self.screen
            .event(&format!("client {number}"), pid, what, seen)?;
        Ok(())
    }
}

fn unexpected(report: &Report) -> Box<dyn std::error::Error + Send + Sync> {
    format!("client {} reported '{report}'", report.from).into()
}

//! Starts the processes, tells them what to do and when, and judges from
//! outside.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use procref::SharedService;

use crate::common::Result;
use crate::common::cast::{Cast, Report};
use crate::common::outside::{self, Run, lines_with};
use crate::common::screen::Screen;

const CLIENTS: usize = 5;

/// Longer than the server takes to stop, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(60);

struct Show {
    screen: Screen,
    cast: Cast,
    /// For looking only: it holds no reference.
    service: SharedService,
    dir: PathBuf,
}

/// What the clients said about the server that they got.
#[derive(Default)]
struct Seen {
    servers: BTreeSet<(u32, u32)>,
    starters: Vec<usize>,
    requests: usize,
}

pub fn run() -> Result<()> {
    let cast = Cast::new(None)?;
    let dir = tempfile::Builder::new()
        .prefix("procref-quickstart-")
        .tempdir()?;
    let mut show = Show {
        screen: Screen::new(),
        cast,
        service: crate::shared_server(dir.path())?,
        dir: dir.path().to_owned(),
    };
    let played = play(&mut show);
    // Whatever happened: first the clients leave, then their directory goes.
    drop(show);
    let closed = dir.close();
    played?;
    Ok(closed?)
}

fn play(show: &mut Show) -> Result<()> {
    let mut seen = Seen::default();
    let who = std::process::id();
    show.screen.title(&format!(
        "procref quickstart (pid {who}): many processes, one server"
    ))?;

    show.screen.act(&format!(
        "{CLIENTS} processes ask for the server at the same moment"
    ))?;
    show.all_acquire(&mut seen)?;
    let key = show.service.kernel_object();
    let (Some(&starter), Some(&(server, port))) = (seen.starters.first(), seen.servers.first())
    else {
        return Err("nobody started a server".into());
    };
    let run = Run::of(server).ok_or("the server is not alive")?;
    let five = show.service.count()?;
    let set_was_there = outside::semaphore_set_exists(&key)?;
    let files = outside::listing(show.service.runtime_dir())?;

    show.screen.act("Each of them talks to it")?;
    show.everybody_talks(&mut seen)?;

    show.screen.act("The process that started it dies")?;
    show.cast.kill(starter)?;
    let four = show.service.count()?;
    show.tell(
        starter,
        "killed (SIGKILL)",
        &format!("{:30}  clients {four}", ""),
    )?;
    show.everybody_talks(&mut seen)?;

    show.screen.act("One more comes")?;
    let late = show.cast.start(client(&show.dir)?)?;
    let report = show.cast.ask(late, "acquire")?;
    show.acquired(&report, &mut seen)?;
    let again = show.service.count()?;

    show.screen
        .act("They leave, and the last one stops the server")?;
    let mut leaving = Vec::new();
    for number in show.cast.present() {
        let report = show.cast.ask(number, "leave")?;
        let stopped = report.word(0) == "stopped";
        let what = if stopped {
            "stopped the server"
        } else {
            "left"
        };
        let count = show.service.count()?;
        show.tell(number, what, &format!("{:30}  clients {count}", ""))?;
        leaving.push((stopped, count));
        show.cast.dismiss(number)?;
    }

    show.screen
        .act("Others come, and all of them die at the same moment")?;
    let mut others = Seen::default();
    show.all_acquire(&mut others)?;
    let &(second, _) = others.servers.first().ok_or("nobody started a server")?;
    let second_run = Run::of(second).ok_or("the second server is not alive")?;
    show.everybody_talks(&mut others)?;
    let all = show.cast.present();
    show.cast.kill_all(&all)?;
    for number in all {
        show.tell(number, "killed (SIGKILL)", "")?;
    }
    // This only looks. There is nobody left who could stop it.
    if !show.service.wait_stopped_blocking(PATIENCE)? {
        return Err("the server is not stopped".into());
    }

    show.screen.act("Seen from outside")?;
    let log = fs::read_to_string(show.dir.join("server.log"))?;
    let (log, second_log) = match log.find(&format!("started pid={second} ")) {
        Some(middle) => log.split_at(middle),
        None => (&log[..], ""),
    };
    let screen = &mut show.screen;
    screen.check(
        seen.starters.len() == 1 && seen.servers.len() == 1,
        format_args!(
            "one of {} clients started the server, all got pid {server} port {port}",
            CLIENTS + 1
        ),
    )?;
    screen.check(
        lines_with(log, "started ") == 1
            && log.contains(&format!("started pid={server} port={port}")),
        "the server's log: one start, of that pid on that port",
    )?;
    screen.check(
        lines_with(log, "request ") == seen.requests
            && lines_with(log, &format!("request pid={server} ")) == seen.requests,
        format_args!(
            "the server's log: {} requests, all served by that pid",
            seen.requests
        ),
    )?;
    screen.check(
        lines_with(log, "stopped ") == 1
            && log.ends_with(&format!("stopped pid={server} after={}\n", seen.requests)),
        "the server's log: one stop, after the last request",
    )?;
    screen.check(
        (five, four, again) == (5, 4, 5),
        format_args!("clients counted: {five}, after the kill {four}, with the late one {again}"),
    )?;
    let expected = [(false, 4), (false, 3), (false, 2), (false, 1), (true, 0)];
    screen.check(
        leaving == expected,
        "clients counted while they left: 4, 3, 2, 1, 0; only the last one stopped the server",
    )?;
    let orderly = format!("stopped pid={second} after={CLIENTS}\n");
    screen.check(
        lines_with(second_log, "started ") == 1 && second_log.ends_with(&orderly),
        format_args!(
            "the server's log: with all clients killed, pid {second} was stopped, in an orderly way"
        ),
    )?;
    screen.check(
        run.is_over() && second_run.is_over() && outside::processes_of(&show.dir)?.is_empty(),
        format_args!("/proc: {server} and {second} are gone, and no other process is left"),
    )?;
    screen.check(
        set_was_there && !outside::semaphore_set_exists(&key)?,
        format_args!("/proc/sysvipc/sem: set {key} was there, and is gone"),
    )?;
    let left = outside::listing(show.service.runtime_dir())?;
    screen.check(
        files.len() == 1 && left.is_empty(),
        format_args!(
            "the runtime directory: held {}, and is empty",
            files.join(" and ")
        ),
    )?;
    screen.verdict()
}

/// The command that becomes a client.
fn client(dir: &Path) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("client").arg(dir);
    Ok(command)
}

impl Show {
    fn tell(&mut self, number: usize, what: &str, seen: &str) -> Result<()> {
        let pid = self.cast.pid(number);
        self.screen
            .event(&format!("client {number}"), pid, what, seen)?;
        Ok(())
    }

    /// All the processes start, and ask for the server all at once.
    fn all_acquire(&mut self, seen: &mut Seen) -> Result<()> {
        for _ in 0..CLIENTS {
            self.cast.start(client(&self.dir)?)?;
        }
        for number in self.cast.present() {
            self.cast.order(number, "acquire")?;
        }
        for report in self.cast.next_led_by("started", CLIENTS)? {
            self.acquired(&report, seen)?;
        }
        Ok(())
    }

    /// Somebody has got the server.
    fn acquired(&mut self, report: &Report, seen: &mut Seen) -> Result<()> {
        let (pid, port, count) = (report.number(1)?, report.number(2)?, report.number(3)?);
        let what = match report.word(0) {
            "started" => {
                seen.starters.push(report.from);
                "started the server"
            }
            "joined" => "joined",
            _ => return Err(unexpected(report)),
        };
        seen.servers.insert((pid, port));
        let text = format!("server {pid:<7}  port {port:<5}     clients {count}");
        self.tell(report.from, what, &text)
    }

    /// All that are there send a request, all at once.
    fn everybody_talks(&mut self, seen: &mut Seen) -> Result<()> {
        let present = self.cast.present();
        for &number in &present {
            self.cast.order(number, "talk")?;
        }
        for _ in present {
            let report = self.cast.next()?;
            if report.word(0) != "served" {
                return Err(unexpected(&report));
            }
            seen.requests += 1;
            let (pid, number) = (report.number(1)?, report.number(2)?);
            let text = format!(
                "server {pid:<7}  request {number:<5}  clients {}",
                self.service.count()?
            );
            self.tell(report.from, "was served", &text)?;
        }
        Ok(())
    }
}

fn unexpected(report: &Report) -> Box<dyn std::error::Error + Send + Sync> {
    format!("client {} reported '{report}'", report.from).into()
}

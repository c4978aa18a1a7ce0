//! Sixteen processes share one PostgreSQL: the first one starts it, all of
//! them write and read rows, one is killed with SIGKILL in the middle of a
//! transaction, and the last one to leave shuts it down.
//!
//! ```sh
//! cargo run --release --example postgres              # started and stopped by callbacks
//! cargo run --release --example postgres -- command   # executed by procref
//! ```
//!
//! With callbacks, the last client stops the database, and waits for its end. With
//! `command`, procref's supervisor is the database's parent and does that.
//!
//! It needs PostgreSQL's programs (on Debian, `apt-get install postgresql`),
//! and no running database: everything is made in a temporary directory.
//! PostgreSQL refuses to run as root; as root, the example becomes somebody
//! else first (`unprivileged.rs`).
//!
//! This file is what a program that uses procref looks like. `database.rs`
//! handles PostgreSQL, `director.rs` starts the processes, tells them what to
//! do, and checks from outside that all went right.

#[path = "../common/mod.rs"]
mod common;
mod database;
mod director;
mod unprivileged;

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Result, blocking, orders, report};
use database::Database;
use procref::{ServiceHandle, ServiceInfo, SharedService};

/// What this very process did for the database.
static STARTED: AtomicBool = AtomicBool::new(false);
static STOPPED: AtomicBool = AtomicBool::new(false);

/// Who starts and stops the database. All its clients must agree.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Callbacks,
    Command,
}

impl Way {
    fn named(name: &str) -> Option<Self> {
        match name {
            "callbacks" => Some(Self::Callbacks),
            "command" => Some(Self::Command),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Callbacks => "callbacks",
            Self::Command => "command",
        }
    }
}

/// The database that all the processes share.
fn shared_database(dir: &Path, way: Way) -> procref::Result<SharedService> {
    let database = Database::in_dir(dir);
    let (to_prepare, to_check) = (database.clone(), database.clone());
    let shared = SharedService::builder("postgres")
        .base_dir(dir.join("runtime"))
        .stop_timeout(Duration::from_secs(60))
        // Runs in one process only, before anybody else is let in.
        .on_ready(move |_| {
            let database = to_prepare.clone();
            async move {
                STARTED.store(true, Ordering::Relaxed);
                let migrated = blocking(move || database.migrate()).await?;
                Ok(migrated.map_err(|error| error.to_string())?)
            }
        })
        .on_health_check(move |_| {
            let database = to_check.clone();
            async move { matches!(blocking(move || database.answers()).await, Ok(Ok(()))) }
        });
    match way {
        Way::Callbacks => shared
            .on_first_acquire(move || {
                let database = database.clone();
                async move {
                    let pid = blocking(move || database.start()).await??;
                    Ok(ServiceInfo::new(pid, database::PORT))
                }
            })
            .on_last_release(|info| async move {
                STOPPED.store(true, Ordering::Relaxed);
                // procref waits until it is gone, here for up to 60 seconds.
                Ok(database::ask_to_stop(info.pid())?)
            })
            .build(),
        Way::Command => shared.command(database.command()?).build(),
    }
}

/// One of the processes that share the database.
fn client(way: Way, dir: &Path, number: i32) -> Result<()> {
    let database = Database::in_dir(dir);
    // Before any of the service is begun: a command is one program that stays, and making
    // the files is another one, whose result outlives every run of the database.
    database.create()?;
    let service = shared_database(dir, way)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // In this order they are dropped, too.
    let mut held: Option<(postgres::Client, ServiceHandle)> = None;

    let mut orders = orders();
    while let Some(order) = orders.next() {
        let order = order?;
        match (order.split_once(' ').unwrap_or((&order, "")), &mut held) {
            (("acquire", _), None) => {
                let handle = runtime.block_on(service.acquire())?;
                let how = match STARTED.load(Ordering::Relaxed) {
                    true => "started",
                    false => "joined",
                };
                let (pid, count) = (handle.pid(), service.count()?);
                let connection = database.connect()?;
                report(format_args!("{how} {pid} {count}"))?;
                held = Some((connection, handle));
            }
            (("write", _), Some((connection, _))) => {
                let (rows, of_all) = database::write_and_read(connection, number)?;
                report(format_args!("wrote {rows} {of_all}"))?;
            }
            // Waits in the middle of a transaction, for SIGKILL.
            (("begin", _), Some((connection, _))) => {
                let mut transaction = connection.transaction()?;
                let rows = database::insert_second_batch(&mut transaction, number)?;
                report(format_args!("open {rows}"))?;
                match orders.next() {
                    None => break,
                    Some(_) => return Err("this was to be the end".into()),
                }
            }
            (("redo", of), Some((connection, _))) => {
                let mut transaction = connection.transaction()?;
                let rows = database::insert_second_batch(&mut transaction, of.parse()?)?;
                transaction.commit()?;
                report(format_args!("redid {rows}"))?;
            }
            (("count", _), Some((connection, _))) => {
                let (rows, sum) = database::count_and_sum(connection)?;
                report(format_args!("counted {rows} {sum}"))?;
            }
            (("leave", _), Some(_)) => {
                if let Some((connection, handle)) = held.take() {
                    drop(connection);
                    runtime.block_on(handle.release())?;
                }
                let how = match STOPPED.load(Ordering::Relaxed) {
                    true => "stopped",
                    false => "left",
                };
                report(how)?;
            }
            _ => return Err(format!("'{order}' makes no sense now").into()),
        }
    }
    // The orders ended. If we still hold the database, dropping the handle
    // lets go of it; with the last one it stops.
    Ok(())
}

/// The whole example, as somebody whom PostgreSQL puts up with.
fn perform(way: Way) -> Result<()> {
    match unprivileged::needed() {
        true => unprivileged::run(way),
        false => director::run(way),
    }
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let words: Vec<&OsStr> = arguments.iter().map(AsRef::as_ref).collect();
    let text = |word: &OsStr| word.to_str().unwrap_or_default().to_owned();
    let role = words.first().copied().map(text);
    let way = |word: &OsStr| Way::named(&text(word)).ok_or("it is 'callbacks' or 'command'");
    let result = match (role.as_deref(), &words[..]) {
        (None, _) => perform(Way::Callbacks),
        (Some("command"), [_]) => perform(Way::Command),
        (Some("director"), [_, how, dir]) => way(how)
            .map_err(Into::into)
            .and_then(|way| director::run_in(way, Path::new(dir))),
        (Some("client"), [_, how, dir, number]) => match (way(how), text(number).parse()) {
            (Ok(way), Ok(number)) => client(way, Path::new(dir), number),
            _ => Err("no such client".into()),
        },
        _ => Err("this example takes no argument, or `command`".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            common::complain(role.as_deref().unwrap_or("postgres"), &*error);
            ExitCode::FAILURE
        }
    }
}

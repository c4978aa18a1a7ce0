//! The example on Unix.
//!
//! This file shows how a program uses procref. `database.rs` handles PostgreSQL. `driver.rs` starts the clients, sends them
//! orders, and checks the result from outside.

mod clients;
mod common;
mod database;
mod driver;
mod observe;
mod other_user;
mod screen;
mod signals;

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Result, blocking, orders, report};
use database::Database;
use procref::{ServiceHandle, ServiceInfo, SharedService};

/// States whether this process has started or stopped the database.
static STARTED: AtomicBool = AtomicBool::new(false);
static STOPPED: AtomicBool = AtomicBool::new(false);

/// The method to start and stop the database. All clients must use the same method.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StartMethod {
    Callbacks,
    Command,
}

impl StartMethod {
    fn from_name(name: &str) -> Option<Self> {
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

/// The database that all processes share.
fn shared_database(dir: &Path, method: StartMethod) -> procref::Result<SharedService> {
    let database = Database::in_dir(dir);
    let (to_migrate, to_check) = (database.clone(), database.clone());
    let shared = SharedService::builder("postgres")
        .base_dir(dir.join("runtime"))
        .stop_timeout(Duration::from_secs(60))
        // Runs in one process, before other clients get the database.
        .on_ready(move |_| {
            let database = to_migrate.clone();
            async move {
                STARTED.store(true, Ordering::Relaxed);
                let migrated = blocking(move || database.migrate()).await?;
                Ok(migrated.map_err(|error| error.to_string())?)
            }
        })
        .on_health_check(move |_| {
            let database = to_check.clone();
            async move { matches!(blocking(move || database.check()).await, Ok(Ok(()))) }
        });
    match method {
        StartMethod::Callbacks => shared
            .on_first_acquire(move || {
                let database = database.clone();
                async move {
                    let pid = blocking(move || database.start()).await??;
                    Ok(ServiceInfo::new(pid, database::PORT))
                }
            })
            .on_last_release(|info| async move {
                STOPPED.store(true, Ordering::Relaxed);
                // procref then waits until the database has exited, here up to 60 seconds.
                Ok(database::request_stop(info.pid())?)
            })
            .build(),
        StartMethod::Command => shared.command(database.command()?).build(),
    }
}

/// One of the processes that share the database.
fn client(method: StartMethod, dir: &Path, number: i32) -> Result<()> {
    let database = Database::in_dir(dir);
    // The files are not part of the service, because they outlive the database's processes.
    database.create()?;
    let service = shared_database(dir, method)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // The connection is dropped before the handle.
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
            // Waits for SIGKILL in the middle of a transaction.
            (("begin", _), Some((connection, _))) => {
                let mut transaction = connection.transaction()?;
                let rows = database::insert_second_batch(&mut transaction, number)?;
                report(format_args!("open {rows}"))?;
                match orders.next() {
                    None => break,
                    Some(_) => return Err("an order came in the middle of a transaction".into()),
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
            _ => return Err(format!("unexpected order '{order}'").into()),
        }
    }
    // The orders have ended. Dropping a remaining handle releases the database.
    Ok(())
}

/// Runs the whole example, as another user if this user is root.
fn run(method: StartMethod) -> Result<()> {
    match other_user::is_needed() {
        true => other_user::run(method),
        false => driver::run(method),
    }
}

pub fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let words: Vec<&OsStr> = arguments.iter().map(AsRef::as_ref).collect();
    let text = |word: &OsStr| word.to_str().unwrap_or_default().to_owned();
    let role = words.first().copied().map(text);
    let method = |word: &OsStr| {
        StartMethod::from_name(&text(word)).ok_or("expected 'callbacks' or 'command'")
    };
    let result = match (role.as_deref(), &words[..]) {
        (None, _) => run(StartMethod::Callbacks),
        (Some("command"), [_]) => run(StartMethod::Command),
        (Some("driver"), [_, name, dir]) => method(name)
            .map_err(Into::into)
            .and_then(|method| driver::run_in(method, Path::new(dir))),
        (Some("client"), [_, name, dir, number]) => match (method(name), text(number).parse()) {
            (Ok(method), Ok(number)) => client(method, Path::new(dir), number),
            _ => Err("invalid arguments of a client".into()),
        },
        _ => Err("this example takes no argument, or `command`".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            common::print_error(role.as_deref().unwrap_or("postgres"), &*error);
            ExitCode::FAILURE
        }
    }
}

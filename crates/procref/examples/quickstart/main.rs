//! Five processes ask for one HTTP server at the same moment. One of them
//! starts it, the others join it, one is killed with SIGKILL, and the last one
//! to leave stops it. Then five others do the same, and all of them are killed at
//! once: the server is stopped all the same.
//!
//! ```sh
//! cargo run --release --example quickstart
//! ```
//!
//! This file is what a program that uses procref looks like. `server.rs` is
//! the service, `director.rs` starts the processes, tells them what to do, and
//! checks from outside that all went right.

#[path = "../common/mod.rs"]
mod common;
mod director;
mod server;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Result, blocking, orders, report};
use procref::{ServiceHandle, ServiceInfo, SharedService};

/// What this very process did for the service.
static STARTED: AtomicBool = AtomicBool::new(false);
static STOPPED: AtomicBool = AtomicBool::new(false);

/// The service that all the processes share. Who shares it is decided by its
/// name and its runtime directory (a program for users leaves `base_dir` out).
fn shared_server(dir: &Path) -> procref::Result<SharedService> {
    let log = dir.join("server.log");
    SharedService::builder("quickstart server")
        .base_dir(dir.join("runtime"))
        .on_first_acquire(move || {
            let log = log.clone();
            async move {
                STARTED.store(true, Ordering::Relaxed);
                let (pid, port) = blocking(move || server::start(&log)).await??;
                let mut info = ServiceInfo::new(pid, port);
                info.set_metadata("url", format!("http://127.0.0.1:{port}"));
                Ok(info)
            }
        })
        .on_health_check(|info: &ServiceInfo| {
            let url = url_of(info);
            async move {
                let answer = blocking(move || server::get(&url, "health")).await;
                matches!(answer, Ok(Ok(_)))
            }
        })
        .on_last_release(|info| async move {
            STOPPED.store(true, Ordering::Relaxed);
            procref::process::terminate(info.pid());
            Ok(())
        })
        .build()
}

fn url_of(info: &ServiceInfo) -> String {
    info.get_metadata("url").unwrap_or_default().to_owned()
}

/// One of the processes that share the server.
fn client(dir: &Path) -> Result<()> {
    let service = shared_server(dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut handle: Option<ServiceHandle> = None;

    for order in orders() {
        match (order?.as_str(), &handle) {
            ("acquire", None) => {
                let new = runtime.block_on(service.acquire())?;
                let how = match STARTED.load(Ordering::Relaxed) {
                    true => "started",
                    false => "joined",
                };
                let (pid, port, count) = (new.pid(), new.port(), service.count()?);
                report(format_args!("{how} {pid} {port} {count}"))?;
                handle = Some(new);
            }
            ("talk", Some(held)) => {
                let page = format!("from-client-{}", std::process::id());
                let answer = server::get(&url_of(held.info()), &page)?;
                report(format_args!("served {answer}"))?;
            }
            ("leave", Some(_)) => {
                if let Some(held) = handle.take() {
                    runtime.block_on(held.release())?;
                }
                let how = match STOPPED.load(Ordering::Relaxed) {
                    true => "stopped",
                    false => "left",
                };
                report(how)?;
            }
            (order, _) => return Err(format!("'{order}' makes no sense now").into()),
        }
    }
    // The orders ended. If we still hold the server, dropping the handle lets
    // go of it, and stops it if we are the last.
    Ok(())
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let role = arguments.next();
    let path = arguments.next().unwrap_or_default();
    let result = match role.as_ref().and_then(|role| role.to_str()) {
        None => director::run(),
        Some("client") => client(Path::new(&path)),
        Some("server") => server::run(Path::new(&path)),
        Some(_) => Err("this example takes no arguments".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let role = role.unwrap_or_else(|| OsString::from("quickstart"));
            common::complain(&role.to_string_lossy(), &*error);
            ExitCode::FAILURE
        }
    }
}

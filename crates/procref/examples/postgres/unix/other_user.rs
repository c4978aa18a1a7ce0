//! Runs the example as another user, because PostgreSQL refuses to run as root.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use super::StartMethod;
use super::common::Result;
use super::signals;

/// Returns `true` if this process runs as root.
pub fn is_needed() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs the driver in a child process of another user.
pub fn run(method: StartMethod) -> Result<()> {
    let (user, uid, gid) = unprivileged_user()?;
    // Handle signals, so that this process removes the directory before it exits.
    let (interrupt, interrupted) = mpsc::channel();
    signals::on_interrupt(move || {
        let _ = interrupt.send(());
    })?;
    let dir = tempfile::Builder::new()
        .prefix("procref-postgres-")
        .tempdir()?;
    chown(dir.path(), Some(uid), Some(gid))?;
    // The other user may not be able to read the build directory, for example below root's home.
    let copy = dir.path().join("postgres-example");
    fs::copy(std::env::current_exe()?, &copy)?;

    let mut child = Command::new(&copy)
        .arg("driver")
        .arg(method.name())
        .arg(dir.path())
        .current_dir(dir.path())
        .uid(uid)
        .gid(gid)
        .env("HOME", dir.path())
        .env("USER", &user)
        .env_remove("XDG_RUNTIME_DIR")
        .stdin(Stdio::piped())
        .spawn()?;
    // When this process exits or is interrupted, the child's standard input ends, and the child stops.
    let lifeline = child.stdin.take();
    thread::spawn(move || {
        let _ = interrupted.recv();
        drop(lifeline);
    });
    let status = child.wait()?;
    dir.close()?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("the example, run as {user}, failed: {status}").into()),
    }
}

/// Returns name, user id and group id of a user without privileges.
fn unprivileged_user() -> Result<(String, u32, u32)> {
    let users = fs::read_to_string("/etc/passwd")?;
    for wanted in ["postgres", "nobody"] {
        for user in users.lines() {
            if let [name, _, uid, gid, ..] = user.split(':').collect::<Vec<_>>()[..] {
                if name == wanted {
                    return Ok((name.to_owned(), uid.parse()?, gid.parse()?));
                }
            }
        }
    }
    Err("neither a user 'postgres' nor a user 'nobody' exists".into())
}

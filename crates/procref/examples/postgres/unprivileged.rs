//! PostgreSQL refuses to run as root, and rightly so. Root's example runs in a
//! child process of another user.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use crate::Way;
use crate::common::{Result, signals};

pub fn needed() -> bool {
    rustix::process::geteuid().is_root()
}

pub fn run(way: Way) -> Result<()> {
    let (user, uid, gid) = other_user()?;
    // From here on nothing ends us before the directory is removed again.
    let (interrupt, interrupted) = mpsc::channel();
    signals::on_interruption(move || {
        let _ = interrupt.send(());
    })?;
    let dir = tempfile::Builder::new()
        .prefix("procref-postgres-")
        .tempdir()?;
    chown(dir.path(), Some(uid), Some(gid))?;
    // Where we are built may be closed to others (below root's home, say).
    let copy = dir.path().join("postgres-example");
    fs::copy(std::env::current_exe()?, &copy)?;

    let mut child = Command::new(&copy)
        .arg("director")
        .arg(way.name())
        .arg(dir.path())
        .current_dir(dir.path())
        .uid(uid)
        .gid(gid)
        .env("HOME", dir.path())
        .env("USER", &user)
        .env_remove("XDG_RUNTIME_DIR")
        .stdin(Stdio::piped())
        .spawn()?;
    // Its stdin ends when we are interrupted, or gone, and with it the child.
    let lifeline = child.stdin.take();
    thread::spawn(move || {
        let _ = interrupted.recv();
        drop(lifeline);
    });
    let status = child.wait()?;
    dir.close()?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("the example, run as {user}, ended with {status}").into()),
    }
}

/// Somebody without rights: name, user and group number.
fn other_user() -> Result<(String, u32, u32)> {
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
    Err("there is neither a user 'postgres' nor a user 'nobody'".into())
}

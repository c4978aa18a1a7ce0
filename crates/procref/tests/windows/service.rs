//! The service: it writes down its own life, and listens on its port until it is asked to stop.

use std::env;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::windows::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use procref::process::StopEvent;

/// Its log, beside what procref has in the directory.
pub const LOG: &str = "life";
/// The file that only one can have open.
pub const ALONE: &str = "alone";

/// Names the directory, and so says that this process is a service.
pub const DIR: &str = "PROCREF_TEST_SERVICE";
/// What is special about it.
pub const MANNER: &str = "PROCREF_TEST_MANNER";

pub fn log(dir: &Path) -> PathBuf {
    dir.join(LOG)
}

fn write(dir: &Path, word: &str, pid: u32) {
    let mut log = OpenOptions::new()
        .append(true)
        .create(true)
        .open(log(dir))
        .unwrap();
    log.write_all(format!("{word} {pid}\n").as_bytes()).unwrap();
}

/// Not a test by itself: what a service runs.
#[test]
fn service() {
    let Ok(dir) = env::var(DIR) else {
        return;
    };
    let dir = Path::new(&dir);
    let pid = std::process::id();
    let manner = env::var(MANNER).unwrap_or_default();
    let alone = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .share_mode(0)
        .open(dir.join(ALONE));
    if alone.is_err() {
        write(dir, "two", pid);
    }
    write(dir, "begin", pid);
    if manner == "fails" {
        std::process::exit(3);
    }
    if manner == "has a child" {
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "service::sleeper"])
            .env(SLEEPER, "")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        write(dir, "child", child.id());
    }
    let port = env::var("PORT").map_or(0, |port| port.parse().unwrap());
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    thread::spawn(move || {
        for _ in listener.incoming() {
            // That somebody is there is all that is asked.
        }
    });
    if manner == "deaf" {
        thread::sleep(Duration::from_secs(3600));
    }
    wait_for_stop();
    write(dir, "end", pid);
}

const SLEEPER: &str = "PROCREF_TEST_SLEEPER";

/// Not a test by itself: what a service has started, and does not care for.
#[test]
fn sleeper() {
    if env::var_os(SLEEPER).is_some() {
        thread::sleep(Duration::from_secs(3600));
    }
}

fn wait_for_stop() {
    let asked = StopEvent::create().expect("the event");
    asked.wait(Duration::MAX).expect("wait for it");
}

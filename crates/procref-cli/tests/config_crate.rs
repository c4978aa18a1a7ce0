//! The crate `procref-config` in a program that is not the command line, as in a binding for another language.

#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use procref::SharedService;
use procref_config::{Error, Project};
use support::PROCREF;

const CONFIG: &str = r#"
[services.db]
start = ["sleep", "60", "{port}"]
ready = "started"
init = "sh -c 'echo filled >{data}/file'"
data = "data"
export = { DB = "{port}" }

[services.web]
start = "sleep 61"
ready = "started"
depends-on = "db"
export = { WEB = "of {db.port}" }
"#;

/// Returns the services of a file in a directory, which run in a runtime directory below it.
fn project(dir: &Path, config: &str) -> Project {
    let file = dir.join("procref.toml");
    fs::write(&file, config).expect("write procref.toml");
    let project = Project::read(&file).expect("a valid file");
    project.with_runtime_dir(dir.join("run"))
}

/// Waits until the supervisor has stopped the service.
fn wait_stopped(service: &SharedService) {
    let stopped = service.wait_stopped_blocking(Duration::from_secs(30));
    assert!(stopped.expect("wait"), "{} still runs", service.name());
}

fn command_line(pid: u32) -> String {
    let words = fs::read(format!("/proc/{pid}/cmdline")).expect("read a command line");
    String::from_utf8_lossy(&words).replace('\0', " ")
}

#[test]
fn service_with_data_and_dependency_is_acquired_by_the_given_helper() {
    let dir = tempfile::tempdir().expect("create a directory");
    let project = project(dir.path(), CONFIG);
    let service = |name: &str| project.service(name, Path::new(PROCREF)).expect(name);
    let web = service("web");
    assert_eq!(web.dependencies().collect::<Vec<_>>(), ["db"]);
    let [web_status, db_status] =
        [&web, &service("db")].map(|it| it.shared_service().expect("a service"));

    let started = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&started);
    let held = web.acquire_blocking(move |builder| {
        let count = Arc::clone(&count);
        builder.on_ready(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            async { Ok(()) }
        })
    });
    let held = held.expect("acquire the services");
    assert_eq!(
        started.load(Ordering::SeqCst),
        2,
        "on_ready of both services"
    );
    assert_eq!(command_line(held.handle().pid()), "sleep 61 ");
    let db = db_status.status().expect("a status");
    let db = db.instance().expect("db runs").clone();
    assert_eq!(command_line(db.pid()), format!("sleep 60 {} ", db.port()));
    let filled = fs::read_to_string(dir.path().join("data/file"));
    assert_eq!(filled.expect("init has filled the directory"), "filled\n");
    let env = held.env();
    for (name, value) in [
        ("DB", db.port().to_string()),
        ("WEB", format!("of {}", db.port())),
        ("PROCREF_PORT_DB", db.port().to_string()),
        ("PROCREF_PID", held.handle().pid().to_string()),
    ] {
        let pair = (name.to_owned(), value.into());
        assert!(env.contains(&pair), "{pair:?} in {env:?}");
    }
    held.release_blocking().expect("release");
    for service in [web_status, db_status] {
        wait_stopped(&service);
    }
}

#[test]
fn dropped_services_stop_with_the_dependent_first() {
    let dir = tempfile::tempdir().expect("create a directory");
    let stopping = "trap 'echo $0 >>log; exit' TERM; while :; do sleep 0.01; done";
    let config = format!(
        "[services.db]\nstart = ['sh', '-c', \"{stopping}\", 'db']\nready = 'started'\n\
         [services.web]\nstart = ['sh', '-c', \"{stopping}\", 'web']\nready = 'started'\ndepends-on = 'db'\n"
    );
    let project = project(dir.path(), &config);
    let web = project.service("web", Path::new(PROCREF)).expect("web");
    let held = web.acquire_blocking(|builder| builder).expect("acquire");
    drop(held);
    let db = project.service("db", Path::new(PROCREF)).expect("db");
    wait_stopped(&db.shared_service().expect("a service"));
    let log = fs::read_to_string(dir.path().join("log")).expect("read the log");
    assert_eq!(log, "web\ndb\n");
}

#[test]
fn failed_service_releases_its_dependencies_and_explains_the_failure() {
    let dir = tempfile::tempdir().expect("create a directory");
    let config =
        format!("{CONFIG}[services.bad]\nstart = 'no-such-program $HOME'\ndepends-on = 'db'\n");
    let project = project(dir.path(), &config);
    let bad = project.service("bad", Path::new(PROCREF)).expect("bad");
    let error = bad
        .acquire_blocking(|builder| builder)
        .expect_err("no program");
    let message = error.to_string();
    assert!(
        message.contains("could not execute `no-such-program`"),
        "{message}"
    );
    let Error::Advised { error, advice, .. } = error else {
        panic!("{error:?}");
    };
    assert!(advice.contains("`$HOME`"), "{advice}");
    assert!(
        matches!(*error, Error::BeforeProgram { late: false, .. }),
        "{error:?}"
    );
    let db = project.service("db", Path::new(PROCREF)).expect("db");
    wait_stopped(&db.shared_service().expect("a service"));
}

#[test]
fn unknown_service_and_missing_file_are_errors() {
    let dir = tempfile::tempdir().expect("create a directory");
    let project = project(dir.path(), CONFIG);
    let error = project
        .service("wep", Path::new(PROCREF))
        .expect_err("no service");
    let expected = format!(
        "no service `wep` in {}; did you mean `web`?",
        project.file().display()
    );
    assert_eq!(error.to_string(), expected);
    let missing = dir.path().join("missing.toml");
    let error = Project::read(&missing).expect_err("no file");
    assert_eq!(
        error.to_string(),
        format!("{}: no such file", missing.display())
    );
}

#[test]
fn services_are_acquired_by_several_threads_at_once() {
    let dir = tempfile::tempdir().expect("create a directory");
    let project = project(dir.path(), CONFIG);
    let pids = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let web = project.service("web", Path::new(PROCREF)).expect("web");
                let held = web.acquire_blocking(|builder| builder).expect("acquire");
                pids.lock().expect("no panic").push(held.handle().pid());
                // The service runs until all threads have it.
                while pids.lock().expect("no panic").len() < 4 {
                    std::thread::yield_now();
                }
                held.release_blocking().expect("release");
            });
        }
    });
    let mut pids = pids.into_inner().expect("no panic");
    pids.dedup();
    assert_eq!(pids.len(), 1, "{pids:?}");
}

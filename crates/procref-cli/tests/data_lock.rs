//! At most one instance uses a data directory (G1), even across runtime directories, after renames and after
//! crashes.

#![cfg(target_os = "linux")]

mod support;

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use procref_testkit::deadline;
use procref_testkit::observe::{Identity, supervisors_of};
use rustix::fs::FlockOperation;
use rustix::process::Signal;
use support::{
    assert_first_line, copy_environment, live_process, output_text,
    workspace::{Client, Project, Workspace},
};

const DB: &str = "[services.db]\nstart = 'sleep 600'\ndata = 'data'\nready = 'started'\n";

/// A client that is started while the directory is in use.
struct Second {
    child: Option<Child>,
    log: PathBuf,
}

impl Second {
    /// Runs a client of another runtime directory.
    fn start(project: &Project<'_>, service: &str) -> Self {
        let mut command = project.procref(&["run", service]);
        command.env("PROCREF_RUNTIME_DIR", project.workspace.path("run/second"));
        Self::spawn(project, command)
    }

    /// Runs a client of the same runtime directory.
    fn beside(project: &Project<'_>, service: &str) -> Self {
        Self::spawn(project, project.procref(&["run", service]))
    }

    fn spawn(project: &Project<'_>, mut command: Command) -> Self {
        let log = project.workspace.path("second.log");
        command.arg("--log").arg(&log).args(["--", "true"]);
        let child = command.stderr(Stdio::piped()).spawn().expect("run procref");
        Self {
            child: Some(child),
            log,
        }
    }

    /// Waits until the client logs what it waits for, and returns that line.
    fn waiting(&mut self) -> String {
        deadline::until("the client names the process that it waits for", || {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let whole_lines = &log[..log.rfind('\n').map_or(0, |end| end + 1)];
            let line = whole_lines
                .lines()
                .find(|line| line.starts_with("procref: waiting for"));
            let child = self
                .child
                .as_mut()
                .expect("a client that was not waited for");
            let ended = child.try_wait().expect("read the client's status");
            assert!(
                line.is_some() || ended.is_none(),
                "the client did not wait: {log}"
            );
            line.map(str::to_owned)
        })
    }

    #[track_caller]
    fn assert_waits_for(&mut self, holder: Identity, dir: &Path) {
        let line = self.waiting();
        let dir = dir.display().to_string();
        assert!(
            line.contains(&format!("process {} (", holder.pid)),
            "{line}"
        );
        assert!(line.ends_with(&dir), "{dir} is not in: {line}");
    }

    /// Asserts that the client gets the directory after the first service has exited.
    #[track_caller]
    fn assert_succeeds(mut self) {
        let child = self.child.take().expect("a client that was not waited for");
        let output = child.wait_with_output().expect("wait for the client");
        assert!(output.status.success(), "{}", output_text(&output).1);
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        // A failed test must not leave the client behind.
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs a client that holds `db`, and returns the client and the process of the service.
#[track_caller]
fn hold_db(project: &Project<'_>) -> (Client, Identity) {
    let client = project.hold("db", r#"echo "$PROCREF_PID""#);
    let service = live_process(&client.printed[0]);
    (client, service)
}

#[test]
fn g1_second_runtime_directory_waits_for_the_first_service() {
    let workspace = Workspace::new();
    let project = workspace.project("app", DB);
    let (client, service) = hold_db(&project);
    let mut second = Second::start(&project, "db");
    second.assert_waits_for(service, &project.dir.join("data"));
    assert!(
        second.waiting().contains("(`sleep 600`)"),
        "{}",
        second.waiting()
    );
    client.leave();
    second.assert_succeeds();
    assert!(!service.is_live());
}

#[test]
fn g1_start_timeout_names_the_directory_and_the_holder() {
    let workspace = Workspace::new();
    let project = workspace.project("app", DB);
    let client = project.hold("db", r#"echo "$PROCREF_PID""#);
    let output = project
        .procref(&["run", "db", "--start-timeout", "5s", "--", "true"])
        .env("PROCREF_RUNTIME_DIR", workspace.path("run/second"))
        .output()
        .expect("run procref");
    let stderr = output_text(&output).1;
    let holder = format!("process {} (`sleep 600`)", client.printed[0]);
    let dir = project.dir.join("data").display().to_string();
    assert_first_line(&stderr, &["`db`", "5s", &holder, &dir, "another `data`"]);
    assert_eq!(output.status.code(), Some(125));
}

#[test]
fn g1_service_of_a_killed_supervisor_keeps_its_directory() {
    const NAME: &str = "data-of-a-killed-supervisor";
    let workspace = Workspace::new();
    // The child of the service outlives the service.
    let config = format!(
        "[services.{NAME}]\nstart = ['sh', '-c', 'sleep 600 & echo $! >child.new; mv child.new child; wait']\n\
         data = 'data'\nready = 'cmd:test -e child'\n"
    );
    let project = workspace.project("app", &config);
    let client = project.hold(NAME, r#"echo "$PROCREF_PID""#);
    let service = live_process(&client.printed[0]);
    let child = fs::read_to_string(project.dir.join("child")).expect("a pid");
    let child = live_process(child.trim());
    let supervisor = supervisors_of(NAME)[0];
    supervisor.kill();
    supervisor.wait_exit();
    client.kill();
    let mut second = Second::start(&project, NAME);
    second.assert_waits_for(service, &project.dir.join("data"));
    service.kill();
    service.wait_exit();
    // Only the child still has a descriptor with the lock.
    let third = project
        .procref(&["run", NAME, "--start-timeout", "5s", "--", "true"])
        .env("PROCREF_RUNTIME_DIR", workspace.path("run/third"))
        .output()
        .expect("run procref");
    let stderr = output_text(&third).1;
    assert!(!third.status.success());
    let holder = format!("process {} (`sleep 600`)", child.pid);
    assert!(stderr.contains(&holder), "{holder} is not in: {stderr}");
    child.kill();
    second.assert_succeeds();
    project.output(&["gc"]);
}

#[test]
fn g1_children_of_a_killed_init_keep_the_directory() {
    assert_kept_by_children_of_init("data-of-a-killed-init", "");
}

/// The children have locked the removed directory, and the lock file beside the new one.
#[test]
fn g1_children_of_a_killed_init_keep_a_replaced_directory() {
    assert_kept_by_children_of_init("replaced-data-of-a-killed-init", "rmdir data; mkdir data");
}

#[track_caller]
fn assert_kept_by_children_of_init(service: &str, script: &str) {
    let workspace = Workspace::new();
    let config = format!(
        "[services.{service}]\nstart = 'sleep 600'\ndata = 'data'\ninit = ['sh', '-c', '''\n{script}\n\
         echo begun >>begun; test -e ok && exit\n\
         sleep 600 & echo $! >child.new; mv child.new child; wait''']\n"
    );
    let project = workspace.project("app", &config);
    let mut starter = project
        .procref(&["run", service, "--", "true"])
        .stderr(Stdio::null())
        .spawn()
        .expect("run procref");
    let child = deadline::until("init runs", || {
        fs::read_to_string(project.dir.join("child")).ok()
    });
    let child = live_process(child.trim());
    let init = parent(child);
    let procref = parent(init);
    let supervisor = supervisors_of(service)[0];
    // The supervisor dies first, because it would stop the others.
    supervisor.kill();
    supervisor.wait_exit();
    starter.kill().expect("kill the client");
    starter.wait().expect("wait for the client");
    for process in [procref, init] {
        process.kill();
        process.wait_exit();
    }
    let mut second = Second::beside(&project, service);
    second.assert_waits_for(child, &project.dir.join("data"));
    let begun = || fs::read_to_string(project.dir.join("begun")).expect("read a file");
    assert_eq!(begun(), "begun\n");
    fs::write(project.dir.join("ok"), "").expect("write a file");
    child.kill();
    second.assert_succeeds();
    assert_eq!(begun(), "begun\nbegun\n");
}

fn parent(process: Identity) -> Identity {
    let pid = process.status("PPid").expect("a parent");
    live_process(&pid)
}

#[test]
fn g1_lock_moves_with_the_project() {
    let workspace = Workspace::new();
    let project = workspace.project("app", DB);
    let (client, service) = hold_db(&project);
    let moved = Project {
        workspace: &workspace,
        dir: workspace.path("moved"),
    };
    fs::rename(&project.dir, &moved.dir).expect("rename");
    let mut second = Second::beside(&moved, "db");
    second.assert_waits_for(service, &moved.dir.join("data"));
    client.leave();
    second.assert_succeeds();
}

/// The lock file beside the new path is a new file, so only the lock on the directory itself remains.
#[test]
fn g1_lock_moves_with_the_directory() {
    let workspace = Workspace::new();
    let project = workspace.project("app", DB);
    let (client, service) = hold_db(&project);
    fs::create_dir(project.dir.join("elsewhere")).expect("create a directory");
    let moved = project.dir.join("elsewhere/renamed");
    fs::rename(project.dir.join("data"), &moved).expect("rename");
    project.configure(&DB.replace("'data'", "'elsewhere/renamed'"));
    let mut second = Second::start(&project, "db");
    second.assert_waits_for(service, &moved);
    client.leave();
    second.assert_succeeds();
}

/// The lock on the removed directory does not protect the new one. The lock file does.
#[test]
fn g1_directory_recreated_while_in_use_is_locked() {
    let workspace = Workspace::new();
    let project = workspace.project("app", DB);
    let data = project.dir.join("data");
    let (client, service) = hold_db(&project);
    fs::remove_dir(&data).expect("remove the directory");
    fs::create_dir(&data).expect("create a directory");
    let mut second = Second::start(&project, "db");
    second.assert_waits_for(service, &data);
    client.leave();
    second.assert_succeeds();
}

#[test]
fn g1_directory_replaced_by_init_is_locked() {
    let workspace = Workspace::new();
    let init =
        "init = ['sh', '-c', 'rmdir \"$0\" && mkdir \"$0\" && touch \"$0/made\"', '{data}']\n";
    let project = workspace.project("app", &format!("{DB}{init}"));
    let (client, service) = hold_db(&project);
    // Without the lock file, only the lock on the directory itself remains.
    fs::remove_file(project.dir.join(".data.procref-lock")).expect("remove the lock file");
    let mut second = Second::start(&project, "db");
    second.assert_waits_for(service, &project.dir.join("data"));
    client.leave();
    second.assert_succeeds();
    assert!(project.dir.join("data/made").exists());
}

#[test]
fn g1_two_services_of_one_directory_take_turns() {
    let workspace = Workspace::new();
    let more = DB.replace("db", "more");
    // A link above the directory gives it a second path.
    let project = workspace.project(
        "app",
        &format!("{DB}{}", more.replace("'data'", "'link/data'")),
    );
    symlink(".", project.dir.join("link")).expect("create a link");
    let (client, service) = hold_db(&project);
    let mut second = Second::beside(&project, "more");
    second.assert_waits_for(service, &project.dir.join("link/data"));
    client.leave();
    second.assert_succeeds();
}

#[test]
fn g1_service_that_closes_all_descriptors_keeps_its_directory() {
    let workspace = Workspace::new();
    // The service runs in `bash`, because many other shells can only close descriptors of one digit.
    let program = "for fd in /proc/$$/fd/*; do fd=${fd##*/}; ((fd < 3)) || eval \"exec $fd>&-\"; done; \
                   : >closed; exec sleep 600";
    let project = workspace.project(
        "app",
        &format!(
            "[services.db]\nstart = ['bash', '-c', '{program}']\ndata = 'data'\nready = 'cmd:test -e closed'\n"
        ),
    );
    let (client, service) = hold_db(&project);
    let mut second = Second::start(&project, "db");
    second.assert_waits_for(service, &project.dir.join("data"));
    client.leave();
    second.assert_succeeds();
}

/// procref ignores a lock file of another boot, pid namespace or clock, and a lock file of a dead process.
#[test]
fn g1_stale_or_foreign_lock_file_does_not_block() {
    let workspace = Workspace::new();
    let project = workspace.project("app", DB);
    project.output(&["run", "db", "--", "true"]);
    let lock_file = project.dir.join(".data.procref-lock");
    let text = fs::read_to_string(&lock_file).expect("read the lock file");
    let mut user: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let own = Identity::own();
    user["pid"] = own.pid.into();
    for content in [
        // The process with this pid lives, but has another start time.
        user.to_string(),
        {
            user["start"] = own.start.into();
            let view = user["view"].as_str().expect("a text").to_owned();
            user["view"] = format!("{view}0").into();
            user.to_string()
        },
        String::new(),
        text[..text.len() / 2].to_owned(),
        "\0\u{1}".to_owned(),
    ] {
        fs::write(&lock_file, &content).expect("write the lock file");
        project.output(&["run", "db", "--", "true"]);
    }
    // procref respects a lock file with the right pid, start time and view. So the loop above tests all three.
    let text = fs::read_to_string(&lock_file).expect("read the lock file");
    let mut user: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let mut sleeper = Command::new("sh")
        .args(["-c", "read -r line"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("run sh");
    let holder = Identity::of(sleeper.id()).expect("a live process");
    user["pid"] = holder.pid.into();
    user["start"] = holder.start.into();
    fs::write(&lock_file, user.to_string()).expect("write the lock file");
    let mut second = Second::start(&project, "db");
    second.assert_waits_for(holder, &project.dir.join("data"));
    drop(sleeper.stdin.take());
    sleeper.wait().expect("wait for the shell");
    second.assert_succeeds();
}

#[test]
fn g1_suspended_holder_is_named_as_suspended() {
    let workspace = Workspace::new();
    let project = workspace.project("app", DB);
    let (client, service) = hold_db(&project);
    service.signal(Signal::STOP);
    deadline::until_true("the service is suspended", || service.is_suspended());
    let mut second = Second::start(&project, "db");
    assert!(
        second.waiting().contains(", suspended)"),
        "{}",
        second.waiting()
    );
    service.signal(Signal::CONT);
    client.leave();
    second.assert_succeeds();
}

/// If the user cannot write to the directory above, procref can only lock the data directory itself.
#[test]
fn g1_directory_with_unwritable_parent_is_locked() {
    let workspace = Workspace::new();
    let init = "init = ['touch', '{data}/made']\n";
    let project = workspace.project(
        "app",
        &format!("{DB}{init}").replace("'data'", "'above/data'"),
    );
    project.output(&["run", "db", "--", "true"]);
    let above = project.dir.join("above");
    fs::remove_file(above.join(".data.procref-lock")).expect("remove the lock file");
    fs::set_permissions(&above, fs::Permissions::from_mode(0o555)).expect("chmod");
    let without_privileges = |args: &[&str]| {
        let procref = project.procref(args);
        if !rustix::process::geteuid().is_root() {
            return procref;
        }
        // Root ignores permissions unless it drops these capabilities.
        let mut command = Command::new("setpriv");
        let caps = "-dac_override,-dac_read_search";
        command.args(["--bounding-set", caps, "--inh-caps", caps]);
        command.arg(procref.get_program()).args(procref.get_args());
        command.current_dir(&project.dir).stdin(Stdio::null());
        copy_environment(&procref, &mut command);
        command
    };
    let log = workspace.path("first.log");
    let holding = project.dir.join("holding");
    let client = format!(
        "echo $PROCREF_PID >{0}.new; mv {0}.new {0}; read -r line",
        holding.display()
    );
    let log = log.to_string_lossy();
    let mut first = without_privileges(&["run", "db", "--log", &log, "--", "sh", "-c", &client])
        .stdin(Stdio::piped())
        .spawn()
        .expect("run procref");
    let service = deadline::until("the first client holds the service", || {
        fs::read_to_string(&holding).ok()
    });
    let service = live_process(service.trim());
    assert!(!above.join(".data.procref-lock").exists());
    let mut command = without_privileges(&["run", "db"]);
    command.env("PROCREF_RUNTIME_DIR", workspace.path("run/second"));
    let mut second = Second::spawn(&project, command);
    second.assert_waits_for(service, &above.join("data"));
    drop(first.stdin.take());
    first.wait().expect("wait for the client");
    second.assert_succeeds();
    fs::set_permissions(&above, fs::Permissions::from_mode(0o755)).expect("chmod");
}

/// procref 0.2 locked the directory above while it ran `init`.
#[test]
fn g1_start_waits_for_init_of_procref_0_2() {
    let workspace = Workspace::new();
    let project = workspace.project("app", &format!("{DB}init = ['touch', '{{data}}/made']\n"));
    let older = File::open(&project.dir).expect("open the directory");
    rustix::fs::flock(&older, FlockOperation::LockExclusive).expect("lock the directory");
    let mut second = Second::start(&project, "db");
    second.assert_waits_for(Identity::own(), &project.dir.join("data"));
    assert!(!project.dir.join("data/made").exists());
    drop(older);
    second.assert_succeeds();
}

#[test]
fn g1_services_with_separate_data_do_not_wait() {
    let workspace = Workspace::new();
    let init = |other: &str| {
        let wait = format!("until test -e {other}; do sleep 0.05; done");
        format!("init = ['sh', '-c', 'touch \"$0.begun\"; {wait}', '{{data}}']\n")
    };
    let more = DB.replace("db", "more").replace("'data'", "'more'");
    // Each `init` waits until the other one has begun.
    let config = format!("{DB}{}{more}{}", init("more.begun"), init("data.begun"));
    let project = workspace.project("app", &config);
    let first = Second::beside(&project, "db");
    let second = Second::beside(&project, "more");
    first.assert_succeeds();
    second.assert_succeeds();
}

#[test]
fn g1_lock_file_records_the_namespace_of_its_holder() {
    let workspace = Workspace::new();
    let project = workspace.project("app", DB);
    let client = project.hold("db", r#"echo "$PROCREF_PID"; echo "$PROCREF_DIR""#);
    let text =
        fs::read_to_string(project.dir.join(".data.procref-lock")).expect("read the lock file");
    let user: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let services = procref::Services::in_dir(&client.printed[1]).expect("services");
    let namespace = services.namespace_id().expect("a digest");
    assert_eq!(user["namespace"], namespace.as_str());
    assert_eq!(user["pid"].to_string(), client.printed[0]);
    client.leave();
}

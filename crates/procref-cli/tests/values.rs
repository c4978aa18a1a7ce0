//! The values of a file: texts for arrays, numbers and truth values, variables of the host, files of variables, and the
//! user of a service.

#![cfg(target_os = "linux")]

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use support::workspace::{Project, Workspace};
use support::{NOBODY, PROCREF};

/// A service that writes its variables `V…` to the file `seen`, and then serves.
const SHOWS: &str = r#"start = ["sh", "-c", "env | grep '^V' | sort >seen.new; mv seen.new seen; exec sleep 600"]
ready = "cmd:test -e seen"
"#;

fn project<'a>(workspace: &'a Workspace, keys: &str) -> Project<'a> {
    workspace.project("app", &format!("[services.db]\n{SHOWS}{keys}\n"))
}

/// Runs a client, and returns what the service has seen and what the client printed.
fn seen(project: &Project<'_>, client: &str) -> (String, String) {
    let printed = project.output(&["run", "db", "--", "sh", "-c", client]);
    let seen = fs::read_to_string(project.dir.join("seen")).expect("read a file");
    (seen, printed)
}

#[test]
fn env_and_export_take_numbers_and_truth_values() {
    let workspace = Workspace::new();
    let project = project(
        &workspace,
        "env = { V1 = 5432, V2 = true, V3 = 1.0, V4 = -7, V5 = 'x' }\nexport = { DB_SSL = false, DB_PORT = 1 }",
    );
    let (seen, printed) = seen(&project, "echo $DB_SSL $DB_PORT");
    assert_eq!(seen, "V1=5432\nV2=true\nV3=1.0\nV4=-7\nV5=x\n");
    assert_eq!(printed, "false 1\n");
}

#[test]
fn texts_stand_for_arrays_of_one() {
    let workspace = Workspace::new();
    let project = workspace.project(
        "app",
        &format!(
            "[services.db]\n{SHOWS}depends-on = 'cache'\npath = 'tools'\n[services.cache]\nstart = 'sleep 600'\n"
        ),
    );
    fs::create_dir(project.dir.join("tools")).expect("create a directory");
    let printed = project.output(&["run", "db", "--", PROCREF, "ps", "--json"]);
    for name in ["\"db\"", "\"cache\""] {
        assert!(printed.contains(name), "{printed}");
    }
    let (code, stderr) = workspace
        .project("other", "[services.db]\nstart = 'x'\ndepends-on = 'cash'")
        .failure(&["run", "db", "--", "true"]);
    assert_eq!(code, 125, "{stderr}");
    assert!(
        stderr.contains(":3:14: service `db`: unknown service `cash`"),
        "{stderr}"
    );
}

#[test]
fn host_variables_are_literal_and_have_defaults() {
    let workspace = Workspace::new();
    let project = project(
        &workspace,
        "env = { V1 = '${HOST_A}', V2 = '${HOST_NONE:-a b}', V3 = '$${HOST_A} $5' }\n\
         export = { DB_NAME = 'db-${HOST_A}' }",
    );
    let mut client = project.procref(&["run", "db", "--", "sh", "-c", "echo $DB_NAME"]);
    // The value is not a template.
    client.env("HOST_A", "{port}${HOST_B}");
    let printed = support::stdout_of(&mut client);
    let seen = fs::read_to_string(project.dir.join("seen")).expect("read a file");
    assert_eq!(seen, "V1={port}${HOST_B}\nV2=a b\nV3=${HOST_A} $5\n");
    assert_eq!(printed, "db-{port}${HOST_B}\n");
    let (code, stderr) = project.failure(&["run", "db", "--", "true"]);
    assert_eq!(code, 125, "{stderr}");
    let expected = "service `db`: `env`: V1: the variable `HOST_A` is not set (set it, or write a default: `${HOST_A:-text}`)";
    assert!(stderr.contains(expected), "{stderr}");
}

#[test]
fn env_file_sets_variables_that_env_replaces() {
    let workspace = Workspace::new();
    let project = project(
        &workspace,
        "env-file = ['.env', 'more.env']\nenv = { V3 = 'own' }",
    );
    let write = |name: &str, text: &str| {
        let file = project.dir.join(name);
        fs::write(&file, text).expect("write a file");
        fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("chmod");
    };
    write(
        ".env",
        "# A comment\nV1=one\nexport V2=\"two words\"\nV3=file\nV4='{port}'\n",
    );
    write("more.env", "V1=more\n");
    let (seen, _) = seen(&project, "true");
    assert_eq!(seen, "V1=more\nV2=two words\nV3=own\nV4={port}\n");
}

#[test]
fn env_file_errors_name_the_file_and_the_place() {
    let workspace = Workspace::new();
    let project = project(&workspace, "env-file = 'missing.env'");
    let file = project.dir.join("missing.env");
    let refused = |parts: &[&str]| {
        let (code, stderr) = project.failure(&["run", "db", "--", "true"]);
        assert_eq!(code, 125, "{stderr}");
        for part in parts {
            assert!(stderr.contains(part), "{part:?} is not in: {stderr}");
        }
    };
    refused(&[
        ":4:12: service `db`: `env-file`:",
        "missing.env",
        "no such file",
    ]);
    fs::write(&file, "V1='open\n").expect("write a file");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("chmod");
    refused(&["missing.env", "invalid line; write NAME=value"]);
    fs::write(&file, "# A comment\n\nV1='secret$word' more\n").expect("write a file");
    refused(&["missing.env:3: invalid line"]);
    let (_, stderr) = project.failure(&["run", "db", "--", "true"]);
    assert!(!stderr.contains("secret"), "{stderr}");
    fs::write(&file, "V1=x\n").expect("write a file");
    fs::set_permissions(&file, Permissions::from_mode(0o666)).expect("chmod");
    refused(&["all users can write to it", "chmod o-w"]);
    fs::remove_file(&file).expect("remove a file");
    fs::create_dir(&file).expect("create a directory");
    refused(&["missing.env", "not a regular file"]);
}

/// A service whose `init` and program write who they are.
const AS_NOBODY: &str = r#"
[services.db]
init = ["sh", "-c", "id -u >$0/init; id -G >>$0/init", "{data}"]
start = ["sh", "-c", "(id -u; id -G; echo $USER $HOME $LOGNAME) >$0/new; mv $0/new $0/start; exec sleep 600", "{data}"]
data = "data/db"
ready = "cmd:test -s data/db/start"
user = "nobody"
env = { HOME = "/own" }
"#;

#[test]
fn g7_user_runs_init_and_program_without_roots_groups() {
    let workspace = Workspace::new();
    fs::set_permissions(workspace.path(""), Permissions::from_mode(0o755)).expect("chmod");
    let project = workspace.project("app", AS_NOBODY);
    fs::set_permissions(&project.dir, Permissions::from_mode(0o755)).expect("chmod");
    let is_root = rustix::process::geteuid().is_root();
    for _ in 0..2 {
        project.output(&["run", "db", "--", "true"]);
        let read = |name: &str| {
            let file = project.dir.join("data/db").join(name);
            fs::read_to_string(file).expect("read a file")
        };
        let (init, start) = (read("init"), read("start"));
        // The next start is ready only when its own program has run.
        fs::remove_file(project.dir.join("data/db/start")).expect("remove a file");
        if !is_root {
            // Only root can change to another user.
            let own = format!("{}\n", rustix::process::geteuid().as_raw());
            assert!(
                init.starts_with(&own) && start.starts_with(&own),
                "{init} {start}"
            );
            continue;
        }
        let mut lines = start.lines();
        assert_eq!(lines.next(), Some(NOBODY.to_string().as_str()));
        assert_eq!(init.lines().next(), Some(NOBODY.to_string().as_str()));
        // Only the primary group.
        assert_eq!(lines.next(), init.lines().nth(1));
        assert!(
            !init.lines().nth(1).expect("groups").contains(' '),
            "{init}"
        );
        assert_eq!(lines.next(), Some("nobody /own nobody"));
        let owner = fs::metadata(project.dir.join("data/db")).expect("stat");
        assert_eq!((owner.uid(), owner.mode() & 0o777), (NOBODY, 0o700));
    }
}

/// The directory that an earlier service has closed is procref's own.
#[test]
fn user_enters_the_directory_of_an_earlier_service() {
    let workspace = Workspace::new();
    fs::set_permissions(workspace.path(""), Permissions::from_mode(0o755)).expect("chmod");
    let config = AS_NOBODY.replace("data/db", ".procref/db").to_owned()
        + "[services.first]\nstart = 'sleep 600'\ndata = '.procref/first'\nready = 'started'\n";
    let project = workspace.project("app", &config);
    fs::set_permissions(&project.dir, Permissions::from_mode(0o755)).expect("chmod");
    project.output(&["run", "first", "--", "true"]);
    let mode = || {
        fs::metadata(project.dir.join(".procref"))
            .expect("stat")
            .mode()
            & 0o777
    };
    assert_eq!(mode(), 0o700);
    project.output(&["run", "db", "--", "true"]);
    let is_root = rustix::process::geteuid().is_root();
    assert_eq!(mode(), if is_root { 0o711 } else { 0o700 });
}

#[test]
fn user_errors_name_the_user_and_the_directory() {
    let workspace = Workspace::new();
    let unknown = workspace.project(
        "unknown",
        &AS_NOBODY.replace("\"nobody\"", "\"no such user\""),
    );
    if !rustix::process::geteuid().is_root() {
        // The setting has no effect.
        unknown.output(&["run", "db", "--", "true"]);
        return;
    }
    let (code, stderr) = unknown.failure(&["run", "db", "--", "true"]);
    assert_eq!(code, 125, "{stderr}");
    let expected = "could not run it as user `no such user` (`user`): there is no such user";
    assert!(stderr.contains(expected), "{stderr}");

    let closed = workspace.project("closed", AS_NOBODY);
    fs::set_permissions(&closed.dir, Permissions::from_mode(0o700)).expect("chmod");
    let (code, stderr) = closed.failure(&["run", "db", "--", "true"]);
    assert_eq!(code, 125, "{stderr}");
    for part in ["uid 65534 (`user`) cannot enter", "mode 0700", "chmod o+x"] {
        assert!(stderr.contains(part), "{part:?} is not in: {stderr}");
    }
}

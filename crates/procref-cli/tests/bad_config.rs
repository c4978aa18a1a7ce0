//! Configuration files that cannot be used: commands report the mistakes and start no service.

#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use support::{output_text, workspace::Workspace};

#[test]
fn config_mistake_is_located_by_every_command() {
    let workspace = Workspace::new();
    let project = workspace.project("app", "[services.db]\nstrat = 'sleep 600'\n");
    let file = project.dir.join("procref.toml");
    let expected = format!(
        "{}:2:1: service `db`: unknown key `strat`; did you mean `start`?",
        file.display()
    );
    for (args, code) in [
        (&["run", "db", "--", "true"][..], 125),
        (&["hold", "db"], 2),
        (&["pin", "db"], 2),
        (&["unpin", "db"], 2),
        (&["status", "db"], 2),
        (&["logs", "db"], 2),
        (&["stop", "db"], 2),
        (&["wait", "db", "--stopped"], 2),
    ] {
        let (exit_code, stderr) = project.failure(args);
        assert_eq!(exit_code, code, "{args:?}: {stderr}");
        assert!(stderr.contains(&expected), "{args:?}: {stderr}");
    }
}

#[test]
fn library_error_in_config_names_file_and_line() {
    let workspace = Workspace::new();
    let project = workspace.project("app", "\n[services.db]\nstart = 'x'\nready = 'log:('\n");
    let (_, stderr) = project.failure(&["run", "db", "--", "true"]);
    let file = project.dir.join("procref.toml");
    assert!(
        stderr.contains(&format!("{}:2:11: ", file.display())),
        "{stderr}"
    );
}

#[test]
fn unknown_service_name_suggests_the_nearest_name() {
    let workspace = Workspace::new();
    let project = workspace.project("app", "[services.postgres]\nstart = 'x'\n");
    let (_, stderr) = project.failure(&["run", "postgers", "--", "true"]);
    assert!(stderr.contains("did you mean `postgres`?"), "{stderr}");
    assert!(stderr.contains("procref.toml"), "{stderr}");
}

#[test]
fn missing_named_config_is_an_error_of_every_command() {
    let workspace = Workspace::new();
    let project = workspace.project("app", "");
    let missing = project.dir.join("missing.toml");
    for args in [
        &["ps"][..],
        &["ps", "--all", "--json"],
        &["gc"],
        &["status", "db"],
        &["run", "db", "--start", "sleep 600", "--", "true"],
    ] {
        let (_, stderr) = project.failure(&[&["--config", "missing.toml"][..], args].concat());
        let expected = format!(
            "procref: {}: no such file (named by `--config`)\n",
            missing.display()
        );
        assert_eq!(stderr, expected, "{args:?}");
        let output = project
            .procref(args)
            .env("PROCREF_CONFIG", "missing.toml")
            .output();
        let (_, stderr) = output_text(&output.expect("run procref"));
        assert!(stderr.contains("(named by PROCREF_CONFIG)"), "{stderr}");
    }
    project.output(&["--config", "procref.toml", "ps"]);
}

#[test]
fn config_that_is_not_a_short_text_file_is_refused() {
    let workspace = Workspace::new();
    let project = workspace.project("app", "");
    let file = project.dir.join("procref.toml");
    let assert_refused = |part: &str| {
        let (code, stderr) = project.failure(&["status", "db"]);
        assert_eq!(code, 2, "{stderr}");
        assert!(
            stderr.contains(&format!("{}: ", file.display())) || stderr.contains(":2:"),
            "{stderr}"
        );
        assert!(stderr.contains(part), "{stderr}");
    };
    fs::write(&file, "#\n".repeat(1 << 20)).expect("write a long file");
    assert_refused("larger than 1 MiB");
    fs::write(&file, b"# one\n# \xff\n").expect("write a file");
    assert_refused("invalid UTF-8");
    fs::remove_file(&file).expect("remove the file");
    fs::create_dir(&file).expect("create a directory");
    assert_refused("not a regular file");
    fs::remove_dir(&file).expect("remove the directory");
    std::os::unix::fs::symlink("/dev/zero", &file).expect("create a link");
    assert_refused("not a regular file");
    fs::remove_file(&file).expect("remove the file");
    std::os::unix::fs::symlink("nowhere", &file).expect("create a link");
    assert_refused("no such file");
    fs::remove_file(&file).expect("remove the file");
    let status = std::process::Command::new("mkfifo").arg(&file).status();
    assert!(status.expect("run mkfifo").success());
    assert_refused("not a regular file");
}

#[test]
fn g7_config_writable_by_others_is_refused_unless_named() {
    let workspace = Workspace::new();
    let project = workspace.project("app", "[services.db]\nstart = 'sleep 600'\n");
    let file = project.dir.join("procref.toml");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).expect("chmod");
    let (code, stderr) = project.failure(&["run", "db", "--", "true"]);
    assert_eq!(code, 125);
    assert!(stderr.contains("all users can write to it"), "{stderr}");
    project.output(&["--config", "procref.toml", "run", "db", "--", "true"]);
    if rustix::process::geteuid().is_root() {
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("chmod");
        std::os::unix::fs::chown(&file, Some(65534), None).expect("chown");
        let (_, stderr) = project.failure(&["run", "db", "--", "true"]);
        assert!(stderr.contains("it belongs to uid 65534"), "{stderr}");
    }
}

#[test]
fn config_errors_of_all_services_are_reported_together() {
    let workspace = Workspace::new();
    // Each comment is a part of the error message about its line.
    let config = r#"shard = true                     # unknown key `shard`; did you mean `shared`?
[services.a]                                         # `log`: the path is empty
start = "sleep 60"
stop-signal = "SIGFOO"                               # `stop-signal`
linger = "soon"                                      # `linger`
grace = 5                                            # `grace`
port = "abc"                                         # `port`
log = ""
ready = "foo"                                        # `ready`
export = { "A=B" = "x", C = [5] }                      # `export`
env = { A = [], B = "b", C = {} }                   # `env`
[services.b]
strat = "sleep 60"                                   # did you mean `start`?
start-timeout = "1x"                                 # `start-timeout`
wait-timeout = []                                    # `wait-timeout`
mismatch = "maybe"                                   # unknown action "maybe"
depends-on = ["c", 7, "nowhere", 8]                  # unknown service `nowhere`
path = [1, "bin"]                                    # `path`
[services.c]                                         # `start`, the command
data = ".."                                          # `data`
shared = "yes"                                       # `shared`
[services.d]                                         # is not in `depends-on`
start = "sleep {a.port}"
[services.e]                                         # regular expression
start = "sleep 60"
ready = "log:("
[services.f]                                         # longer than twelve days
start = "sleep 60"
linger = "30days"
[services.g]                                         # `{data}` is used
start = "sleep {data}"
"#;
    let project = workspace.project("app", config);
    let place = |line: usize| format!("{}:{line}:", project.dir.join("procref.toml").display());
    let (_, stderr) = project.failure(&["run", "a", "--", "true"]);
    for (number, line) in (1..).zip(config.lines()) {
        let Some((_, part)) = line.rsplit_once("# ") else {
            continue;
        };
        let found = |error: &str| error.contains(&place(number)) && error.contains(part);
        assert!(stderr.lines().any(found), "line {number}: {part}\n{stderr}");
    }
    // Each wrong element of a table or an array has its own error message.
    for (number, times) in [(10, 2), (11, 2), (17, 3), (18, 1)] {
        let errors = stderr
            .lines()
            .filter(|error| error.contains(&place(number)));
        assert_eq!(errors.count(), times, "line {number}\n{stderr}");
    }
    let count = stderr.lines().count() - 1;
    assert!(
        stderr.contains(&format!("\n{count} errors in the configuration")),
        "{stderr}"
    );
    let doctor = workspace.procref(&project.dir).args(["doctor"]).output();
    let (doctor, _) = output_text(&doctor.expect("run doctor"));
    assert!(
        doctor.contains("`stop-signal`") && doctor.contains("`data`"),
        "{doctor}"
    );
}

#[test]
fn config_errors_of_both_files_are_reported_together() {
    let workspace = Workspace::new();
    workspace.configure_user("[services.u]\nstart = 1\n");
    let project = workspace.project("app", "[services.a]\nstart = 'x'\nport = 0\n");
    let (_, stderr) = project.failure(&["run", "a", "--", "true"]);
    let found = stderr.contains("config.toml:2:9:") && stderr.contains("procref.toml:3:8:");
    assert!(found, "{stderr}");
}

#[test]
fn port_of_a_service_without_one_is_an_error_that_names_the_key() {
    let workspace = Workspace::new();
    workspace.configure_user("[services.shared]\nstart = 'sleep 60'\nready = 'started'\n");
    let project = workspace.project("app", "");
    let file = project.dir.join("procref.toml");
    let without = "[services.a]\nstart = 'sleep 60'\n";
    let dependent = "[services.b]\nstart = 'sleep 61'\ndepends-on = ['a', 'shared']\n";
    let export = "export = { URL = 'http://127.0.0.1:{port}/' }\n";
    project.configure(&format!("{without}{export}"));
    for args in [&["run", "a", "--", "true"][..], &["check"]] {
        let (_, stderr) = project.failure(args);
        let expected = format!(
            "{}:3:18: service `a`: `export`: URL: `{{port}}` is used, but the service has no port (set `port`",
            file.display()
        );
        assert!(stderr.contains(&expected), "{stderr}");
    }
    // Each of these gives the service a port.
    for setting in [
        "port = 'auto'",
        "env = { A = '{port}' }",
        "init = 'x {port}'\ndata = 'd'",
        "ready = 'cmd:true {port}'",
        "ready = 'unix:{dir}/{port}'",
        "ready = 'log:port {port}'",
        "health = 'cmd:true {port}'",
    ] {
        project.configure(&format!("{without}{setting}\n{export}"));
        let (_, stderr) = output_text(&project.procref(&["check"]).output().expect("run procref"));
        assert!(!stderr.contains("has no port"), "{setting}: {stderr}");
    }
    project.configure(&format!(
        "{without}ready = 'cmd:test 0 -ne {{port}}'\n{export}"
    ));
    let url = project.output(&["run", "a", "--", "sh", "-c", "echo $URL"]);
    assert!(!url.contains(":0/"), "{url}");
    for (setting, used) in [
        ("env = { A = '{a.port}' }", "`env`: `{a.port}`"),
        ("export = { A = '{a.port}' }", "`export`: `{a.port}`"),
        ("env = { A = '{shared.port}' }", "`env`: `{shared.port}`"),
        ("init = 'x {a.port}'\ndata = 'd'", "`init`: `{a.port}`"),
    ] {
        project.configure(&format!("{without}{dependent}{setting}\n"));
        let (_, stderr) = project.failure(&["run", "b", "--", "true"]);
        let expected = format!("{}:3:11: service `b`: {used} is used, but", file.display());
        assert!(stderr.contains(&expected), "{setting}: {stderr}");
    }
    project.configure(&format!(
        "{without}port = 'auto'\n{dependent}env = {{ A = '{{a.port}}' }}\n"
    ));
    project.output(&["check"]);
}

#[test]
fn options_that_remove_the_port_of_an_exported_variable_are_an_error() {
    let workspace = Workspace::new();
    let project = workspace.project(
        "app",
        "[services.a]\nstart = 'sleep 6{port}'\nready = 'started'\nexport = { A = '{port}' }\n",
    );
    let (_, stderr) = project.failure(&["run", "a", "--start", "sleep 60", "--", "true"]);
    assert!(
        stderr.contains("`export`: A: `{port}`") && stderr.contains("--port"),
        "{stderr}"
    );
    let run = [
        "run", "a", "--start", "sleep 60", "--port", "auto", "--", "true",
    ];
    project.output(&run);
}

#[test]
fn key_of_another_program_is_an_error_that_names_the_own_key() {
    let workspace = Workspace::new();
    let project = workspace.project("app", "");
    for (key, own) in [
        ("restart = 'always'", "restarts nothing"),
        ("image = 'postgres:16'", "`start`"),
        ("command = 'x'", "`start`"),
        ("ports = ['5432:5432']", "`port`"),
        ("volumes = ['./data:/x']", "`data`"),
        ("healthcheck = { test = 'x' }", "`health`"),
        ("readiness_probe = { exec = 'x' }", "`ready`"),
        ("environment = { A = 'b' }", "`env`"),
        ("env_file = '.env'", "`env-file`"),
        ("depends_on = ['b']", "`depends-on`"),
        ("working_dir = '.'", "`cwd`"),
        ("stop_grace_period = '5s'", "`grace`"),
    ] {
        project.configure(&format!("[services.a]\nstart = 'sleep 60'\n{key}\n"));
        let (code, stderr) = project.failure(&["check"]);
        let (name, _) = key.split_once(' ').expect("a key");
        let unknown = format!(":3:1: service `a`: unknown key `{name}`; ");
        assert_eq!(code, 2, "{stderr}");
        let advice = stderr.split_once(&unknown).map(|(_, advice)| advice);
        assert!(advice.is_some_and(|it| it.contains(own)), "{key}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{key}: {stderr}");
    }
    // The command is not missing as well.
    project.configure("[services.a]\nimage = 'postgres'\n");
    let (_, stderr) = project.failure(&["check"]);
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn invalid_variables_are_all_reported_with_their_places() {
    let workspace = Workspace::new();
    let config = r#"[services.a]
start = "sleep 60"
[services.a.env]
"A=B" = "x"
"" = "x"
C = "a\u0000b"
[services.a.export]
"D=E" = "x"
F = "a\u0000b"
"#;
    let project = workspace.project("app", config);
    let (_, stderr) = project.failure(&["check"]);
    for (line, part) in [
        (4, "`env`: invalid name of a variable \"A=B\""),
        (5, "`env`: invalid name of a variable \"\""),
        (6, "`env`: C: the value contains a NUL character"),
        (8, "`export`: invalid name of a variable \"D=E\""),
        (9, "`export`: F: the value contains a NUL character"),
    ] {
        let place = format!("procref.toml:{line}:");
        let found = |error: &str| error.contains(&place) && error.contains(part);
        assert!(stderr.lines().any(found), "line {line}: {stderr}");
    }
    assert!(
        stderr.contains("\n5 errors in the configuration"),
        "{stderr}"
    );
}

#[test]
fn start_timeout_of_zero_is_an_error() {
    let workspace = Workspace::new();
    let start = "[services.a]\nstart = 'sleep 60'\nready = 'started'\n";
    let project = workspace.project("app", &format!("{start}start-timeout = '0s'\n"));
    let (_, stderr) = project.failure(&["check"]);
    let expected = ":4:17: service `a`: `start-timeout`: the time must not be zero";
    assert!(stderr.contains(expected), "{stderr}");
    project.configure(start);
    let (_, stderr) = project.failure(&["run", "a", "--start-timeout", "0s", "--", "true"]);
    assert!(stderr.contains("the time must not be zero"), "{stderr}");
}

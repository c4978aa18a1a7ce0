//! Paths: a path is never treated as a template (G7), and a relative path refers to the working directory.

#![cfg(target_os = "linux")]

mod support;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use support::{PROCREF, output_text, stdout_of, workspace::Workspace};

/// Names of directories that look like placeholders, patterns, shell syntax or format strings.
const NAMES: [&str; 18] = [
    "{port}",
    "{dir}",
    "{root}",
    "{data}",
    "{dep.port}",
    "{name}",
    "{{port}}",
    "{",
    "}}",
    "{po",
    "{}",
    "%s %d",
    "a 'b' \"c\"",
    "$HOME `id`",
    "new\nline",
    "[x]*?",
    "\\",
    "grüße",
];

/// A configuration with every key that may contain a placeholder or a relative path.
const EVERYTHING: &str = r#"
[services.dep]
start = "sleep 60"
ready = "started"
export = { DEP_ROOT = "{root}" }

[services.all]
start = ["./server.sh", "{data}", "{root}", "{dir}", "{port}", "{dep.dir}", "{{port}} {{dep.port}}"]
init = ["./init.sh", "{data}", "{root}"]
data = "d"
ready = "cmd:./ready.sh {data} {root}"
log = "all.log"
path = ["b*"]
env = { ENV_ROOT = "{root}", ENV_BOTH = "{dep.dir} {root} {dir}" }
export = { ROOT = "{root}", BOTH = "{dep.dir} {root} {dir}" }
depends-on = ["dep"]

[services.plain]
start = ["./server.sh", "{root}/p", "{root}", "{dir}", "none", "none", "{{port}}"]
ready = "cmd:./ready.sh {root}/p {root}"
cwd = "p"
log = "p/{{port}}.log"
env = { ENV_ROOT = "{root}" }
export = { ROOT = "{root}" }

[services.kept]
start = ["./server.sh", "{root}/p", "{root}", "{dir}", "none", "none", "{{port}}"]
ready = "cmd:./ready.sh {root}/p {root}"
cwd = "p"
data = "kept"
env = { ENV_ROOT = "{root}" }
export = { ROOT = "{root}" }
"#;

fn script(file: &Path, text: &str) {
    fs::write(file, format!("#!/bin/sh\n{text}\n")).expect("write a file");
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).expect("chmod");
}

#[test]
fn g7_project_path_is_never_a_template() {
    let workspace = Workspace::new();
    for name in NAMES {
        let project = workspace.project(name, EVERYTHING);
        let root = project.dir.to_str().expect("Unicode");
        fs::create_dir_all(project.dir.join("bin")).expect("create a directory");
        fs::create_dir_all(project.dir.join("p")).expect("create a directory");
        script(
            &project.dir.join("init.sh"),
            "[ \"$2\" = \"$ENV_ROOT\" ] && echo \"$1\" >\"$1/init\"",
        );
        script(
            &project.dir.join("server.sh"),
            "helper; pwd >\"$1/cwd\"; printf '%s\\n' \"$@\" >\"$1/args\"; echo \"$ENV_BOTH\" >\"$1/both\"
             echo \"$ENV_ROOT\" >\"$1/root\"; exec sleep 60",
        );
        script(
            &project.dir.join("ready.sh"),
            "[ -s \"$1/root\" ] && [ \"$2\" = \"$(cat \"$1/root\")\" ]",
        );
        script(&project.dir.join("bin/helper"), "echo helped");
        let client = r#"echo "$ROOT"; echo "$DEP_ROOT"; echo "$BOTH"; echo "$PROCREF_DIR""#;
        let printed = project.output(&[
            "run",
            "all",
            "--start-timeout",
            "20s",
            "--",
            "sh",
            "-c",
            client,
        ]);
        let dirs = workspace.runtime_dir().join("projects");
        let dir = fs::read_dir(dirs)
            .expect("list the directories")
            .flatten()
            .map(|entry| entry.path());
        let dir = dir
            .filter(|dir| fs::read_link(dir.join("project")).is_ok_and(|link| link == project.dir))
            .map(|dir| dir.to_str().expect("Unicode").to_owned())
            .next()
            .expect("the runtime directory of the project");
        assert_eq!(
            printed,
            format!("{root}\n{root}\n{dir} {root} {dir}\n{dir}\n"),
            "{name:?}"
        );
        let read = |file: &str| fs::read_to_string(project.dir.join(file)).expect(file);
        assert_eq!(read("d/init"), format!("{root}/d\n"));
        assert_eq!(read("d/cwd"), format!("{root}\n"));
        assert_eq!(read("d/both"), format!("{dir} {root} {dir}\n"));
        let args = read("d/args");
        let port = args.strip_prefix(&format!("{root}/d\n{root}\n{dir}\n"));
        let port =
            port.and_then(|rest| rest.strip_suffix(&format!("\n{dir}\n{{port}} {{dep.port}}\n")));
        assert!(
            port.is_some_and(|port| port.parse::<u16>().is_ok()),
            "{name:?}: {args}"
        );
        assert!(
            read("all.log").contains("helped"),
            "the helper in `path` was not executed"
        );

        // The library executes `plain` itself. For `kept`, procref first locks the data directory.
        for service in ["plain", "kept"] {
            let client = "echo \"$ROOT[$PROCREF_PORT]\"";
            let args = ["run", service, "--", "sh", "-c", client];
            let printed = project.output(&args);
            assert_eq!(printed, format!("{root}[]\n"), "{name:?} has a port");
            assert_eq!(
                read("p/args"),
                format!("{root}/p\n{root}\n{dir}\nnone\nnone\n{{port}}\n")
            );
            assert_eq!(read("p/cwd"), format!("{root}/p\n"));
            for file in ["p/args", "p/root"] {
                fs::remove_file(project.dir.join(file)).expect("remove the file");
            }
        }
        assert!(project.dir.join("p/{port}.log").exists());
    }
}

#[test]
fn g7_program_path_is_shown_without_expansion() {
    let workspace = Workspace::new();
    let project = workspace.project("{port}", "[services.s]\nstart = './missing'\n");
    let (_, stderr) = project.failure(&["run", "s", "--", "true"]);
    assert!(stderr.contains("/{port}/missing`"), "{stderr}");
    project.configure("[services.s]\nstart = './it'\nready = 'started'\n[services.t]\nstart = './it'\nready = 'started'\ndata = 'd'\n");
    script(&project.dir.join("it"), "exec sleep 60");
    for name in ["s", "t"] {
        let status = format!("'{}' status {name} --json", PROCREF);
        let status = project.output(&["run", name, "--", "sh", "-c", &status]);
        assert!(status.contains("/{port}/it\""), "{status}");
    }
}

#[test]
fn g7_runtime_directory_may_hold_braces_or_be_non_unicode() {
    let workspace = Workspace::new();
    let project = workspace.project("app", &format!("shared = true\n{EVERYTHING}"));
    for dir in ["p", "bin", "d"] {
        fs::create_dir_all(project.dir.join(dir)).expect("create a directory");
    }
    script(&project.dir.join("init.sh"), "true");
    script(&project.dir.join("ready.sh"), "true");
    script(
        &project.dir.join("server.sh"),
        "printf '%s\\n' \"$@\" \"$ENV_BOTH\" >\"$1/args\"; exec sleep 60",
    );
    for name in [&b"{port}"[..], b"{dep.port}", b"{root}", b"{", b"\xff\xfe"] {
        let dir = workspace.path("").join(OsStr::from_bytes(name));
        fs::create_dir(&dir).expect("create a directory");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).expect("chmod");
        let _ = fs::remove_file(project.dir.join("d/args"));
        let mut command = project.procref(&["run", "all", "--"]);
        let wait = "until [ -s d/args ]; do sleep 0.01; done; printf '%s\\n' \"$PROCREF_DIR\" \"$BOTH\" \"$PROCREF_DIR_DEP\"";
        command
            .args(["sh", "-c", wait])
            .env("PROCREF_RUNTIME_DIR", &dir);
        let output = command.output().expect("run procref");
        let (_, err) = output_text(&output);
        assert!(output.status.success(), "{dir:?}: {err}");
        let bytes = dir.as_os_str().as_bytes();
        let root = project.dir.as_os_str().as_bytes();
        let both = [bytes, b" ", root, b" ", bytes].concat();
        let expected = [bytes, b"\n", &both, b"\n", bytes, b"\n"].concat();
        assert_eq!(output.stdout, expected, "{dir:?}");
        let args = fs::read(project.dir.join("d/args")).expect("read the arguments");
        assert!(
            args.ends_with(&[b"\n", &both[..], b"\n"].concat()),
            "{dir:?}: {args:?}"
        );
    }
}

#[test]
fn g7_non_unicode_project_path_is_refused_with_the_reason() {
    let workspace = Workspace::new();
    let dir = workspace.path("").join(OsStr::from_bytes(b"\xff"));
    fs::create_dir(&dir).expect("create a directory");
    fs::write(
        dir.join("procref.toml"),
        "[services.s]\nstart = 'sleep 60'\n",
    )
    .expect("write a file");
    let output = workspace
        .procref(&dir)
        .args(["run", "s", "--", "true"])
        .output();
    let output = output.expect("run procref");
    let (_, stderr) = output_text(&output);
    assert_eq!(output.status.code(), Some(125));
    assert!(
        stderr.contains("the path of the file's directory is not UTF-8"),
        "{stderr}"
    );
}

const TWO: &str = "shared = true
[services.dep]
start = 'sleep 60'
ready = 'started'
[services.main]
start = ['sh', '-c', 'echo \"$PROCREF_RUNTIME_DIR\" >seen; exec sleep 60']
ready = 'cmd:test -s seen'
depends-on = ['dep']
";

#[test]
fn relative_runtime_directory_resolves_in_working_directory() {
    let workspace = Workspace::new();
    let project = workspace.project("app", TWO);
    let deep = project.dir.join("deep");
    fs::create_dir(&deep).expect("create a directory");
    for name in ["rr", "./rr/", "new/rr", "../../rr"] {
        let _ = fs::remove_file(project.dir.join("seen"));
        let absolute = deep.join(name).components().as_path().to_owned();
        // The client changes its directory and still finds the service.
        let client = format!(
            "cd / && '{}' status main >/dev/null && echo \"$PROCREF_RUNTIME_DIR\"",
            PROCREF
        );
        let mut command = workspace.procref(&deep);
        command.args(["run", "main", "--", "sh", "-c", &client]);
        command
            .env("PROCREF_RUNTIME_DIR", name)
            .env("PROCREF_CONFIG", "../procref.toml");
        let printed = stdout_of(&mut command);
        assert_eq!(
            Path::new(printed.trim_end()).components(),
            absolute.components(),
            "{name}"
        );
        let seen = fs::read_to_string(project.dir.join("seen"))
            .expect("the runtime directory of the service");
        assert_eq!(seen, printed);
        assert!(absolute.is_dir());
        let mut command = workspace.procref(&deep);
        stdout_of(command.args(["--runtime-dir", name, "run", "main", "--", "true"]));
    }
    for stray in ["rr", "new"] {
        assert!(
            !project.dir.join(stray).exists(),
            "{stray} beside procref.toml"
        );
    }
}

#[test]
fn relative_runtime_directory_works_with_project_directories() {
    let workspace = Workspace::new();
    let project = workspace.project("app", &TWO.replace("shared = true", ""));
    let deep = project.dir.join("deep");
    fs::create_dir(&deep).expect("create a directory");
    let mut command = workspace.procref(&deep);
    stdout_of(
        command
            .args(["run", "main", "--", "true"])
            .env("PROCREF_RUNTIME_DIR", "rr"),
    );
    assert!(deep.join("rr/projects").is_dir());
    assert!(!project.dir.join("rr").exists());
}

#[test]
fn service_environment_does_not_move_its_dependencies() {
    let workspace = Workspace::new();
    let env =
        "env = { PROCREF_RUNTIME_DIR = '/nowhere', XDG_RUNTIME_DIR = '/nowhere', HOME = '/' }\n";
    let project = workspace.project("app", &format!("{TWO}{env}"));
    project.output(&["run", "main", "--", "true"]);
}

#[test]
fn relative_option_paths_resolve_in_the_working_directory() {
    let workspace = Workspace::new();
    let project = workspace.project("app", TWO);
    let deep = project.dir.join("{port} deep");
    fs::create_dir(&deep).expect("create a directory");
    script(
        &deep.join("other.sh"),
        "pwd >\"$0.cwd\"; echo out; exec sleep 60",
    );
    let mut command = workspace.procref(&deep);
    command.args([
        "run",
        "main",
        "--start",
        "./other.sh",
        "--ready",
        "log:out",
        "--log",
        "it.log",
        "--cwd",
        ".",
    ]);
    stdout_of(command.args(["--", "true"]));
    let cwd = fs::read_to_string(deep.join("other.sh.cwd"))
        .expect("read the working directory of the service");
    assert_eq!(cwd.trim_end(), deep.to_str().expect("Unicode"));
    assert!(deep.join("it.log").exists());
    // procref ignores a relative `XDG_CONFIG_HOME`, as the specification requires.
    fs::create_dir_all(deep.join("cfg/procref")).expect("create a directory");
    fs::write(
        deep.join("cfg/procref/config.toml"),
        "[services.user]\nstart = 'sleep 60'\n",
    )
    .expect("write a file");
    let mut command = workspace.procref(&deep);
    command
        .args(["run", "user", "--", "true"])
        .env("XDG_CONFIG_HOME", "cfg");
    assert!(!command.output().expect("run procref").status.success());
}

#[test]
fn client_of_run_uses_the_options_of_run_for_its_own_procref() {
    let workspace = Workspace::new();
    let project = workspace.empty_project("app");
    let config = "[services.a]\nstart = 'sleep 60'\nready = 'started'\n[services.b]\nstart = 'sleep 61'\nready = 'started'\nshared = true\n";
    std::fs::write(project.dir.join("other.toml"), config).expect("write a file");
    // The client's own directory is another one, and the paths of the options are relative.
    let client = r#"cd / && "$PROCREF" status a --json && "$PROCREF" status b --json && env"#;
    let options = ["--config", "other.toml", "--runtime-dir", "own"];
    let args = [&options[..], &["run", "a", "b", "--", "sh", "-c", client]].concat();
    let output = project
        .procref(&args)
        .env("PROCREF", support::PROCREF)
        .output();
    let output = output.expect("run procref");
    let (stdout, stderr) = output_text(&output);
    assert!(output.status.success(), "{stderr}");
    let (a, rest) = stdout.split_once('\n').expect("two lines");
    let (b, rest) = rest.split_once('\n').expect("two lines");
    for status in [a, b] {
        let status: serde_json::Value = serde_json::from_str(status).expect("JSON");
        assert_eq!(status["state"], "ready", "{status}");
    }
    for (name, path) in [
        ("PROCREF_CONFIG", "other.toml"),
        ("PROCREF_RUNTIME_DIR", "own"),
    ] {
        let variable = format!("{name}={}", project.dir.join(path).display());
        assert!(
            rest.lines().any(|line| line == variable),
            "{variable}: {rest}"
        );
    }
    let without = project.output(&[
        "run", "x", "--start", "sleep 60", "--ready", "started", "--", "env",
    ]);
    assert!(!without.contains("PROCREF_CONFIG="), "{without}");
    assert!(!without.contains("PROCREF_RUNTIME_DIR="), "{without}");
}

//! Placeholders in the client's arguments.
//!
//! procref fills in addresses and leaves programs unchanged. An argument that can be either is an error.

#![cfg(target_os = "linux")]

mod support;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::process::Output;

use support::{path_text, sandbox::Sandbox, workspace::Workspace};

/// A client that prints each of its arguments, followed by a NUL byte.
const PRINT: [&str; 2] = ["printf", "%s\\0"];

/// Runs `client` with a service that has a port.
fn run<W: AsRef<OsStr>>(sandbox: &Sandbox, options: &[&str], client: &[W]) -> Output {
    let start = [
        "--start",
        "sleep 600",
        "--port",
        "auto",
        "--ready",
        "started",
    ];
    let mut command = sandbox.procref("db");
    command.args(["run", "db"]).args(start).args(options);
    command.arg("--").args(client);
    command.output().expect("run procref")
}

/// Returns the arguments that a client receives for these `words`.
fn printed<W: AsRef<OsStr>>(sandbox: &Sandbox, options: &[&str], words: &[W]) -> Vec<OsString> {
    let client: Vec<&OsStr> = PRINT
        .iter()
        .map(OsStr::new)
        .chain(words.iter().map(AsRef::as_ref))
        .collect();
    let output = run(sandbox, options, &client);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{client:?}: {error}");
    assert_eq!(error, "", "{client:?}");
    let words = output.stdout.strip_suffix(b"\0").expect("a NUL at the end");
    let words = words.split(|&byte| byte == 0);
    words
        .map(|word| OsStr::from_bytes(word).to_owned())
        .collect()
}

#[test]
fn client_program_text_is_passed_unchanged() {
    let sandbox = Sandbox::new();
    let words = [
        r#"port=1; name=joe; echo "${name} ${port} ${pid} {port}""#,
        ".[] | {pid}",
        "map({name})",
        "[.[]|{dir}]",
        "const {port} = {port: 1}; console.log({port})",
        "console.log(`hi ${name}`)",
        r#"import {name} from "./x.js""#,
        r#"print(f"{name}:{port}")"#,
        "'{name}'.format(name=1)",
        "{{port}}",
        "{{ port }}",
        "{% if port %}{{port}}{% endif %}",
        "{print $1, {port}}",
        r#"println!("{port}");"#,
        "s/{port}/x/;p",
        "{}",
        "{a,b}",
        "@{upstream}",
        "{port:5432}",
        r#"{"port": {port}}"#,
        "http://{host}:{port}/",
        "<div>{name}</div>",
        "x\n{port}",
        "",
    ];
    let all = printed(&sandbox, &[], &words);
    assert_eq!(all, words.map(OsString::from));
    // A program is not an address even if it follows an option that names a port or a host.
    for option in ["-p", "--port", "-h"] {
        for word in words {
            let received = printed(&sandbox, &[], &[option, word]);
            assert_eq!(received, [option, word], "{option}");
        }
    }
    sandbox.assert_nothing_left();
}

#[test]
fn client_address_placeholders_are_filled_in() {
    let sandbox = Sandbox::new();
    let words = [
        "-p",
        "{port}",
        "--port={port}",
        "-p{port}",
        "PORT={port}",
        "http://127.0.0.1:{port}/x?y=z",
        ":{port}/x",
        "[::1]:{port}",
        "{db.port}",
        "--pid",
        "{pid}",
        "{dir}/socket",
        "-h",
        "{dir}",
        "{db.name}",
    ];
    let received = printed(&sandbox, &[], &words);
    let received: Vec<&str> = received
        .iter()
        .map(|word| word.to_str().expect("UTF-8"))
        .collect();
    let (port, pid, dir) = (received[1], received[10], path_text(&sandbox.runtime_dir()));
    assert!(
        port.parse::<u16>().is_ok_and(|port| port > 0),
        "{received:?}"
    );
    assert!(pid.parse::<u32>().is_ok_and(|pid| pid > 0), "{received:?}");
    let expected = words.map(|word| {
        let word = word.replace("{port}", port).replace("{db.port}", port);
        let word = word.replace("{pid}", pid).replace("{dir}", &dir);
        word.replace("{db.name}", "db")
    });
    assert_eq!(received, expected);
    sandbox.assert_nothing_left();
}

#[test]
fn client_arguments_keep_bytes_that_are_not_utf8() {
    let sandbox = Sandbox::new();
    let word = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    let words = [
        word(b"-p"),
        word(b"{port}"),
        word(b"\xff\xfe/\xc3:{port}"),
        word(b"\xff {port}"),
        word(b"\xff${port}"),
    ];
    let received = printed(&sandbox, &[], &words);
    let port = received[1].to_str().expect("a number").to_owned();
    let filled = [b"\xff\xfe/\xc3:".to_vec(), port.into_bytes()].concat();
    assert_eq!(received[2], word(&filled));
    assert_eq!(received[3..], words[3..]);
    assert_eq!(printed(&sandbox, &["--no-fill"], &words), words);
    sandbox.assert_nothing_left();
}

#[test]
fn ambiguous_placeholder_is_refused_before_anything_starts() {
    let sandbox = Sandbox::new();
    for client in [
        &["jq", "{pid}"][..],
        &["jq", "-r", "{name}"],
        &["jq", "-c", "{port}"],
        &["jq", ".port={port}"],
        &["xargs", "-I{dir}", "ls", "{dir}/x"],
        &["xargs", "-I", "{name}", "mv", "{name}", "{name}.bak"],
        &["hyperfine", "--command-name", "{name}"],
        &["nc", "127.0.0.1", "{port}"],
        &["{name}"],
    ] {
        for watch in [&[][..], &["--watch-client"]] {
            let output = run(&sandbox, watch, client);
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(125), "{client:?}: {stderr}");
            for part in ["{db.", "placeholder", "--fill", "--no-fill"] {
                assert!(stderr.contains(part), "{client:?}: {part}: {stderr}");
            }
            assert!(sandbox.files().is_empty(), "no service was started");
        }
    }
}

#[test]
fn ambiguous_placeholder_follows_fill_and_no_fill() {
    let sandbox = Sandbox::new();
    let words = ["{port}", "{name}", "echo {port}", "{{name}}", "${x}"];
    assert_eq!(printed(&sandbox, &["--no-fill"], &words), words);
    let received = printed(&sandbox, &["--fill"], &words);
    let port = received[0].to_str().expect("a number");
    assert!(port.parse::<u16>().is_ok(), "{received:?}");
    let echo = format!("echo {port}");
    assert_eq!(received, [port, "db", &echo, "{name}", "${x}"]);
    sandbox.assert_nothing_left();
}

#[test]
fn placeholder_in_a_shell_script_prints_a_note() {
    let sandbox = Sandbox::new();
    let stderr_of = |options: &[&str], client: &[&str]| {
        let output = run(&sandbox, options, client);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    for option in ["-c", "-ec"] {
        for program in [
            "echo {port}",
            "echo localhost:{db.port}",
            "echo ${port} {dir}",
        ] {
            let stderr = stderr_of(&[], &["/bin/sh", option, program]);
            assert!(stderr.contains("$PROCREF_PORT"), "{program}: {stderr}");
            assert_eq!(stderr.lines().count(), 1, "{program}: {stderr}");
            let stderr = stderr_of(&["--watch-client"], &["sh", option, program]);
            assert_eq!(stderr.lines().count(), 1, "{program}: {stderr}");
            for quiet in ["--quiet", "--no-fill", "--fill"] {
                assert_eq!(
                    stderr_of(&[quiet], &["sh", option, program]),
                    "",
                    "{quiet} {program}"
                );
            }
        }
    }
    for client in [
        &["sh", "-c", "port=1; echo ${port} {{port}}"][..],
        &["sh", "-c", "true", "x {port}"],
        &["true", "-c", "x {port}"],
    ] {
        assert_eq!(stderr_of(&[], client), "", "{client:?}");
    }
    sandbox.assert_nothing_left();
}

#[test]
fn port_of_a_service_without_one_is_an_error() {
    let workspace = Workspace::new();
    let project = workspace.project(
        "app",
        "[services.a]\nstart = 'sleep 60'\nready = 'started'\n[services.b]\nstart = 'sleep 61'\nready = 'started'\n",
    );
    for (names, word) in [
        (&["a"][..], "localhost:{port}"),
        (&["a"], "{a.port}"),
        (&["a", "b"], "x{b.port}"),
    ] {
        let args = [&["run"][..], names, &["--", "echo", word]].concat();
        let (code, stderr) = project.failure(&args);
        assert_eq!(code, 125, "{word}: {stderr}");
        let expected = format!("has no port, and the client's argument `{word}` contains");
        assert!(stderr.contains(&expected), "{word}: {stderr}");
    }
    workspace.wait_no_leftovers();
}

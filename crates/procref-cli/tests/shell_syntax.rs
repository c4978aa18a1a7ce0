//! Commands that need a shell: procref executes programs without a shell, and reports such commands.

#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use support::workspace::Workspace;

/// Commands that only a shell can run.
const FOR_A_SHELL: [&str; 14] = [
    "cd /tmp && sleep 600",
    "cd /tmp",
    "PORT={port} sleep 600",
    "exec sleep 600 >/dev/null",
    "./a.sh | cat",
    "sleep 600 &",
    "sleep 1; sleep 600 ; sleep 1",
    "sleep 600 > file",
    "sleep 600 2>&1",
    "sleep 600 </dev/null",
    "export A=b",
    "source env.sh",
    "sleep 600 || true",
    "sh -c sleep 600 && true",
];

#[test]
fn command_that_needs_a_shell_is_refused() {
    let workspace = Workspace::new();
    let project = workspace.project("app", "");
    for command in FOR_A_SHELL {
        let assert_refused = |args: &[&str], expected: i32| {
            let (code, stderr) = project.failure(args);
            assert_eq!(code, expected, "{command}: {stderr}");
            for part in ["no shell reads the command", "sh -c"] {
                assert!(stderr.contains(part), "{command}: {part}: {stderr}");
            }
        };
        assert_refused(
            &["run", "--no-config", "x", "--start", command, "--", "true"],
            125,
        );
        assert_refused(&["pin", "--no-config", "x", "--start", command], 2);
        let ready = format!("cmd:{command}");
        assert_refused(
            &[
                "pin",
                "--no-config",
                "x",
                "--start",
                "sleep 9",
                "--ready",
                &ready,
            ],
            2,
        );
        for config in [
            format!("start = {command:?}"),
            format!("start = 'sleep 9'\ndata = 'd'\ninit = {command:?}"),
            format!("start = 'sleep 9'\nready = {ready:?}"),
        ] {
            project.configure(&format!("[services.x]\n{config}\n"));
            assert_refused(&["pin", "x"], 2);
            let (_, stderr) = project.failure(&["pin", "x"]);
            assert!(
                stderr.contains("procref.toml:"),
                "the error names the file: {stderr}"
            );
        }
    }
}

#[test]
fn refused_cd_and_variables_are_answered_with_the_option() {
    let workspace = Workspace::new();
    let project = workspace.project("app", "");
    for (command, option) in [
        ("cd /tmp", "--cwd"),
        ("A=b sleep 9", "--env"),
        ("export A=b", "--env"),
    ] {
        let (_, stderr) = project.failure(&["pin", "x", "--start", command]);
        assert!(stderr.contains(option), "{command}: {stderr}");
    }
}

#[test]
fn failed_start_names_the_word_that_needs_a_shell() {
    let workspace = Workspace::new();
    let project = workspace.project("app", "");
    for (command, word) in [
        ("sleep $TIME", "`$TIME`"),
        ("sleep ${TIME}", "`${TIME}`"),
        ("sleep $(cat time)", "`$(cat`"),
        ("sleep `cat", ""),
        ("cat *.none", "`*.none`"),
        ("~/bin/server", "`~/bin/server`"),
        ("sleep x;", "`x;`"),
        ("'sleep 600'", "one word with spaces"),
    ] {
        let (_, stderr) =
            project.failure(&["pin", "x", "--ready", "log:never", "--start", command]);
        if word.is_empty() {
            assert!(!stderr.contains("hint:"), "{command}: {stderr}");
            continue;
        }
        let hint = stderr.lines().find(|line| line.starts_with("hint: "));
        let hint = hint.unwrap_or_else(|| panic!("{command}: {stderr}"));
        assert!(
            hint.contains(word) && hint.contains("sh -c"),
            "{command}: {stderr}"
        );
    }
    // The hint also appears for `init`, for a service with a data directory, and for a command in an array.
    for config in [
        "data = 'd'\nstart = 'sleep $TIME'",
        "data = 'd'\nstart = 'sleep 600'\ninit = 'false $TIME'",
        "start = ['sleep', '$TIME']",
        "start = ['sleep 600']",
        "start = ['cd', '/tmp']",
        "start = ['sleep', 'x', '&&', 'true']",
    ] {
        project.configure(&format!("[services.x]\n{config}\nready = 'log:never'\n"));
        let (code, stderr) = project.failure(&["pin", "x"]);
        assert_eq!(code, 1, "{config}: {stderr}");
        assert!(stderr.contains("\nhint: "), "{config}: {stderr}");
        let _ = fs::remove_dir_all(project.dir.join("d"));
    }
    // A shell has parsed these commands.
    for command in [
        "sh -c 'exit $CODE'",
        "bash -c 'cd * && false'",
        "false a=b 'x y'",
    ] {
        let (_, stderr) =
            project.failure(&["pin", "x", "--ready", "log:never", "--start", command]);
        assert!(!stderr.contains("hint:"), "{command}: {stderr}");
    }
}

#[test]
fn quoted_and_array_arguments_reach_the_program() {
    let workspace = Workspace::new();
    let project = workspace.project("app", "");
    let script = "printf '%s\\n' \"$@\" >words; echo ready; exec sleep 600";
    let words = [
        "&&", "a|b", ">", "2>&1", ";", "$HOME", "A=b", "cd", "*", "~/x",
    ];
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let text = format!("sh -c {} sh {}", shell_quoted(script), quoted.join(" "));
    let array = [&["sh", "-c", script, "sh"][..], &words].concat();
    for start in [format!("{text:?}"), format!("{array:?}")] {
        project.configure(&format!(
            "[services.x]\nstart = {start}\nready = 'log:ready'\n"
        ));
        project.output(&["run", "x", "--", "true"]);
        let written = fs::read_to_string(project.dir.join("words")).expect("read the words");
        assert_eq!(written.lines().collect::<Vec<_>>(), words, "{start}");
    }
}

fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[test]
fn client_that_needs_a_shell_gets_advice() {
    let workspace = Workspace::new();
    let project = workspace.project(
        "app",
        "[services.x]\nstart = 'sleep 600'\nready = 'started'\n",
    );
    for (client, advice) in [
        (&["echo hello"][..], "`-- echo hello` without quotes"),
        (&["echo  hello", "you"], "one word with spaces"),
        (
            &["A=b", "echo", "two words"],
            "`-- env A=b echo 'two words'`",
        ),
        (&["cd", "/tmp"], "`cd /tmp`"),
        (&["export", "A=b"], "shell command"),
        (&["~/bin/x"], "no shell reads the command"),
        (&["$EDITOR"], "no shell reads the command"),
        (&["x;", "y"], "no shell reads the command"),
        (&["no-such-program"], ""),
    ] {
        let (code, stderr) = project.failure(&[&["run", "x", "--"], client].concat());
        assert_eq!(code, 127, "{client:?}: {stderr}");
        match advice {
            "" => assert!(!stderr.contains("shell"), "{client:?}: {stderr}"),
            "`cd /tmp`" => assert!(stderr.contains("sh -c"), "{client:?}: {stderr}"),
            _ => assert!(stderr.contains(advice), "{client:?}: {stderr}"),
        }
    }
}

#[test]
fn program_with_spaces_in_its_path_is_executed() {
    let workspace = Workspace::new();
    let project = workspace.project(
        "an app",
        "[services.x]\nstart = ['./a server']\nready = 'log:up'\n",
    );
    for (name, script) in [
        ("a server", "#!/bin/sh\necho up; exec sleep 600\n"),
        ("a client", "#!/bin/sh\necho \"$1\"\n"),
        ("a broken one", "#!/no/such/interpreter\n"),
    ] {
        let file = project.dir.join(name);
        fs::write(&file, script).expect("write a program");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("chmod");
    }
    assert_eq!(
        project.output(&["run", "x", "--", "./a client", "hello"]),
        "hello\n"
    );
    let (code, stderr) = project.failure(&["run", "x", "--", "./a broken one"]);
    assert_eq!(code, 127);
    assert!(
        !stderr.contains("one word"),
        "the advice is wrong: {stderr}"
    );
}

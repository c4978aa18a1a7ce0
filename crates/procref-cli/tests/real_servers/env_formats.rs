//! `procref env` for zsh, fish, direnv and Node.js, which must be installed.

use std::fs;
use std::process::Command;

use crate::support::exports::{VALUES, assert_values, with_values};
use crate::support::workspace::Workspace;
use crate::support::{PROCREF, stdout_of};

#[test]
fn env_quotes_every_value_for_zsh_and_fish() {
    let workspace = Workspace::new();
    let project = workspace.project("app", &with_values(&VALUES));
    let client = project.hold("db", ":");
    let zsh = format!("eval \"$({PROCREF} env db)\"");
    assert_values(&project, "zsh", &["-f", "-c"], &zsh);
    let fish = format!("{PROCREF} env db --format fish | source");
    assert_values(&project, "fish", &["--no-config", "-c"], &fish);
    client.leave();
}

#[test]
fn env_quotes_every_value_for_programs_with_dotenv_files() {
    let workspace = Workspace::new();
    let project = workspace.project("app", &with_values(&VALUES));
    let client = project.hold("db", ":");
    let text = project.output(&["env", "db", "--format", "dotenv"]);
    fs::write(project.dir.join(".env"), &text).expect("write a file");
    client.leave();
    fs::write(project.dir.join(".envrc"), "dotenv\n").expect("write a file");
    let direnv = "direnv allow; eval \"$(direnv export bash)\"";
    assert_values(&project, "bash", &["-c"], direnv);
    // Node.js 20.6 is the first version with the option.
    let version = Command::new("node")
        .args(["--env-file=/dev/null", "--version"])
        .output();
    if version.is_ok_and(|output| output.status.success()) {
        let names: Vec<&str> = VALUES.iter().map(|(name, _)| *name).collect();
        let script = format!(
            "for (const name of {names:?}) process.stdout.write(process.env[name] + '\\0')"
        );
        let mut command = project.workspace.command("node");
        command.current_dir(&project.dir);
        let printed = stdout_of(command.args(["--env-file=.env", "-e", &script]));
        let values: String = VALUES
            .iter()
            .map(|(_, value)| format!("{value}\0"))
            .collect();
        assert_eq!(printed, values);
    }
}

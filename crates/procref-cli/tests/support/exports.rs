//! Values of exported variables that need quotes.

use serde_json::Value;

use super::stdout_of;
use super::workspace::Project;

/// Values that need quotes. All of them have a form for each format.
pub const VALUES: [(&str, &str); 9] = [
    ("V_PLAIN", "redis://127.0.0.1:1/0"),
    ("V_EMPTY", ""),
    ("V_SPACES", " a  b\tc "),
    ("V_SINGLE", "it's"),
    ("V_DOUBLE", "a \"b\" c"),
    ("V_SHELL", "$HOME `id` $(id) \\n ~ * # ! % ; & |"),
    ("V_LINES", "one\ntwo's\n"),
    ("V_BACKSLASH", "C:\\temp"),
    ("V_UNICODE", "ä 名前"),
];

/// Returns the configuration of a service with these values among its exports.
pub fn with_values(values: &[(&str, &str)]) -> String {
    let exports: String = values
        .iter()
        .map(|(name, value)| format!("{name} = {}\n", Value::from(*value)))
        .collect();
    format!(
        "[services.db]\nstart = 'sleep 600'\nready = 'started'\n[services.db.export]\n{exports}"
    )
}

/// Returns shell code that prints the values, each followed by a NUL.
fn print_values() -> String {
    let names: Vec<String> = VALUES
        .iter()
        .map(|(name, _)| format!("\"${name}\""))
        .collect();
    format!("printf '%s\\0' {}", names.join(" "))
}

/// Runs shell code that reads the variables, and asserts that another program gets their values.
///
/// `options` are the words between the shell and the code.
#[track_caller]
pub fn assert_values(project: &Project<'_>, shell: &str, options: &[&str], read: &str) {
    let script = format!("{read}; sh -c {}", shell_words::quote(&print_values()));
    let mut command = project.workspace.command(shell);
    command.current_dir(&project.dir).args(options).arg(script);
    let values: String = VALUES
        .iter()
        .map(|(_, value)| format!("{value}\0"))
        .collect();
    assert_eq!(stdout_of(&mut command), values, "{shell}");
}

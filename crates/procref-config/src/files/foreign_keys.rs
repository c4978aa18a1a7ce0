//! Keys of other programs' files, such as docker compose and process-compose, that people write by habit.

use super::diagnostic::{most_similar, suggestion};
use super::keys::OF_SERVICE;

/// A key of another program.
struct ForeignKey {
    name: &'static str,
    /// The key that has its meaning here, if there is one.
    meant: Option<&'static str>,
    advice: &'static str,
}

const fn key(name: &'static str, meant: Option<&'static str>, advice: &'static str) -> ForeignKey {
    ForeignKey {
        name,
        meant,
        advice,
    }
}

const NO_CONTAINER: &str =
    "procref runs programs and no containers; write the command of the program to `start`";
const NO_RESTART: &str = "procref restarts nothing by itself; the next client starts a service that has exited, and \
                          `health` finds one that hangs";

static FOREIGN: [ForeignKey; 23] = [
    key("image", Some("start"), NO_CONTAINER),
    key("build", Some("start"), NO_CONTAINER),
    key("container_name", None, NO_CONTAINER),
    key("networks", None, NO_CONTAINER),
    key("command", Some("start"), "write the command to `start`"),
    key("entrypoint", Some("start"), "write the command to `start`"),
    key("exec", Some("start"), "write the command to `start`"),
    key("cmd", Some("start"), "write the command to `start`"),
    key("restart", None, NO_RESTART),
    key("restart_policy", None, NO_RESTART),
    key("availability", None, NO_RESTART),
    key(
        "ports",
        Some("port"),
        "write one number or \"auto\" to `port`",
    ),
    key(
        "expose",
        Some("port"),
        "write one number or \"auto\" to `port`",
    ),
    key(
        "volumes",
        Some("data"),
        "services use the files of this machine; write the directory of the service's data to `data`",
    ),
    key(
        "healthcheck",
        Some("health"),
        "write `ready`, the condition of a start, and `health`, the check at every join",
    ),
    key("readiness_probe", Some("ready"), "write `ready`"),
    key("liveness_probe", Some("health"), "write `health`"),
    key(
        "environment",
        Some("env"),
        "write a table of variables to `env`",
    ),
    key("working_dir", Some("cwd"), "write `cwd`"),
    key("stop_grace_period", Some("grace"), "write `grace`"),
    key(
        "shutdown",
        Some("stop-signal"),
        "write `stop-signal` and `grace`",
    ),
    key("log_location", Some("log"), "write `log`"),
    key("timeout", Some("start-timeout"), "write `start-timeout`"),
];

/// Returns advice about an unknown key, as the end of a message, and the key that was probably meant.
pub(super) fn advice(written: &str) -> (String, Option<&'static str>) {
    let spelled = written.to_lowercase().replace('-', "_");
    match FOREIGN.iter().find(|foreign| foreign.name == spelled) {
        Some(foreign) => (format!("; {}", foreign.advice), foreign.meant),
        None => (
            suggestion(written, OF_SERVICE.iter().copied()),
            most_similar(written, OF_SERVICE.iter().copied()),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_keys_are_no_own_keys_and_name_own_keys() {
        for foreign in &FOREIGN {
            assert!(!OF_SERVICE.contains(&foreign.name), "{}", foreign.name);
            if let Some(meant) = foreign.meant {
                assert!(OF_SERVICE.contains(&meant), "{meant}");
                let (text, _) = advice(foreign.name);
                let names_one = OF_SERVICE
                    .iter()
                    .any(|own| text.contains(&format!("`{own}`")));
                assert!(names_one, "{text}");
            }
        }
    }
}

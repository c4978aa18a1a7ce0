//! The hint of a failed start whose server refuses to run as root.

use std::path::Path;

use super::protocol::is_filled;
use super::sys;
use crate::error::Error;
use crate::spec::ServiceSpec;
use crate::text::shown;

/// The users that Debian's packages create for servers that refuse root, by a part of the server's refusal or of the
/// name of its program.
const USERS: [(&str, &str); 7] = [
    ("initdb", "postgres"),
    ("postgres", "postgres"),
    ("mariadb", "mysql"),
    ("mysql", "mysql"),
    ("memcached", "memcache"),
    ("elasticsearch", "elasticsearch"),
    ("opensearch", "opensearch"),
];

/// Words that turn a line about root into a refusal.
const NEGATIONS: [&str; 9] = [
    "cannot",
    "can not",
    "can't",
    "must not",
    "not permitted",
    "not allowed",
    "not supported",
    "refus",
    "don't",
];

/// Adds a hint to the error about a server that refuses to run as root, which this process does.
pub(crate) fn explain(spec: &ServiceSpec, error: Error) -> Error {
    use procref::Error::{Exited, NotReady};

    let output = match &error {
        Error::Service(Exited { output, .. } | NotReady { output, .. }) => &output.lines,
        Error::BeforeProgram { output, .. } => output,
        _ => return error,
    };
    let refusal = output.lines().find(|line| is_refusal(line));
    match refusal {
        Some(refusal) if sys::is_root() && spec.prestart.user.is_none() => Error::Advised {
            advice: advice(spec, refusal),
            error: Box::new(error),
        },
        _ => error,
    }
}

/// Returns `true` if the line of a log says that a program does not run as root.
fn is_refusal(line: &str) -> bool {
    let line = line.to_lowercase();
    let mut words = line.split(|c: char| !c.is_alphanumeric());
    if !words.any(|word| word == "root") {
        return false;
    }
    // MariaDB and MySQL refer to their manuals.
    let is_reference = line.contains("to find out how to run ");
    let is_about_running = ["run", "execution", "start"]
        .iter()
        .any(|word| line.contains(word));
    is_reference || is_about_running && NEGATIONS.iter().any(|word| line.contains(word))
}

fn advice(spec: &ServiceSpec, refusal: &str) -> String {
    let words: Vec<String> = [&spec.start, &spec.prestart.init]
        .into_iter()
        .flatten()
        .flatten()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let named = |text: &str| USERS.iter().find(|(part, _)| text.contains(part));
    // The refusal comes first, because the first word of the command may be a shell.
    let user = named(&refusal.to_lowercase()).or_else(|| words.iter().find_map(|word| named(word)));
    let mut advice = match user {
        Some((_, user)) => format!(
            "this server refuses to run as root: add `user = \"{user}\"` to the service in procref.toml"
        ),
        None => "this server refuses to run as root: add `user = \"NAME\"` to the service in procref.toml, with a user \
                 that is not root"
            .to_owned(),
    };
    if words.iter().any(|word| word.contains("{dir}")) {
        advice += ", and replace {dir} by {data}, because only root can enter {dir}";
    }
    let data = spec.prestart.data.as_deref();
    if let Some(data) = data.filter(|data| is_filled(Path::new(data))) {
        advice += &format!(", and remove {}, which belongs to root", shown(data));
    }
    advice
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn spec(start: &[&str], init: &[&str]) -> ServiceSpec {
        let words = |words: &[&str]| Some(words.iter().map(OsString::from).collect());
        let mut spec = ServiceSpec::named("db");
        spec.start = words(start);
        spec.prestart.init = words(init);
        spec
    }

    #[test]
    fn refusals_of_servers_are_recognized() {
        for line in [
            "    initdb: error: cannot be run as root",
            "\"root\" execution of the PostgreSQL server is not permitted.",
            "[ERROR] Please consult the Knowledge Base to find out how to run mysqld as root!",
            "Fatal error: Please read \"Security\" section of the manual to find out how to run mysqld as root!",
            "can't run as root without the -u switch",
            "java.lang.RuntimeException: can not run elasticsearch as root",
            "OpenSearch cannot run as root.",
            "Running as root without --no-sandbox is not supported. See https://crbug.com/638180.",
        ] {
            assert!(is_refusal(line), "{line}");
        }
        for line in [
            "",
            "running as root",
            "cannot open /root/file",
            "could not run the rooted tree",
            "document root: /srv (not found)",
            "FATAL: role \"root\" does not exist",
        ] {
            assert!(!is_refusal(line), "{line}");
        }
    }

    #[test]
    fn advice_names_the_user_and_the_directory() {
        for (start, init, refusal, user) in [
            (
                &["postgres", "-k", "{data}"][..],
                &["initdb"][..],
                "cannot be run as root",
                "postgres",
            ),
            (
                &["sh", "-c", "x"],
                &[],
                "initdb: error: cannot be run as root",
                "postgres",
            ),
            (
                &["/usr/sbin/mariadbd"],
                &[],
                "to find out how to run mysqld as root!",
                "mysql",
            ),
            (
                &["memcached"],
                &[],
                "can't run as root without the -u switch",
                "memcache",
            ),
            (&["server"], &[], "cannot be run as root", "NAME"),
        ] {
            let advice = advice(&spec(start, init), refusal);
            assert!(advice.contains(&format!("`user = \"{user}\"`")), "{advice}");
            assert!(!advice.contains("{dir}"), "{advice}");
        }
        let advice = advice(
            &spec(&["postgres", "-k", "{dir}"], &[]),
            "cannot be run as root",
        );
        assert!(advice.contains("replace {dir} by {data}"), "{advice}");
    }
}

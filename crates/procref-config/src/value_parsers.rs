//! Parsers for values that have the same form on the command line and in a configuration file.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use procref::{Ready, StopSignal};

use crate::shell;

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;

pub use sys::{HEALTH, READY};

/// Parses a time: `500ms`, `2s`, `1m 30s`.
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write a number and a unit: 500ms, 2s, 1m 30s"))
}

/// Parses a time that is not zero.
pub fn interval(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("the time must not be zero".to_owned()),
        time => Ok(time),
    }
}

/// Parses the name of a signal, with or without `SIG`, in any case.
pub fn signal(text: &str) -> Result<StopSignal, String> {
    text.parse()
        .map_err(|error: procref::Error| error.to_string())
}

/// Splits a command into words with the quotes of a shell.
///
/// No shell reads the command: `$` and `*` have no special meaning, and neither has `\` on Windows. Unquoted operators,
/// such as `|` and `>`, are errors.
pub fn words(text: &str) -> Result<Vec<String>, String> {
    let text = sys::shell(text);
    let words = shell_words::split(&text).map_err(|error| error.to_string())?;
    if words.first().is_none_or(String::is_empty) {
        return Err("the command names no program".to_owned());
    }
    shell::check(&text, &words)?;
    Ok(words)
}

/// Splits a command into words in the type of the system.
pub fn argv(text: &str) -> Result<Vec<OsString>, String> {
    Ok(words(text)?.into_iter().map(OsString::from).collect())
}

/// Parses `KEY=VALUE`.
pub fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some(("", _)) => Err("the name before `=` is empty".to_owned()),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err("no `=` found; write KEY=VALUE".to_owned()),
    }
}

/// The port a service listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// A free port, chosen at each start.
    Auto,
    Fixed(u16),
}

/// Parses `auto` or a number.
pub fn port(text: &str) -> Result<Port, String> {
    if text == "auto" {
        return Ok(Port::Auto);
    }
    match text.parse() {
        Ok(0) => Err("0 is not a valid port; write `auto` for a free port".to_owned()),
        Ok(number) => Ok(Port::Fixed(number)),
        Err(_) => Err("write `auto`, or a number from 1 to 65535".to_owned()),
    }
}

/// The condition under which a service is ready.
#[derive(Clone, Debug)]
pub enum When {
    /// The program was executed.
    Started,
    /// The service accepts connections on the Unix socket at this path, which is a template. Not on Windows.
    Socket(PathBuf),
    /// A probe succeeds.
    Asked(Ready),
}

/// Parses a readiness condition: `tcp`, `http:/path`, `log:REGEX`, `cmd:COMMAND`, `started`, or a condition that only
/// this system has.
pub fn ready(text: &str) -> Result<When, String> {
    if let Some(reason) = rejected_address(text) {
        return Err(reason);
    }
    let (kind, rest) = match text.split_once(':') {
        Some((kind, rest)) => (kind, Some(rest)),
        None => (text, None),
    };
    match (kind, rest) {
        ("tcp", None) => Ok(When::Asked(Ready::tcp())),
        ("started", None) => Ok(When::Started),
        ("http", Some(path)) if path.starts_with('/') => Ok(When::Asked(Ready::http(path))),
        ("http", _) => {
            Err("the path is missing; write it with its first `/`: http:/health".to_owned())
        }
        ("notify", None) => sys::notify(),
        ("unix", path) => sys::unix(path.unwrap_or_default()),
        ("pipe", name) => sys::pipe(name.unwrap_or_default()),
        ("log", Some(pattern)) if !pattern.is_empty() => Ok(When::Asked(Ready::log(pattern))),
        ("log", _) => Err(
            "the regular expression is missing; write for example log:ready to accept".to_owned(),
        ),
        ("cmd", Some(command)) => {
            let words = argv(command)?;
            Ok(When::Asked(Ready::command(&words[0], &words[1..])))
        }
        ("cmd", None) => {
            Err("the command is missing; write for example cmd:pg_isready -h {dir}".to_owned())
        }
        ("tcp" | "notify" | "started", Some(_)) => Err(format!("`{kind}` takes no value")),
        _ => Err(format!("unknown condition; choose one of {READY}")),
    }
}

/// The health check of a service.
#[derive(Clone, Debug)]
pub enum Health {
    /// The readiness probe.
    AsReady,
    /// A separate probe.
    Asked(Ready),
}

/// Parses a health check: `ready` for the readiness probe, or a probe that can be repeated.
pub fn health(text: &str) -> Result<Health, String> {
    if text == "ready" {
        return Ok(Health::AsReady);
    }
    let kind = text.split_once(':').map_or(text, |(kind, _)| kind);
    if matches!(kind, "log" | "notify" | "started") {
        return Err(format!(
            "`{kind}` cannot be checked again; choose one of {}",
            HEALTH
        ));
    }
    match ready(text) {
        Ok(When::Asked(probe)) => Ok(Health::Asked(probe)),
        Ok(When::Socket(path)) => Ok(Health::Asked(Ready::unix(path))),
        Ok(When::Started) => Err(format!("unknown check; choose one of {HEALTH}")),
        // Health checks and readiness conditions have different lists.
        Err(reason) => Err(reason
            .replace("unknown condition", "unknown check")
            .replace(READY, HEALTH)),
    }
}

/// The addresses that probes connect to.
const CONNECTS: &str = "procref connects to 127.0.0.1 and ::1 on the service's port";

/// Returns why an address cannot be probed, if the text is a URL or a host and a port.
///
/// Probes always connect to this machine, at the service's own port.
fn rejected_address(text: &str) -> Option<String> {
    let text = text.trim();
    let (kind, rest) = text.split_once(':').unwrap_or(("", text));
    let elsewhere = "for another address, run a program";
    match kind.to_ascii_lowercase().as_str() {
        "http" => {
            // `http:http://…` has the same meaning.
            let nested = rest.split_once("://");
            let url = match nested {
                Some((scheme, url)) if scheme.starts_with("http") => url,
                _ => rest.strip_prefix("//")?,
            };
            let path = path_of(url);
            Some(format!(
                "a whole URL is not supported; write only the path, `http:{path}`: {CONNECTS} ({elsewhere}: cmd:curl -sf \
                 URL)"
            ))
        }
        "https" => {
            let path = path_of(rest.trim_start_matches('/'));
            Some(format!(
                "procref does not support TLS; write `tcp`, or run a program that does: \
                 `cmd:curl -skf https://localhost:{{port}}{path}`"
            ))
        }
        "tcp" => Some(format!(
            "`tcp` takes no value: {CONNECTS}, which `port` sets ({elsewhere}: cmd:nc -z HOST PORT)"
        )),
        "unix" | "pipe" | "log" | "cmd" => None,
        _ if text.contains("://") => Some(format!(
            "procref does not support the protocol of this URL; write `tcp`, or run a program that does: \
             `cmd:COMMAND` ({CONNECTS})"
        )),
        _ if text.starts_with('/') => {
            Some(format!("write `http:{text}` to request a path: {CONNECTS}"))
        }
        _ if is_host_and_port(text) => Some(format!(
            "write `tcp`: {CONNECTS}, which `port` sets ({elsewhere}: cmd:nc -z HOST PORT)"
        )),
        _ => None,
    }
}

/// Returns the path of a URL without its scheme. The path begins with `/`.
fn path_of(url: &str) -> &str {
    url.find('/').map_or("/", |at| &url[at..])
}

/// Returns `true` for `HOST:PORT`, `:PORT` and `PORT`.
fn is_host_and_port(text: &str) -> bool {
    let port = text.rsplit_once(':').map_or(text, |(_, port)| port);
    port == "{port}" || (!port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn rejection(text: &str) -> String {
        ready(text).expect_err(text)
    }

    #[test]
    fn ready_rejects_url_and_names_the_right_form() {
        for (text, right) in [
            ("http://127.0.0.1:{port}/health", "`http:/health`"),
            ("http://localhost:{port}", "`http:/`"),
            ("HTTP://localhost:8080/a/b?c=d", "`http:/a/b?c=d`"),
            ("http://[::1]:8080/x", "`http:/x`"),
            ("http://example.com/x", "cmd:curl"),
            ("http:http://localhost/x", "`http:/x`"),
            ("http:https://localhost/x", "`http:/x`"),
            ("https://localhost:{port}/x", "https://localhost:{port}/x"),
            ("https:/x", "TLS"),
            ("tcp://127.0.0.1:{port}", "`tcp` takes no value"),
            ("tcp:8080", "`tcp` takes no value"),
            ("tcp:localhost:{port}", "`tcp` takes no value"),
            ("redis://localhost:{port}", "`cmd:COMMAND`"),
            ("ws://localhost/", "`cmd:COMMAND`"),
            ("localhost:{port}", "write `tcp`"),
            ("127.0.0.1:8080", "write `tcp`"),
            (":8080", "write `tcp`"),
            ("{port}", "write `tcp`"),
            ("/health", "`http:/health`"),
        ] {
            let message = rejection(text);
            assert!(message.contains(right), "{text}: {message}");
        }
    }

    #[test]
    fn health_accepts_repeatable_probes_only() {
        for text in ["tcp", "http:/health", "cmd:pg_isready -q"] {
            assert!(matches!(health(text), Ok(Health::Asked(_))), "{text}");
        }
        assert!(matches!(health("ready"), Ok(Health::AsReady)));
        for (text, right) in [
            ("log:ready", "cannot be checked again"),
            ("started", "cannot be checked again"),
            ("notify", "cannot be checked again"),
            ("http://localhost/x", "`http:/x`"),
            ("nonsense", HEALTH),
            ("", HEALTH),
            ("cmd:", "names no program"),
        ] {
            let message = health(text).expect_err(text);
            assert!(message.contains(right), "{text}: {message}");
        }
    }

    #[test]
    fn ready_accepts_each_form_in_the_help() {
        for text in [
            "tcp",
            "http:/",
            "http:/health?deep=1",
            "log:http://127.0.0.1:[0-9]+/ is ready",
            "cmd:curl -sf http://localhost:{port}/",
            "started",
        ] {
            assert!(ready(text).is_ok(), "{text}");
        }
        #[cfg(unix)]
        assert!(ready("unix:///run/x.sock").is_ok());
    }
}

#[cfg(feature = "fuzzing")]
pub mod fuzz {
    use std::fmt::Debug;

    use super::*;

    /// Parses a value of each kind. A parsed value is equal after it is written and parsed again. An error has a
    /// message.
    pub fn values(bytes: &[u8]) {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return;
        };
        if let Some(time) = checked(duration(text)) {
            let again = duration(&humantime::format_duration(time).to_string());
            assert_eq!(again, Ok(time), "{text:?}");
            assert_eq!(interval(text).is_ok(), !time.is_zero(), "{text:?}");
        } else {
            assert!(interval(text).is_err(), "{text:?}");
        }
        if let Some(signal) = checked(signal(text)) {
            let again = super::signal(&signal.to_string());
            assert_eq!(again.ok(), Some(signal), "{text:?}");
        }
        if let Some(words) = checked(words(text)) {
            assert_eq!(super::words(&shell_words::join(&words)), Ok(words.clone()));
            let argv = argv(text).expect("the words are valid");
            assert!(
                argv.iter()
                    .zip(&words)
                    .all(|(one, other)| one.as_os_str() == other.as_str())
            );
            assert_eq!(argv.len(), words.len(), "{text:?}");
        }
        if let Some((name, value)) = checked(variable(text)) {
            assert!(!name.is_empty() && !name.contains('='), "{text:?}");
            assert_eq!(format!("{name}={value}"), text);
        }
        if let Some(port) = checked(port(text)) {
            assert_ne!(port, Port::Fixed(0), "{text:?}");
        }
        checked(ready(text));
        checked(health(text));
    }

    fn checked<T: Debug>(parsed: Result<T, String>) -> Option<T> {
        if let Err(reason) = &parsed {
            assert!(!reason.is_empty());
        }
        parsed.ok()
    }
}

//! Values that are written alike on the command line and in a configuration file.

use std::ffi::OsString;
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

pub(crate) use sys::{HEALTH, READY, RUNTIME_DIR};

/// A time: `500ms`, `2s`, `1m 30s`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write a number and a unit: 500ms, 2s, 1m 30s"))
}

/// A time that is not zero.
pub(crate) fn interval(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("it is zero".to_owned()),
        time => Ok(time),
    }
}

/// A signal, with or without `SIG`, in any case.
pub(crate) fn signal(text: &str) -> Result<StopSignal, String> {
    text.parse()
        .map_err(|error: procref::Error| error.to_string())
}

/// Program and arguments, quoted as in a shell. No shell reads them: `$` and `*` are what they are, and on
/// Windows so is `\`. Operators that are not quoted, such as `|` and `>`, are errors.
pub(crate) fn words(text: &str) -> Result<Vec<String>, String> {
    let text = sys::shell(text);
    let words = shell_words::split(&text).map_err(|error| error.to_string())?;
    if words.first().is_none_or(String::is_empty) {
        return Err("it names no program".to_owned());
    }
    shell::check(&text, &words)?;
    Ok(words)
}

/// [`words`], as the system wants them.
pub(crate) fn argv(text: &str) -> Result<Vec<OsString>, String> {
    Ok(words(text)?.into_iter().map(OsString::from).collect())
}

/// `KEY=VALUE`.
pub(crate) fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some(("", _)) => Err("the name before the `=` is empty".to_owned()),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err("there is no `=` in it; write KEY=VALUE".to_owned()),
    }
}

/// The port a service listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    /// A free one at every start.
    Auto,
    Fixed(u16),
}

/// `auto`, or a number.
pub(crate) fn port(text: &str) -> Result<Port, String> {
    if text == "auto" {
        return Ok(Port::Auto);
    }
    match text.parse() {
        Ok(0) => Err("0 is no port; write `auto` for a free one".to_owned()),
        Ok(number) => Ok(Port::Fixed(number)),
        Err(_) => Err("write `auto`, or a number from 1 to 65535".to_owned()),
    }
}

/// When a service is ready.
#[derive(Clone, Debug)]
pub(crate) enum When {
    /// As soon as its program is executed.
    Started,
    Asked(Ready),
}

/// When a service is ready: `tcp`, `http:/path`, `log:REGEX`, `cmd:COMMAND`, `started`, or what this system
/// has besides.
pub(crate) fn ready(text: &str) -> Result<When, String> {
    if let Some(reason) = refused_address(text) {
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
        ("http", _) => Err("write the path behind it, from its `/` on: http:/health".to_owned()),
        ("notify", None) => sys::notify(),
        ("unix", path) => sys::unix(path.unwrap_or_default()),
        ("pipe", name) => sys::pipe(name.unwrap_or_default()),
        ("log", Some(pattern)) if !pattern.is_empty() => Ok(When::Asked(Ready::log(pattern))),
        ("log", _) => Err("write the regular expression behind it: log:ready to accept".to_owned()),
        ("cmd", Some(command)) => {
            let words = argv(command)?;
            Ok(When::Asked(Ready::command(&words[0], &words[1..])))
        }
        ("cmd", None) => Err("write the command behind it: cmd:pg_isready -h {dir}".to_owned()),
        ("tcp" | "notify" | "started", Some(_)) => Err(format!("nothing belongs behind `{kind}`")),
        _ => Err(format!("choose one of {READY}")),
    }
}

/// What asks a service whether it is well.
#[derive(Clone, Debug)]
pub(crate) enum Health {
    /// What asks whether it is ready.
    AsReady,
    Asked(Ready),
}

/// What asks a service whether it is well: `ready` for what tells that it is ready, or one of what can be
/// asked again and again.
pub(crate) fn health(text: &str) -> Result<Health, String> {
    if text == "ready" {
        return Ok(Health::AsReady);
    }
    let kind = text.split_once(':').map_or(text, |(kind, _)| kind);
    if matches!(kind, "log" | "notify" | "started") {
        return Err(format!(
            "`{kind}` is told once and cannot be asked again; choose one of {}",
            HEALTH
        ));
    }
    match ready(text) {
        Ok(When::Asked(probe)) => Ok(Health::Asked(probe)),
        Ok(When::Started) => Err(format!("choose one of {}", HEALTH)),
        // The list is another one here.
        Err(reason) => Err(reason.replace(READY, HEALTH)),
    }
}

/// Where procref asks, for those who have written where to ask.
const ASKED: &str = "procref asks 127.0.0.1 and ::1 on the service's port";

/// Why an address is not a way to ask a service, if the text is one: a URL, or a host and a port. What is
/// asked is always this machine, and the port the service's own.
fn refused_address(text: &str) -> Option<String> {
    let text = text.trim();
    let (kind, rest) = text.split_once(':').unwrap_or(("", text));
    let elsewhere = "for another address run a program that asks it";
    match kind.to_ascii_lowercase().as_str() {
        "http" => {
            // `http:http://…` is meant alike.
            let nested = rest.split_once("://");
            let url = match nested {
                Some((scheme, url)) if scheme.starts_with("http") => url,
                _ => rest.strip_prefix("//")?,
            };
            let path = path_of(url);
            Some(format!(
                "it is a whole URL; write the path alone, `http:{path}`: {ASKED} ({elsewhere}: cmd:curl -sf URL)"
            ))
        }
        "https" => {
            let path = path_of(rest.trim_start_matches('/'));
            Some(format!(
                "procref does not speak TLS; write `tcp`, or run a program that does: \
                 `cmd:curl -skf https://localhost:{{port}}{path}`"
            ))
        }
        "tcp" => Some(format!(
            "nothing belongs behind `tcp`: {ASKED}, which `port` sets ({elsewhere}: cmd:nc -z HOST PORT)"
        )),
        "unix" | "pipe" | "log" | "cmd" => None,
        _ if text.contains("://") => Some(format!(
            "procref does not speak the protocol of this URL; write `tcp`, or run a program that does: \
             `cmd:COMMAND` ({ASKED})"
        )),
        _ if text.starts_with('/') => {
            Some(format!("write `http:{text}` to ask for a path: {ASKED}"))
        }
        _ if is_host_and_port(text) => Some(format!(
            "write `tcp`: {ASKED}, which `port` sets ({elsewhere}: cmd:nc -z HOST PORT)"
        )),
        _ => None,
    }
}

/// The path of a URL whose scheme was taken off, from its `/` on.
fn path_of(url: &str) -> &str {
    url.find('/').map_or("/", |at| &url[at..])
}

/// `HOST:PORT`, `:PORT` or `PORT`.
fn is_host_and_port(text: &str) -> bool {
    let port = text.rsplit_once(':').map_or(text, |(_, port)| port);
    port == "{port}" || (!port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refusal(text: &str) -> String {
        ready(text).expect_err(text)
    }

    #[test]
    fn ready_refuses_a_url_and_names_the_right_form() {
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
            ("tcp://127.0.0.1:{port}", "nothing belongs behind `tcp`"),
            ("tcp:8080", "nothing belongs behind `tcp`"),
            ("tcp:localhost:{port}", "nothing belongs behind `tcp`"),
            ("redis://localhost:{port}", "`cmd:COMMAND`"),
            ("ws://localhost/", "`cmd:COMMAND`"),
            ("localhost:{port}", "write `tcp`"),
            ("127.0.0.1:8080", "write `tcp`"),
            (":8080", "write `tcp`"),
            ("{port}", "write `tcp`"),
            ("/health", "`http:/health`"),
        ] {
            let refusal = refusal(text);
            assert!(refusal.contains(right), "{text}: {refusal}");
        }
    }

    #[test]
    fn health_takes_what_can_be_asked_again() {
        for text in ["tcp", "http:/health", "cmd:pg_isready -q"] {
            assert!(matches!(health(text), Ok(Health::Asked(_))), "{text}");
        }
        assert!(matches!(health("ready"), Ok(Health::AsReady)));
        for (text, right) in [
            ("log:ready", "cannot be asked again"),
            ("started", "cannot be asked again"),
            ("notify", "cannot be asked again"),
            ("http://localhost/x", "`http:/x`"),
            ("nonsense", HEALTH),
            ("", HEALTH),
            ("cmd:", "names no program"),
        ] {
            let refusal = health(text).expect_err(text);
            assert!(refusal.contains(right), "{text}: {refusal}");
        }
    }

    #[test]
    fn ready_takes_every_form_that_the_help_lists() {
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
pub(crate) mod fuzz {
    use std::fmt::Debug;

    use super::*;

    /// A value of every kind: it is understood, and then again if it is written as it was understood, or
    /// what is wrong with it is told.
    pub fn values(bytes: &[u8]) {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return;
        };
        if let Some(time) = told(duration(text)) {
            let again = duration(&humantime::format_duration(time).to_string());
            assert_eq!(again, Ok(time), "{text:?}");
            assert_eq!(interval(text).is_ok(), !time.is_zero(), "{text:?}");
        } else {
            assert!(interval(text).is_err(), "{text:?}");
        }
        if let Some(signal) = told(signal(text)) {
            let again = super::signal(&signal.to_string());
            assert_eq!(again.ok(), Some(signal), "{text:?}");
        }
        if let Some(words) = told(words(text)) {
            assert_eq!(super::words(&shell_words::join(&words)), Ok(words.clone()));
            let argv = argv(text).expect("they are words");
            assert!(
                argv.iter()
                    .zip(&words)
                    .all(|(one, other)| one.as_os_str() == other.as_str())
            );
            assert_eq!(argv.len(), words.len(), "{text:?}");
        }
        if let Some((name, value)) = told(variable(text)) {
            assert!(!name.is_empty() && !name.contains('='), "{text:?}");
            assert_eq!(format!("{name}={value}"), text);
        }
        if let Some(port) = told(port(text)) {
            assert_ne!(port, Port::Fixed(0), "{text:?}");
        }
        told(ready(text));
        told(health(text));
    }

    fn told<T: Debug>(parsed: Result<T, String>) -> Option<T> {
        if let Err(reason) = &parsed {
            assert!(!reason.is_empty());
        }
        parsed.ok()
    }
}

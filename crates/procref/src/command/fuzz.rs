//! What must hold for whatever somebody writes into a command, and whatever its program prints.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use regex_lite::Regex;

use super::log::{TAIL_LINES, last_lines};
use super::{ServiceCommand, StopSignal};
use crate::fuzzing::Input;
use crate::ready::Ready;
use crate::template::{expand, expand_http_path, expand_pattern, uses_port};

/// `{port}` and `{dir}`: filled in where they stand, and nothing else is touched.
pub fn template(data: &[u8]) {
    let mut input = Input::new(data);
    let port = u16::from_le_bytes(input.bytes());
    let dir = Path::new(OsStr::from_bytes(input.line()));
    let template = OsStr::from_bytes(input.rest());
    let expanded = expand(template, port, dir);

    let with_another = expand(template, port ^ 1, dir);
    assert_eq!(uses_port(template), with_another != expanded);
    let Some(text) = template.to_str() else {
        return;
    };
    if !text.contains("{port}") && !text.contains("{dir}") {
        assert_eq!(expanded, template);
    }
    // Every text can be written.
    let escaped = text
        .replace("{port}", "{{port}}")
        .replace("{dir}", "{{dir}}");
    assert_eq!(expand(OsStr::new(&escaped), port, dir), template);
    // The other way to do it: the doubled ones out of the way, under a name that the text has not, nor
    // gets by what is filled in.
    let mut away = "\0".to_owned();
    while text.contains(&away) {
        away.push('\0');
    }
    let Some(dir) = dir
        .to_str()
        .filter(|dir| !dir.is_empty() && !dir.contains(['{', '}', '\0']))
    else {
        return;
    };
    let filled = text
        .replace("{{port}}", &format!("{away}p"))
        .replace("{{dir}}", &format!("{away}d"))
        .replace("{port}", &port.to_string())
        .replace("{dir}", dir)
        .replace(&format!("{away}p"), "{port}")
        .replace(&format!("{away}d"), "{dir}");
    assert_eq!(expanded, OsStr::new(&filled));
}

/// A pattern that `build` accepts can be looked for, and the directory in it stands for itself.
pub fn pattern(data: &[u8]) {
    let mut input = Input::new(data);
    let port = u16::from_le_bytes(input.bytes());
    let (dir, line, pattern) = (input.text_line(), input.text_line(), input.text_line());
    let dir = Path::new(&dir);
    let command = ServiceCommand::new("server").ready(Ready::log(&pattern));
    if command.check("service").is_ok() {
        // With a larger port a repetition can become too large for the crate, which is an error then.
        if let Ok(pattern) = Regex::new(&expand_pattern(&pattern, port, dir)) {
            pattern.is_match(&line);
        }
    }
    let itself = expand_pattern("^{dir}$", port, dir);
    let itself = Regex::new(&itself).expect("a directory is escaped");
    assert!(itself.is_match(&dir.to_string_lossy()));
}

/// A path that `build` accepts makes one line of one request, whatever the directory is called.
pub fn http_path(data: &[u8]) {
    let mut input = Input::new(data);
    let port = u16::from_le_bytes(input.bytes());
    let dir = Path::new(OsStr::from_bytes(input.line()));
    let path = String::from_utf8_lossy(input.rest());
    let command = ServiceCommand::new("server")
        .port(1)
        .ready(Ready::http(&*path));
    if command.check("service").is_ok() {
        let path = expand_http_path(&path, port, dir);
        assert!(path.starts_with('/'));
        assert!(path.bytes().all(|byte| byte.is_ascii_graphic()), "{path:?}");
    }
}

/// Signals by name: what is written is read back, in any case.
pub fn stop_signal(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(signal) = text.parse::<StopSignal>() {
        let name = signal.to_string();
        assert_eq!(name.parse::<StopSignal>().ok(), Some(signal));
        assert!(name.ends_with(&text.to_uppercase()), "{text:?}");
        assert!(rustix::process::Signal::from_named_raw(signal.number()).is_some());
    }
}

/// The end of a log, which goes to people's terminals.
pub fn log_tail(data: &[u8]) {
    for cut in [false, true] {
        let tail = last_lines(data, cut);
        assert!(tail.lines().count() <= TAIL_LINES);
        let controls = |c: char| c.is_control() && c != '\n' && c != '\t';
        assert!(!tail.contains(controls), "{tail:?}");
        assert!(tail.len() <= 3 * data.len());
    }
}

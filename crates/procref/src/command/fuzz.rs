//! Properties of the texts of a command and of a program's output.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use regex_lite::Regex;

use super::log::{TAIL_LINES, last_lines};
use super::{ServiceCommand, StopSignal};
use crate::fuzzing::Input;
use crate::ready::Ready;
use crate::template::{expand, expand_http_path, expand_pattern, uses_port};

/// `{port}` and `{dir}` are filled in, and all other text is unchanged.
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
    // Every text can be written with escapes.
    let escaped = text
        .replace("{port}", "{{port}}")
        .replace("{dir}", "{{dir}}");
    assert_eq!(expand(OsStr::new(&escaped), port, dir), template);
    // A second implementation: doubled braces are replaced by a marker that occurs in neither the text nor
    // the values.
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

/// A pattern that `build` accepts can be searched, and the directory in it matches literally.
pub fn pattern(data: &[u8]) {
    let mut input = Input::new(data);
    let port = u16::from_le_bytes(input.bytes());
    let (dir, line, pattern) = (input.text_line(), input.text_line(), input.text_line());
    let dir = Path::new(&dir);
    let command = ServiceCommand::new("server").ready(Ready::log(&pattern));
    if command.check("service").is_ok() {
        // A longer port can make a repetition too large for the crate. The result is an error in that case.
        if let Ok(pattern) = Regex::new(&expand_pattern(&pattern, port, dir)) {
            pattern.is_match(&line);
        }
    }
    let itself = expand_pattern("^{dir}$", port, dir);
    let itself = Regex::new(&itself).expect("a directory is escaped");
    assert!(itself.is_match(&dir.to_string_lossy()));
}

/// A path that `build` accepts makes one line of one request, for any name of the directory.
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

/// A written signal name is read back, in any case.
pub fn stop_signal(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(signal) = text.parse::<StopSignal>() {
        let name = signal.to_string();
        assert_eq!(name.parse::<StopSignal>().ok(), Some(signal));
        assert!(name.ends_with(&text.to_uppercase()), "{text:?}");
        assert!(rustix::process::Signal::from_named_raw(signal.number()).is_some());
    }
}

/// The end of a log is safe for terminals.
pub fn log_tail(data: &[u8]) {
    for cut in [false, true] {
        let tail = last_lines(data, cut);
        assert!(tail.lines().count() <= TAIL_LINES);
        let controls = |c: char| c.is_control() && c != '\n' && c != '\t';
        assert!(!tail.contains(controls), "{tail:?}");
        assert!(tail.len() <= 3 * data.len());
    }
}

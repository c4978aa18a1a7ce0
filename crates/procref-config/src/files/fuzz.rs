//! Fuzz target: a configuration file with any content.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::find::Trust;
use super::{ConfigError, File, parse};

const PATH: &str = "/project/procref.toml";
const OF_USER: &str = "of-user";

/// Parses a configuration file. Each error is one line with a position in the file. A valid file parses to the same
/// result again, and its dependencies exist.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let path = Path::new(PATH);
    let parsed = match parse::parse(path, text) {
        Ok(parsed) => parsed,
        Err(error) => return check_error(&error, text),
    };
    let mut keys = parsed.services.iter().map(|it| &it.keys);
    if keys.any(|keys| !keys.path.is_empty() || !keys.env_file.is_empty()) {
        // These search and read files of this machine, which takes too long.
        return;
    }
    let (path, root) = (PathBuf::from(PATH), PathBuf::from("/project"));
    let parse = || {
        File::parse(
            path.clone(),
            root.clone(),
            text,
            Trust::Named,
            false,
            &[OF_USER],
        )
    };
    let file = match parse() {
        Ok(file) => file,
        Err(error) => return check_error(&error, text),
    };
    let again = parse().expect("the same file was valid before");
    assert_eq!(format!("{file:?}"), format!("{again:?}"));
    let written: BTreeSet<&str> = parsed.services.iter().map(|it| it.name.as_str()).collect();
    let read: BTreeSet<&str> = file.names().collect();
    assert_eq!(read, written, "a service is lost");
    for (name, service) in &file.services {
        let spec = &service.spec;
        assert_eq!(&spec.name, name);
        assert!(spec.start.as_ref().is_some_and(|argv| !argv.is_empty()));
        let cwd = spec.cwd.as_ref().expect("a working directory");
        assert!(cwd.is_absolute(), "{cwd:?}");
        // `{dir}` stands for the runtime directory, which is absolute. It is a piece of text: `{dir}x` is a path beside
        // that directory.
        let begins_with_dir = |log: &Path| log.to_string_lossy().starts_with("{dir}");
        let is_absolute = |log: &Path| log.is_absolute() || begins_with_dir(log);
        assert!(spec.log.iter().all(|log| is_absolute(log)), "{spec:?}");
        for other in &service.depends_on {
            assert!(read.contains(other.as_str()) || other == OF_USER, "{other}");
        }
        // Neither call may panic, with or without a port.
        spec.has_port();
        let _ = spec.builder(Path::new("procref"));
    }
}

fn check_error(error: &ConfigError, text: &str) {
    let lines = text.lines().count() + 1;
    let message = error.to_string();
    assert!(!error.diagnostics.is_empty());
    assert_eq!(
        message.lines().count(),
        error.diagnostics.len(),
        "{message:?}"
    );
    for (diagnostic, line) in error.diagnostics.iter().zip(message.lines()) {
        let (at, column) = diagnostic
            .position
            .expect("an error in the text has a position");
        assert!((1..=lines).contains(&at) && column > 0, "{line}");
        assert!(
            line.starts_with(&format!("{PATH}:{at}:{column}: ")),
            "{line}"
        );
        assert!(!line.contains(char::is_control), "{line:?}");
    }
}

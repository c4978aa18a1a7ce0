//! A configuration file with anything in it.

use std::collections::BTreeSet;
use std::path::Path;

use super::{ConfigError, File, parse};

const PATH: &str = "/project/procref.toml";
const OF_USER: &str = "of-user";

/// A configuration file: what is wrong with it is told in lines that name a place in it; what is right means
/// the same every time, and what it depends on is there.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let path = Path::new(PATH);
    let written = match parse::parse(path, text) {
        Ok(written) => written,
        Err(wrong) => return check_complaint(&wrong, text),
    };
    if written.services.iter().any(|it| it.keys.path.is_some()) {
        // Looks for directories on this machine, which may be many.
        return;
    }
    let parse = || File::parse(PATH.into(), "/project".into(), text, false, &[OF_USER]);
    let file = match parse() {
        Ok(file) => file,
        Err(wrong) => return check_complaint(&wrong, text),
    };
    let again = parse().expect("it was right a moment ago");
    assert_eq!(format!("{file:?}"), format!("{again:?}"));
    let written: BTreeSet<&str> = written.services.iter().map(|it| it.name.as_str()).collect();
    let read: BTreeSet<&str> = file.names().collect();
    assert_eq!(read, written, "a service is lost");
    for (name, service) in &file.services {
        let spec = &service.spec;
        assert_eq!(&spec.name, name);
        assert!(spec.start.as_ref().is_some_and(|argv| !argv.is_empty()));
        let cwd = spec.cwd.as_ref().expect("there is always one");
        assert!(cwd.is_absolute(), "{cwd:?}");
        // The runtime directory, which is absolute, is filled in when the service is built.
        let is_absolute = |log: &Path| log.is_absolute() || log.starts_with("{dir}");
        assert!(spec.log.iter().all(|log| is_absolute(log)), "{spec:?}");
        for other in &service.depends_on {
            assert!(read.contains(other.as_str()) || other == OF_USER, "{other}");
        }
        // Neither with nor without a port is it anything but told.
        spec.has_port();
        let _ = spec.builder();
    }
}

fn check_complaint(wrong: &ConfigError, text: &str) {
    let lines = text.lines().count() + 1;
    let told = wrong.to_string();
    assert!(!wrong.problems.is_empty());
    assert_eq!(told.lines().count(), wrong.problems.len(), "{told:?}");
    for (problem, line) in wrong.problems.iter().zip(told.lines()) {
        let (at, column) = problem.place.expect("it is about something in the file");
        assert!((1..=lines).contains(&at) && column > 0, "{line}");
        assert!(
            line.starts_with(&format!("{PATH}:{at}:{column}: ")),
            "{line}"
        );
        assert!(!line.contains(char::is_control), "{line:?}");
    }
}

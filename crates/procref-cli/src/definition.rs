//! The settings of an instance, as its starter's configuration and flags said them.
//!
//! The starter writes them into the instance's record. Whoever joins the instance with other settings of its
//! own is told so: it runs with the starter's. What clients are given by `export` fits the instance that
//! runs, so it is taken from there.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use procref::ServiceHandle;
use serde::Serialize;
use siphasher::sip::SipHasher13;

use crate::output::shown;
use crate::spec::ServiceSpec;
use crate::value_parsers::Port;

/// Settings by their names in `procref.toml`, each as one text.
pub(crate) type Definition = BTreeMap<String, String>;

const EXPORT: &str = "export";

/// The settings that a service gets from its starter. What belongs to a client (how long it waits, which
/// fingerprint it wants) is none of them.
pub(crate) fn of(spec: &ServiceSpec) -> Definition {
    let settings = [
        ("start", spec.start.as_deref().map(joined)),
        ("init", spec.setup.init.as_deref().map(joined)),
        ("data", spec.setup.data.clone()),
        ("cwd", spec.cwd.as_ref().map(|dir| lossy(dir.as_os_str()))),
        // Of the values a digest will do: some are secrets.
        ("env", unless_empty(&spec.env, |env| digest(&json(env)))),
        (EXPORT, unless_empty(&spec.export, |pairs| json(pairs))),
        ("port", spec.port.map(port)),
        (
            "ready",
            spec.ready.as_ref().map(|ready| format!("{ready:?}")),
        ),
        (
            "stop-signal",
            spec.stop_signal.map(|signal| signal.to_string()),
        ),
        ("grace", spec.grace.map(time)),
        ("linger", spec.linger.map(time)),
        ("log", spec.log.as_ref().map(|log| lossy(log.as_os_str()))),
        (
            "depends-on",
            unless_empty(&spec.setup.dependencies, |all| {
                let names: Vec<&str> = all.iter().map(|it| it.name()).collect();
                json(&names)
            }),
        ),
    ];
    let settings = settings.into_iter();
    settings
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
}

/// The names of the settings in which a running instance differs from what a client would have started.
/// A client that could not start it has only those settings that it was given.
pub(crate) fn differences(spec: &ServiceSpec, instance: &Definition) -> Vec<String> {
    if instance.is_empty() {
        // Its starter did not tell: another program.
        return Vec::new();
    }
    let own = of(spec);
    let names = own.keys().chain(instance.keys());
    let mut names: Vec<&String> = names
        .filter(|name| own.get(*name) != instance.get(*name))
        .filter(|name| spec.start.is_some() || own.contains_key(*name))
        .collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().cloned().collect()
}

/// What to say to a client that has joined an instance with other settings.
pub(crate) fn note(spec: &ServiceSpec, handle: &ServiceHandle) -> Option<String> {
    let differing = differences(spec, handle.definition());
    if differing.is_empty() {
        return None;
    }
    let (name, pid) = (shown(&spec.name), handle.pid());
    let stop = shell_words::quote(&name);
    Some(format!(
        "procref: service `{name}` (pid {pid}) runs with other settings than this client's ({}); for an instance \
         with these, stop that one first: procref stop {stop} (with --force while clients hold it)",
        differing.join(", ")
    ))
}

/// What an instance's clients are given in their environment.
pub(crate) fn exports(spec: &ServiceSpec, instance: &Definition) -> Vec<(String, String)> {
    // A client that knows nothing of the service but its name is given nothing, as what is exported may
    // name services that it does not hold.
    let knows = spec.start.is_some() || !spec.export.is_empty();
    if instance.is_empty() || !knows {
        return spec.export.clone();
    }
    let recorded = instance.get(EXPORT);
    let parsed = recorded.map(|text| serde_json::from_str(text).ok());
    match parsed {
        Some(Some(exports)) => exports,
        Some(None) => spec.export.clone(),
        None => Vec::new(),
    }
}

fn unless_empty<T>(list: &[T], text: impl FnOnce(&[T]) -> String) -> Option<String> {
    (!list.is_empty()).then(|| text(list))
}

fn joined(words: &[OsString]) -> String {
    shell_words::join(words.iter().map(|word| word.to_string_lossy()))
}

fn lossy(text: &std::ffi::OsStr) -> String {
    text.to_string_lossy().into_owned()
}

fn json(value: impl Serialize) -> String {
    serde_json::to_string(&value).expect("texts and lists of them can be written")
}

fn digest(text: &str) -> String {
    // The same in every build.
    format!("{:016x}", SipHasher13::new().hash(text.as_bytes()))
}

fn port(port: Port) -> String {
    match port {
        Port::Auto => "auto".to_owned(),
        Port::Fixed(number) => number.to_string(),
    }
}

fn time(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(change: impl FnOnce(&mut ServiceSpec)) -> ServiceSpec {
        let mut spec = ServiceSpec {
            start: Some(vec!["server".into(), "a b".into()]),
            port: Some(Port::Auto),
            env: vec![("PASSWORD".to_owned(), "secret".to_owned())],
            export: vec![("URL".to_owned(), "x://{port}".to_owned())],
            ..ServiceSpec::named("db")
        };
        change(&mut spec);
        spec
    }

    fn differ(one: &ServiceSpec, other: &ServiceSpec) -> Vec<String> {
        differences(one, &of(other))
    }

    #[test]
    fn each_setting_of_a_service_is_compared() {
        type Change = (&'static str, fn(&mut ServiceSpec));
        let changes: [Change; 12] = [
            ("start", |it| {
                it.start = Some(vec!["server".into(), "a".into(), "b".into()])
            }),
            ("init", |it| it.setup.init = Some(vec!["mkdb".into()])),
            ("data", |it| it.setup.data = Some("/data".to_owned())),
            ("cwd", |it| it.cwd = Some("/".into())),
            ("env", |it| it.env[0].1 = "changed".to_owned()),
            ("export", |it| it.export.clear()),
            ("port", |it| it.port = Some(Port::Fixed(1))),
            ("ready", |it| {
                it.ready = crate::value_parsers::ready("tcp").ok()
            }),
            ("stop-signal", |it| it.stop_signal = "INT".parse().ok()),
            ("grace", |it| it.grace = Some(Duration::MAX)),
            ("linger", |it| it.linger = Some(Duration::from_secs(2))),
            ("log", |it| it.log = Some("/log".into())),
        ];
        let plain = spec(|_| {});
        assert_eq!(differ(&plain, &spec(|_| {})), [""; 0]);
        for (name, change) in changes {
            let changed = spec(change);
            assert_eq!(differ(&changed, &plain), [name]);
            assert_eq!(differ(&plain, &changed), [name], "the other way round");
        }
    }

    #[test]
    fn no_value_of_env_is_recorded() {
        let definition = of(&spec(|_| {}));
        assert!(
            !format!("{definition:?}").contains("secret"),
            "{definition:?}"
        );
    }

    #[test]
    fn client_that_only_joins_is_told_of_what_it_was_given() {
        let running = spec(|_| {});
        let bare = ServiceSpec::named("db");
        assert_eq!(differ(&bare, &running), [""; 0]);
        let mut asking = ServiceSpec::named("db");
        asking.port = Some(Port::Fixed(17777));
        assert_eq!(differ(&asking, &running), ["port"]);
        assert_eq!(differences(&asking, &Definition::new()), [""; 0]);
    }

    #[test]
    fn exports_are_the_instances_own() {
        let (running, changed) = (spec(|_| {}), spec(|it| it.export[0].1 = "y".to_owned()));
        assert_eq!(exports(&changed, &of(&running)), running.export);
        assert_eq!(exports(&changed, &Definition::new()), changed.export);
        let without = of(&spec(|it| it.export.clear()));
        assert_eq!(exports(&changed, &without), []);
        assert_eq!(exports(&ServiceSpec::named("db"), &of(&running)), []);
    }
}

//! The settings of an instance, from the configuration and the options of its starter.
//!
//! The starter writes the settings to the instance's record. A client that joins with other settings gets a note,
//! because the instance runs with the starter's settings. Clients also take the exported variables from the record,
//! because those variables describe the running instance.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use procref::ServiceHandle;
use serde::Serialize;
use serde::de::DeserializeOwned;
use siphasher::sip::SipHasher13;

use crate::spec::ServiceSpec;
use crate::text::shown;
use crate::value_parsers::Port;

/// Settings by their keys in `procref.toml`, each as one text.
pub type Definition = BTreeMap<String, String>;

const EXPORT: &str = "export";
const DEPENDS_ON: &str = "depends-on";

/// Returns the settings that a service gets from its starter. Settings of a client, such as its wait timeout and its
/// fingerprint, are not included.
pub fn of(spec: &ServiceSpec) -> Definition {
    let settings = [
        ("start", spec.start.as_deref().map(joined)),
        ("init", spec.prestart.init.as_deref().map(joined)),
        ("data", spec.prestart.data.clone()),
        ("cwd", spec.cwd.as_ref().map(|dir| lossy(dir.as_os_str()))),
        // The values may be secrets, so the record contains only a digest.
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
        ("user", spec.prestart.user.clone()),
        ("cluster", spec.cluster.as_ref().map(|it| it.url.clone())),
        (
            "advertise",
            spec.cluster.as_ref().and_then(|it| it.advertise.clone()),
        ),
        (
            "takeover",
            spec.cluster.as_ref().and_then(|it| it.takeover.clone()),
        ),
        ("at", spec.cluster.as_ref().and_then(|it| it.at.clone())),
        (
            DEPENDS_ON,
            unless_empty(&spec.prestart.dependencies, |all| {
                let names: Vec<&str> = all.iter().map(|it| it.name.as_str()).collect();
                json(&names)
            }),
        ),
    ];
    let settings = settings.into_iter();
    settings
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
}

/// Returns the keys of the settings in which a running instance differs from the client's description.
///
/// A client without a start command compares only the settings that it has.
pub fn differences(spec: &ServiceSpec, instance: &Definition) -> Vec<String> {
    if instance.is_empty() {
        // Another program started the instance and recorded no settings.
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

/// Returns the note for a client that joined an instance with other settings.
pub fn note(spec: &ServiceSpec, handle: &ServiceHandle) -> Option<String> {
    let differing = differences(spec, handle.definition());
    if differing.is_empty() {
        return None;
    }
    let (name, pid) = (shown(&spec.name), handle.pid());
    let stop = shell_words::quote(&name);
    Some(format!(
        "procref: service `{name}` (pid {pid}) runs with other settings than this client's ({}); to use this client's \
         settings, run `procref stop {stop}` first (with --force if clients hold the service)",
        differing.join(", ")
    ))
}

/// Returns the names of the direct and indirect dependencies of an instance.
pub fn dependencies(instance: &Definition) -> Vec<String> {
    let recorded = instance.get(DEPENDS_ON);
    let parsed = recorded.and_then(|text| serde_json::from_str(text).ok());
    parsed.unwrap_or_default()
}

/// Returns the variables for the clients of an instance.
pub fn exports(spec: &ServiceSpec, instance: &Definition) -> Vec<(String, String)> {
    // A client that has only the name of the service gets no variables, because the exports may name services that the
    // client does not hold.
    let is_described = spec.start.is_some() || !spec.export.is_empty();
    if instance.is_empty() || !is_described {
        return spec.export.clone();
    }
    recorded(instance, EXPORT).unwrap_or_else(|| spec.export.clone())
}

/// Returns the variables that the record of an instance describes.
pub fn recorded_exports(instance: &Definition) -> Vec<(String, String)> {
    recorded(instance, EXPORT).unwrap_or_default()
}

/// Returns the names of the direct and indirect dependencies of an instance, in the order in which they are acquired.
pub fn recorded_dependencies(instance: &Definition) -> Vec<String> {
    recorded(instance, DEPENDS_ON).unwrap_or_default()
}

/// Returns a list from the record: empty if the instance has none, `None` if the text cannot be parsed.
fn recorded<T: DeserializeOwned>(instance: &Definition, key: &str) -> Option<Vec<T>> {
    match instance.get(key) {
        Some(text) => serde_json::from_str(text).ok(),
        None => Some(Vec::new()),
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
    serde_json::to_string(&value).expect("texts and lists of texts serialize")
}

fn digest(text: &str) -> String {
    // This hasher returns the same value in every build.
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
    fn differences_name_each_changed_setting() {
        type Change = (&'static str, fn(&mut ServiceSpec));
        let changes: [Change; 14] = [
            ("start", |it| {
                it.start = Some(vec!["server".into(), "a".into(), "b".into()])
            }),
            ("init", |it| it.prestart.init = Some(vec!["mkdb".into()])),
            ("data", |it| it.prestart.data = Some("/data".to_owned())),
            ("user", |it| it.prestart.user = Some("postgres".to_owned())),
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
            ("cluster", |it| {
                it.cluster = Some(crate::cluster::ClusterSpec::default())
            }),
        ];
        let plain = spec(|_| {});
        assert_eq!(differ(&plain, &spec(|_| {})), [""; 0]);
        for (name, change) in changes {
            let changed = spec(change);
            assert_eq!(differ(&changed, &plain), [name]);
            assert_eq!(
                differ(&plain, &changed),
                [name],
                "the comparison is symmetric"
            );
        }
    }

    #[test]
    fn definition_contains_no_value_of_env() {
        let definition = of(&spec(|_| {}));
        assert!(
            !format!("{definition:?}").contains("secret"),
            "{definition:?}"
        );
    }

    #[test]
    fn differences_of_a_joining_client_name_only_its_settings() {
        let running = spec(|_| {});
        let joining = ServiceSpec::named("db");
        assert_eq!(differ(&joining, &running), [""; 0]);
        let mut with_port = ServiceSpec::named("db");
        with_port.port = Some(Port::Fixed(17777));
        assert_eq!(differ(&with_port, &running), ["port"]);
        assert_eq!(differences(&with_port, &Definition::new()), [""; 0]);
    }

    #[test]
    fn exports_come_from_the_running_instance() {
        let (running, changed) = (spec(|_| {}), spec(|it| it.export[0].1 = "y".to_owned()));
        assert_eq!(exports(&changed, &of(&running)), running.export);
        assert_eq!(exports(&changed, &Definition::new()), changed.export);
        let without = of(&spec(|it| it.export.clear()));
        assert_eq!(exports(&changed, &without), []);
        assert_eq!(exports(&ServiceSpec::named("db"), &of(&running)), []);
    }
}

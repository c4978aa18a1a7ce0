//! Properties of everything that may be in a runtime directory.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use super::*;
use crate::fuzzing::Input;
use crate::key::digest_in_stem;
use crate::name::Name;
use crate::namespace::Namespace;
use crate::process::View;

const DIR: &str = "/run/procref";

fn key(name: &str) -> Option<ServiceKey> {
    let namespace = Namespace::new(DIR.into(), (1, 2), View([4, 101, 4, 102, 4, 103]));
    Some(ServiceKey::new(namespace, Name::new(name).ok()?))
}

/// A record that is broken, foreign or of another boot names no process. A record that can be read can be written and
/// read again.
pub fn record(data: &[u8]) {
    // No input can contain the id of this boot, or of this namespace.
    let space = key("web").expect("the name is valid").namespace;
    let text = String::from_utf8_lossy(data)
        .replace("THIS-BOOT", sys::boot_id())
        .replace("THIS-NAMESPACE", &space.digest().to_string());
    let Ok(record) = Record::decode(text.as_bytes()) else {
        for name in ["web", "(none)"] {
            let key = key(name).expect("the name is valid");
            assert!(Record::parse(text.as_bytes(), &key).is_err());
        }
        return;
    };
    assert_eq!(record.version, VERSION);
    for name in [record.name.as_str(), "web", "another web"] {
        if let Some(key) = key(name) {
            let parsed = Record::parse(text.as_bytes(), &key);
            let is_ours = name == record.name && record.is_of(&space);
            assert_eq!(parsed.is_ok(), is_ours, "{parsed:?}");
        }
    }
    let of_this_boot = record.boot == sys::boot_id() && !record.boot.is_empty();
    assert_eq!(record.identity().is_some(), of_this_boot);
    if let Some(stop) = record.stop() {
        assert!(!stop.signal.to_string().is_empty());
    }
    let again = record.encode().expect("the input was valid JSON");
    assert_eq!(Record::decode(&again).ok(), Some(record));
}

/// Every record that a starter writes can be read back, with any name, metadata, program and path.
pub fn record_written(data: &[u8]) {
    let mut input = Input::new(data);
    let identity = Identity {
        pid: u32::from_le_bytes(input.bytes()),
        start: u64::from_le_bytes(input.bytes()),
    };
    let port = u16::from_le_bytes(input.bytes());
    let grace_ms = u64::from_le_bytes(input.bytes());
    let kind = input.byte();
    let Some(key) = key(&input.text_line()) else {
        return;
    };
    let mut info = ServiceInfo::new(identity.pid, port);
    info.set_metadata(input.text_line(), input.text_line());
    let fingerprint = (kind & 1 != 0).then(|| input.text_line());
    let mut record = Record::new(&key, identity, &info)
        .with_fingerprint(fingerprint)
        .with_hosted(kind & 2 != 0);
    if kind & 4 != 0 {
        record = record.executed(Executed {
            line: vec![input.text_line(), input.text_line()],
            log: PathBuf::from(OsStr::from_bytes(input.line())),
            stop_signal: "SIGINT".to_owned(),
            grace_ms,
        });
    }
    let bytes = record.encode().expect("every record can be written");
    let read = Record::parse(&bytes, &key).expect("the written bytes are a record");
    assert_eq!(read.identity(), Some(identity));
    assert_eq!(read, record);
}

/// A service's files stay in the directory and name their service. No other file is treated as one of them.
pub fn file_name(data: &[u8]) {
    let mut input = Input::new(data);
    let fingerprint = input.text_line();
    let text = String::from_utf8_lossy(input.rest());
    if let Some(key) = key(&text) {
        for key in [key.clone(), key.separated(&fingerprint)] {
            let digest = Some(key.digests().1);
            for path in files(&key) {
                assert_eq!(path.parent(), Some(Path::new(DIR)));
                let name = path.file_name().and_then(OsStr::to_str).expect("readable");
                assert!(name.len() <= 80 && !name.starts_with('.'), "{name}");
                let (stem, _) = files::split(name).expect("the name has an extension");
                let found = digest_in_stem(stem, &key.namespace);
                assert_eq!((stem, found), (&*key.file_stem(), digest));
            }
        }
    }
    let space = key("web").expect("the name is valid").namespace;
    let text = text.replace("THIS-NAMESPACE", &space.digest().to_string());
    if let Some((stem, ending)) = files::split(&text) {
        if let Some(digest) = digest_in_stem(stem, &space) {
            assert!(text == format!("{stem}{ending}") && !stem.contains(['/', '\0']));
            let end = format!("-{digest}.{}", space.digest());
            assert!(stem.ends_with(&end), "{stem}");
        }
    }
}

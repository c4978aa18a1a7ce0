use std::fs::File;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use crate::file::make_fifo;

use super::*;
use crate::name::Name;

struct Scratch {
    _dir: tempfile::TempDir,
    key: ServiceKey,
}

fn scratch() -> Scratch {
    let dir = tempfile::tempdir().unwrap();
    let namespace = namespace::open(Some(dir.path()), None).unwrap();
    Scratch {
        key: ServiceKey::new(namespace, Name::new("a service/of mine").unwrap()),
        _dir: dir,
    }
}

fn record(key: &ServiceKey) -> Record {
    let mut info = ServiceInfo::new(4711, 80);
    info.set_metadata("token", "\u{1f511}\n");
    Record::new(
        key,
        Identity {
            pid: 4711,
            start: 99,
        },
        &info,
    )
}

#[test]
fn record_is_read_as_written_and_private() {
    let scratch = scratch();
    let key = &scratch.key;
    check(key).unwrap();
    for _ in 0..2 {
        write(key, &record(key)).unwrap();
        let mode = fs::metadata(path(key)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        let read = read(key).unwrap();
        assert_eq!(
            read.identity(),
            Some(Identity {
                pid: 4711,
                start: 99
            })
        );
        assert_eq!(read.port(), 80);
        assert_eq!(read.into_metadata()["token"], "\u{1f511}\n");
    }
    assert!(!draft_path(key).exists());
    remove(key);
    assert!(read(key).is_none());
    remove(key);
}

#[test]
fn record_keeps_log_path_that_is_not_unicode() {
    use std::os::unix::ffi::OsStrExt as _;

    let scratch = scratch();
    let key = &scratch.key;
    for log in [&b"/run/a.log"[..], b"/run/\xff.log"] {
        let executed = Executed {
            line: vec!["server".to_owned()],
            log: std::ffi::OsStr::from_bytes(log).into(),
            stop_signal: "SIGINT".to_owned(),
            grace_ms: 1,
        };
        write(key, &record(key).executed(executed.clone())).unwrap();
        assert_eq!(read(key).unwrap().into_executed(), Some(executed));
    }
}

#[test]
fn record_fingerprint_is_optional() {
    let scratch = scratch();
    let key = &scratch.key;
    write(key, &record(key)).unwrap();
    assert!(
        !fs::read_to_string(path(key))
            .unwrap()
            .contains("fingerprint")
    );
    assert_eq!(read(key).unwrap().fingerprint(), None);
    let with_fingerprint = record(key).with_fingerprint(Some("v1\0".to_owned()));
    write(key, &with_fingerprint).unwrap();
    assert_eq!(read(key).unwrap().fingerprint(), Some("v1\0"));
}

#[test]
fn record_of_another_boot_names_no_process() {
    let scratch = scratch();
    for boot in ["", "00000000-0000-0000-0000-000000000000"] {
        let record = Record {
            boot: boot.to_owned(),
            ..record(&scratch.key)
        };
        assert_eq!(record.identity(), None);
    }
}

#[test]
fn record_without_instance_keeps_name_and_names_no_process() {
    let scratch = scratch();
    let key = &scratch.key;
    // No record exists in which the name could stay.
    keep_name(key);
    assert!(read(key).is_none());
    let whole = record(key).with_fingerprint(Some("v1".to_owned()));
    write(key, &whole.with_hosted(true)).unwrap();
    for file in &files(key)[1..] {
        fs::write(file, "").unwrap();
    }
    keep_name(key);
    let kept = read(key).expect("a record");
    assert_eq!(
        (kept.identity(), kept.port(), kept.is_hosted()),
        (None, 0, false)
    );
    assert!(!kept.has_metadata() && kept.stop().is_none());
    // The fingerprint is part of the file's name.
    assert_eq!(kept.fingerprint(), Some("v1"));
    assert!(files(key)[1..].iter().all(|file| !file.exists()));
}

#[test]
fn hostile_records_are_ignored() {
    let scratch = scratch();
    let key = &scratch.key;
    let path = path(key);
    write(key, &record(key)).unwrap();
    let good = fs::read(&path).unwrap();
    assert!(read(key).is_some());

    let text = String::from_utf8(good.clone()).unwrap();
    let mut broken = vec![
        Vec::new(),
        good[..good.len() / 2].to_vec(),
        b"null".to_vec(),
        vec![0xff; 100],
        vec![b'['; 100_000],
        text.replace("\"version\": 2", "\"version\": 3")
            .into_bytes(),
        text.replace("\"version\": 2", "\"version\": 1")
            .into_bytes(),
        text.replace(&key.namespace.digest().to_string(), "0123456789abcde")
            .into_bytes(),
        text.replace("\"namespace\"", "\"nowhere\"").into_bytes(),
        text.replace("of mine", "of yours").into_bytes(),
        text.replace("4711", "-1").into_bytes(),
        text.replace("4711", "99999999999").into_bytes(),
    ];
    broken.push([&good[..], &vec![b' '; MAX_SIZE as usize][..]].concat());
    for bytes in broken {
        fs::write(&path, &bytes).unwrap();
        assert!(
            read(key).is_none(),
            "{:?}",
            String::from_utf8_lossy(&bytes[..bytes.len().min(80)])
        );
    }

    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(1 << 30)
        .unwrap();
    assert!(read(key).is_none(), "a sparse gibibyte");

    fs::write(&path, &good).unwrap();
    assert!(read(key).is_some());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(read(key).is_none(), "other users can read it");

    fs::remove_file(&path).unwrap();
    let elsewhere = path.with_extension("elsewhere");
    fs::write(&elsewhere, &good).unwrap();
    fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o600)).unwrap();
    symlink(&elsewhere, &path).unwrap();
    assert!(read(key).is_none(), "a link");
    write(key, &record(key)).unwrap();
    assert!(read(key).is_some(), "a link is replaced, not followed");
    assert_eq!(fs::read(&elsewhere).unwrap(), good);

    fs::remove_file(&path).unwrap();
    symlink("/nonexistent", &path).unwrap();
    assert!(read(key).is_none(), "a dangling link");
    fs::remove_file(&path).unwrap();
    make_fifo(&path);
    assert!(read(key).is_none(), "a FIFO");
}

#[test]
fn draft_that_is_a_link_is_not_followed() {
    let scratch = scratch();
    let key = &scratch.key;
    let victim = key.namespace.dir().join("victim");
    fs::write(&victim, "untouched").unwrap();
    symlink(&victim, draft_path(key)).unwrap();
    write(key, &record(key)).unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
}

#[test]
fn directory_at_record_path_is_refused_before_the_start() {
    let scratch = scratch();
    let key = &scratch.key;
    for path in [path(key), draft_path(key)] {
        fs::create_dir(&path).unwrap();
        let error = check(key).unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        assert!(read(key).is_none());
        remove(key);
        assert!(path.is_dir());
        fs::remove_dir(&path).unwrap();
    }
    check(key).unwrap();
}

#[test]
fn too_large_metadata_is_refused() {
    let scratch = scratch();
    let mut info = ServiceInfo::new(1, 1);
    info.set_metadata("big", "x".repeat(MAX_SIZE as usize));
    let record = Record::new(&scratch.key, Identity { pid: 1, start: 1 }, &info);
    let error = write(&scratch.key, &record).unwrap_err().to_string();
    assert!(error.contains("1 MiB"), "{error}");
    assert!(!path(&scratch.key).exists() && !draft_path(&scratch.key).exists());
}

#[test]
fn replaced_directory_is_another_namespace() {
    let scratch = scratch();
    let key = &scratch.key;
    let dir = key.namespace.dir();
    fs::rename(dir, dir.with_extension("moved")).unwrap();
    assert!(check(key).is_err());
    fs::create_dir(dir).unwrap();
    fs::write(path(key), "somebody else's").unwrap();
    let error = check(key).unwrap_err().to_string();
    assert!(error.contains("build the service again"), "{error}");
    remove(key);
    assert!(path(key).exists());
    fs::remove_dir_all(dir.with_extension("moved")).unwrap();
}

use std::io::Write as _;

use super::*;
use crate::command::log::{Forbidden, last_lines};
use crate::command::log::{files, rotate_running};
use crate::file::make_fifo;

fn open(path: &Path, limit: u64) -> Result<ServiceLog, Error> {
    ServiceLog::open("it", path.to_owned(), limit, Forbidden::GroupOrWorld)
}

fn write(log: &ServiceLog, bytes: &[u8]) {
    let mut file = log.file.try_clone().unwrap();
    file.write_all(bytes).unwrap();
}

#[test]
fn default_log_is_private_and_beside_the_record() {
    let scratch = scratch();
    let prepared = truth().prepare(&scratch.key).unwrap();
    let path = &prepared.log.path;
    assert_eq!(path.parent(), Some(scratch.key.namespace.dir()));
    assert_eq!(fs::metadata(path).unwrap().mode() & 0o7777, 0o600);
    assert!(path.to_str().unwrap().ends_with(".log"));
}

#[test]
fn kept_log_has_only_the_last_run_and_is_not_removed_with_the_record() {
    let scratch = scratch();
    let command = truth().keep_log();
    let path = command.prepare(&scratch.key).unwrap().log.path;
    assert_eq!(path, kept_log(&scratch.key));
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    let removed = crate::record::files(&scratch.key);
    assert!(!removed.contains(&path), "{removed:?}");
    let [_, older] = files(&path);
    fs::write(&path, "before\n").unwrap();
    fs::write(&older, "long before\n").unwrap();
    fs::set_permissions(&older, fs::Permissions::from_mode(0o600)).unwrap();
    let listed = crate::record::files::scan(&scratch.key.namespace).unwrap();
    let mut listed: Vec<_> = listed.into_iter().map(|file| file.path).collect();
    listed.sort();
    assert_eq!(
        listed,
        [path.clone(), older.clone()],
        "`gc` finds both files"
    );

    let mut before = fs::File::open(&path).unwrap();
    let log = command.prepare(&scratch.key).unwrap().log;
    assert_eq!((log.start, fs::read(&path).unwrap()), (0, Vec::new()));
    assert!(!older.exists());
    let mut read = String::new();
    std::io::Read::read_to_string(&mut before, &mut read).unwrap();
    assert_eq!(
        read, "before\n",
        "a process that reads the log keeps its file"
    );
    assert_eq!(
        command.log("own").log_path(&scratch.key),
        std::path::absolute("own").unwrap()
    );
}

#[test]
fn tail_shows_only_lines_of_this_run() {
    let scratch = scratch();
    let path = scratch.path("log");
    write(&open(&path, 1000).unwrap(), b"before\n");
    let log = open(&path, 1000).unwrap();
    assert_eq!((log.start, log.tail().as_str()), (7, ""));
    write(&log, b"one\ntwo\n");
    assert_eq!(log.tail(), "one\ntwo");
    write(&log, b"half");
    assert_eq!(log.tail(), "one\ntwo\nhalf");
    log_truncated(&path, b"after\n");
    assert_eq!(log.tail(), "after");
}

#[test]
fn tail_continues_in_the_log_that_this_run_has_rotated() {
    let scratch = scratch();
    let path = scratch.path("log");
    let [_, rotated] = files(&path);
    fs::write(&rotated, "of an earlier run\n").unwrap();
    write(&open(&path, 1000).unwrap(), b"before\n");
    let log = open(&path, 1000).unwrap();
    write(&log, b"one\n");
    assert_eq!(log.tail(), "one");
    // More than the limit, so the log is empty after the rotation.
    let long = "x".repeat(1200);
    write(&log, format!("{long}\ntwo\nthree\n").as_bytes());
    assert!(rotate_running("it", &path, 1000).unwrap());
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    assert_eq!(log.tail(), "two\nthree", "half a line is left out");
    write(&log, b"four\n");
    assert_eq!(log.tail(), "two\nthree\nfour");
}

fn log_truncated(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
}

#[test]
fn tail_is_short_and_without_control_characters() {
    let scratch = scratch();
    let log = open(&scratch.path("log"), 1 << 20).unwrap();
    for line in 0..100 {
        write(&log, format!("line {line}\n").as_bytes());
    }
    let tail = log.tail();
    assert_eq!(tail.lines().count(), 20);
    assert!(tail.starts_with("line 80\n") && tail.ends_with("line 99"));
    write(&log, &[b'x'; 10_000]);
    assert_eq!(log.tail().len(), 4096);
    write(&log, b"\nend\n");
    assert_eq!(log.tail(), "end", "half a line is not shown as a whole one");

    assert_eq!(
        last_lines(b"a\tb\x1b[31m\x07\r\nc\xff", false),
        "a\tb\u{fffd}[31m\u{fffd}\nc\u{fffd}"
    );
    assert_eq!(last_lines(b"", false), "");
    assert_eq!(last_lines(b"cut\n", true), "cut");
}

#[test]
fn long_log_is_rotated_at_a_start() {
    let scratch = scratch();
    let path = scratch.path("log");
    let [_, rotated] = files(&path);
    for (round, size) in [("first", 0), ("second", 5), ("third", 5)] {
        let log = open(&path, 5).unwrap();
        assert_eq!(log.start, 0, "{round}");
        if size > 0 {
            assert_eq!(fs::metadata(&rotated).unwrap().len(), 5);
        }
        write(&log, b"12345");
    }
    let log = open(&path, 6).unwrap();
    assert_eq!(log.start, 5, "not yet too long");
}

#[test]
fn line_that_is_written_during_a_rotation_is_kept() {
    const LIMIT: u64 = 32 << 20;
    let scratch = scratch();
    let path = scratch.path("log");
    let [_, rotated] = files(&path);
    let log = open(&path, LIMIT).unwrap();
    write(&log, &vec![b'x'; (LIMIT + 1) as usize]);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !rotated.exists() {
                std::hint::spin_loop();
            }
            write(&log, b"last words\n");
        });
        assert!(rotate_running("it", &path, LIMIT).unwrap());
    });
    let mut all = fs::read(&rotated).unwrap();
    all.extend(fs::read(&path).unwrap());
    assert!(all.ends_with(b"xlast words\n"));
}

#[test]
fn log_of_a_running_service_is_truncated() {
    let scratch = scratch();
    let path = scratch.path("log");
    let [_, rotated] = files(&path);
    let log = open(&path, 1000).unwrap();
    write(&log, b"0123456789");
    assert!(!rotate_running("it", &path, 10).unwrap());
    assert!(rotate_running("it", &path, 4).unwrap());
    assert_eq!(fs::read(&rotated).unwrap(), b"6789", "only the end is kept");
    assert_eq!(fs::metadata(&rotated).unwrap().mode() & 0o7777, 0o600);
    write(&log, b"next");
    assert_eq!(fs::read(&path).unwrap(), b"next", "no hole before it");

    // Another process holds the lock.
    let busy = fs::File::open(&path).unwrap();
    rustix::fs::flock(&busy, rustix::fs::FlockOperation::LockExclusive).unwrap();
    assert!(!rotate_running("it", &path, 1).unwrap());
    drop(busy);
    let victim = scratch.path("victim");
    fs::write(&victim, "untouched").unwrap();
    fs::remove_file(&rotated).unwrap();
    symlink(&victim, &rotated).unwrap();
    assert!(rotate_running("it", &path, 1).unwrap());
    assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
    fs::remove_file(&path).unwrap();
    assert!(
        !rotate_running("it", &path, 1).unwrap(),
        "none is short enough"
    );
}

#[test]
fn log_open_to_other_users_is_refused_with_its_path() {
    let scratch = scratch();
    let path = scratch.path("log");
    let refused = |why: &str| {
        for error in [open(&path, 10).err(), rotate_running("it", &path, 10).err()] {
            let error = error.unwrap().to_string();
            assert!(
                error.contains(why) && error.contains(path.to_str().unwrap()),
                "{error}"
            );
        }
    };
    let victim = scratch.path("victim");
    fs::write(&victim, "unchanged").unwrap();
    symlink(&victim, &path).unwrap();
    refused("symbolic link");
    assert_eq!(fs::read_to_string(&victim).unwrap(), "unchanged");
    fs::remove_file(&path).unwrap();
    make_fifo(&path);
    refused("not a regular file");
    fs::remove_file(&path).unwrap();
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o622)).unwrap();
    refused("mode 0622");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(open(&path, 10).is_err(), "procref's own log is private");
    let chosen = ServiceLog::open("it", path, 10, Forbidden::WritableByOthers);
    assert_eq!(
        chosen.unwrap().start,
        0,
        "a chosen one may be read by others"
    );
}

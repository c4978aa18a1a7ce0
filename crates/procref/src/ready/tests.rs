use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use regex_lite::Regex;
use rustix::event::{PollFd, PollFlags};
use rustix::net::{AddressFamily, SocketType};

use super::*;
use crate::command::log::RotatedLog;

mod notify;

/// A limit that no machine reaches. A passing test never waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// An alarm that is raised when its other end is dropped.
fn alarm() -> (OwnedFd, OwnedFd) {
    crate::descriptor::pipe().unwrap()
}

fn ready() -> Waited {
    Waited::Ready(Notified::default())
}

fn wait(probe: &Probe, limit: Duration) -> Waited {
    let (silent, _kept) = alarm();
    probe.wait(Alarm::only(silent.as_fd()), Instant::now() + limit, "it")
}

/// Asserts that the probe is not ready, and states `last`, given enough time for one attempt.
#[track_caller]
fn is_late(probe: &Probe, last: &str) {
    let mut limit = Duration::from_millis(50);
    loop {
        match wait(probe, limit) {
            Waited::Late {
                waiting_for,
                last: found,
            } if found.contains(last) => {
                assert_eq!(waiting_for, probe.to_string());
                return;
            }
            Waited::Late { last: found, .. } => {
                limit *= 2;
                assert!(limit < PATIENCE / 4, "{found:?}, not {last:?}");
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Reserves a closed port while the socket lives.
fn closed_port() -> (OwnedFd, SocketAddrV4) {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    let any = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
    rustix::net::bind(&socket, &any).unwrap();
    let own = rustix::net::getsockname(&socket).unwrap();
    match std::net::SocketAddr::try_from(own).unwrap() {
        std::net::SocketAddr::V4(address) => (socket, address),
        other => panic!("{other}"),
    }
}

/// Accepts connections one after another, and sends these answers in order. Repeats the last answer.
fn server(answers: Vec<Vec<u8>>) -> SocketAddrV4 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut answers = answers.into_iter().peekable();
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept() {
            let answer = answers.next_if(|_| true).unwrap_or_default();
            if answers.peek().is_none() {
                answers = vec![answer.clone()].into_iter().peekable();
            }
            let mut request = [0; 1024];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(&answer);
            // An empty answer means that the connection stays open without data.
            if answer.is_empty() {
                open.push(stream);
            }
        }
    });
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)
}

/// Only 127.0.0.1, because in these tests other processes may use ::1.
fn addresses(address: SocketAddrV4) -> Addresses {
    Addresses::v4(address.port())
}

fn http(answers: &[&[u8]]) -> Probe {
    Probe::Http {
        addresses: addresses(server(
            answers.iter().map(|answer| answer.to_vec()).collect(),
        )),
        path: "/health".to_owned(),
    }
}

fn shell(script: &str) -> Probe {
    Probe::Command(CommandProbe {
        program: "/bin/sh".into(),
        name: "sh".into(),
        args: vec!["-c".into(), script.into()],
        env: vec![("PATH".into(), "/bin:/usr/bin".into())],
        dir: "/".into(),
    })
}

#[test]
fn tcp_probe_is_ready_when_a_process_accepts() {
    let (socket, address) = closed_port();
    is_late(&Probe::Tcp(addresses(address)), "connection refused");
    let opener = thread::spawn(move || {
        rustix::net::listen(&socket, 8).unwrap();
        socket
    });
    assert_eq!(wait(&Probe::Tcp(addresses(address)), PATIENCE), ready());
    drop(opener.join().unwrap());
}

/// Listens on a port of ::1 that is closed at 127.0.0.1, where the second socket reserves it.
fn v6_server(answer: &'static [u8]) -> (u16, OwnedFd) {
    loop {
        let (kept, address) = closed_port();
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, address.port()));
        let listener = match TcpListener::bind(v6) {
            Ok(listener) => listener,
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => continue,
            Err(error) => panic!("no ::1 here: {error}"),
        };
        thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(answer);
            }
        });
        return (address.port(), kept);
    }
}

#[test]
fn tcp_probe_also_connects_to_the_ipv6_loopback() {
    let (port, _kept) = v6_server(b"HTTP/1.1 204 No Content\r\n\r\n");
    let tcp = Probe::Tcp(Addresses::both(port));
    assert_eq!(
        tcp.to_string(),
        format!("TCP on 127.0.0.1:{port} or [::1]:{port}")
    );
    assert_eq!(wait(&tcp, PATIENCE), ready());
    let (addresses, path) = (Addresses::both(port), "/".to_owned());
    assert_eq!(wait(&Probe::Http { addresses, path }, PATIENCE), ready());
}

#[test]
fn probe_reports_an_answer_rather_than_a_refusal() {
    let (port, _kept) = v6_server(b"HTTP/1.1 503 Service Unavailable\r\n\r\n");
    let (addresses, path) = (Addresses::both(port), "/".to_owned());
    is_late(&Probe::Http { addresses, path }, "HTTP 503");
}

#[test]
fn probe_names_the_address_at_which_a_process_listens() {
    let other = TcpListener::bind("127.0.0.2:0").unwrap();
    let address = other.local_addr().unwrap();
    let probe = Probe::Tcp(Addresses::v4(address.port()));
    is_late(&probe, &format!("refused (a process listens on {address}"));
    drop(other);
    let (_kept, address) = closed_port();
    let Waited::Late { last, .. } = wait(&Probe::Tcp(addresses(address)), Duration::ZERO) else {
        panic!("no process listens there");
    };
    assert!(!last.contains("listens"), "{last}");
}

#[cfg(target_os = "linux")]
#[test]
fn listening_sockets_are_read_from_proc() {
    let rest = "00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 1 1 0 100 0 0 10 0";
    let port = "1F90";
    let v4 = u32::from_ne_bytes([127, 0, 0, 2]);
    let line = format!("   0: {v4:08X}:{port} {rest}");
    let address = listening::parse(&line).unwrap();
    assert_eq!(address, "127.0.0.2:8080".parse().unwrap());
    let last = u32::from_ne_bytes([0, 0, 0, 1]);
    let v6 = format!("   0: {:024X}{last:08X}:{port} {rest}", 0);
    assert_eq!(listening::parse(&v6), Some("[::1]:8080".parse().unwrap()));
    let connected = line.replace(" 0A ", " 01 ");
    for line in [&connected, "", "0:", "0: x:y z 0A", "0: 0100007F:1F90"] {
        assert_eq!(listening::parse(line), None, "{line}");
    }
}

#[test]
fn self_connection_is_refused_and_frees_the_port() {
    let (socket, address) = closed_port();
    rustix::net::connect(&socket, &address).unwrap();
    assert!(matches!(
        connection::to_somebody_else(socket, address.into()),
        Err(ProbeResult::NotYet(_))
    ));
    let (inet, stream) = (AddressFamily::INET, SocketType::STREAM);
    let service = rustix::net::socket(inet, stream, None).unwrap();
    rustix::net::bind(&service, &address).unwrap();
}

#[test]
fn http_probe_is_ready_when_the_status_is_good() {
    let busy = b"HTTP/1.1 503 Service Unavailable\r\n\r\n";
    assert_eq!(
        wait(&http(&[busy, busy, b"HTTP/1.1 200 OK\r\n\r\n"]), PATIENCE),
        ready()
    );
    let moved = b"HTTP/1.0 302\r\nLocation: /x\r\n\r\n";
    assert_eq!(wait(&http(&[moved]), PATIENCE), ready());
    is_late(&http(&[busy]), "HTTP 503");
    is_late(&http(&[b"HTTP/1.1 404 Not Found\n"]), "HTTP 404");
}

#[test]
fn http_probe_tolerates_any_answer() {
    is_late(&http(&[b"SSH-2.0-OpenSSH_9.6\r\n"]), "not HTTP");
    is_late(&http(&[&vec![b'x'; 1 << 20]]), "not HTTP");
    let endless = [b"HTTP/1.1 200".as_slice(), &vec![b' '; 1 << 20]].concat();
    is_late(&http(&[&endless]), "not HTTP");
    is_late(&http(&[b""]), "does not answer");
    is_late(&http(&[b"HTTP/1.1 20"]), "closed the connection");
    let (_kept, address) = closed_port();
    let (addresses, path) = (addresses(address), "/".to_owned());
    is_late(&Probe::Http { addresses, path }, "connection refused");
}

#[test]
fn status_line_is_parsed_when_it_arrives_in_pieces() {
    use http::{Answer, parse_answer};
    for (bytes, answer) in [
        (&b"HTTP/1.1 200 OK\r\n"[..], Answer::Status(200)),
        (b"HTTP/1.0 399\n", Answer::Status(399)),
        (b"HTTP/1.1 599 x\r\nmore", Answer::Status(599)),
        (b"", Answer::Incomplete),
        (b"HT", Answer::Incomplete),
        (b"HTTP/1.1 200", Answer::Incomplete),
        (b"\n", Answer::Garbage),
        (b"HTTP/2 200\r\n", Answer::Garbage),
        (b"HTTP/1.1\r\n", Answer::Garbage),
        (b"HTTP/1.1 20\r\n", Answer::Garbage),
        (b"HTTP/1.1 2000\r\n", Answer::Garbage),
        (b"HTTP/1.1 099\r\n", Answer::Garbage),
        (b"HTTP/1.1 \xff\xff\xff\r\n", Answer::Garbage),
    ] {
        assert_eq!(parse_answer(bytes), answer, "{bytes:?}");
    }
}

#[test]
fn unix_probe_is_ready_when_a_process_accepts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let probe = Probe::Unix(path.clone());
    is_late(&probe, "not found");
    drop(UnixListener::bind(&path).unwrap());
    is_late(&probe, "connection refused");
    fs::remove_file(&path).unwrap();
    let opener = thread::spawn(move || UnixListener::bind(path).unwrap());
    assert_eq!(wait(&probe, PATIENCE), ready());
    drop(opener.join().unwrap());
}

struct Log {
    dir: tempfile::TempDir,
    writer: File,
}

impl Log {
    /// Creates a log with a line of an earlier run.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let writer = File::options()
            .append(true)
            .create(true)
            .open(dir.path().join("log"))
            .unwrap();
        let mut log = Self { dir, writer };
        log.write(b"ready on port 1\n");
        log
    }

    fn write(&mut self, bytes: &[u8]) {
        self.writer.write_all(bytes).unwrap();
    }

    fn probe(&self, pattern: &str) -> Probe {
        let path = self.dir.path().join("log");
        Probe::Log(LogLines {
            pattern: Regex::new(pattern).unwrap(),
            file: File::open(&path).unwrap(),
            start: self.writer.metadata().unwrap().len(),
            rotated: RotatedLog::of(&path),
            path,
        })
    }
}

#[test]
fn log_probe_is_ready_when_this_run_prints_the_line() {
    let mut log = Log::new();
    let probe = log.probe(r"^ready on port \d+$");
    is_late(&probe, "no output so far (many programs buffer");
    log.write(b"starting\n");
    is_late(&probe, "no such line");
    log.write(b"ready on port 2");
    is_late(&probe, "the last line is incomplete (many programs buffer");
    let writer = thread::spawn(move || {
        log.write(b"\r\n");
        log
    });
    assert_eq!(wait(&probe, PATIENCE), ready());
    drop(writer.join().unwrap());
}

#[test]
fn truncated_log_is_read_from_its_beginning() {
    let mut log = Log::new();
    let probe = log.probe("^up$");
    log.write(b"a line that is longer than what comes\n");
    let mut reading = Progress::default();
    let (silent, _kept) = alarm();
    let watch = ReadinessWait::new(Alarm::only(silent.as_fd()), Instant::now() + PATIENCE);
    assert!(matches!(
        probe.probe(&watch, &mut reading, "it"),
        ProbeResult::NotYet(_)
    ));
    log.writer.set_len(0).unwrap();
    log.write(b"up\n");
    assert!(matches!(
        probe.probe(&watch, &mut reading, "it"),
        ProbeResult::Ready
    ));
}

/// Moves the log to the older part, as a rotation does.
fn rotate(log: &Log) {
    let path = log.dir.path().join("log");
    fs::copy(&path, log.dir.path().join("log.1")).unwrap();
    log.writer.set_len(0).unwrap();
}

#[test]
fn line_that_a_rotation_has_moved_is_found() {
    let (silent, _kept) = alarm();
    let watch = ReadinessWait::new(Alarm::only(silent.as_fd()), Instant::now() + PATIENCE);
    // The new content is shorter or longer than the part that was read.
    for after in ["", "a line that is longer than what was read before it\n"] {
        let mut log = Log::new();
        let probe = log.probe("^ready on port");
        let mut reading = Progress::default();
        let mut is_ready = || matches!(probe.probe(&watch, &mut reading, "it"), ProbeResult::Ready);
        log.write(b"starting\n");
        assert!(!is_ready());
        // The line of an earlier run is also in the older part.
        rotate(&log);
        log.write(after.as_bytes());
        assert!(!is_ready(), "{after}");
        log.write(b"more\nready on port 2\n");
        rotate(&log);
        log.write(after.to_uppercase().as_bytes());
        assert!(is_ready(), "{after}");
    }
}

#[test]
fn line_that_a_rotation_has_moved_before_the_first_read_is_found() {
    let (silent, _kept) = alarm();
    let watch = ReadinessWait::new(Alarm::only(silent.as_fd()), Instant::now() + PATIENCE);
    let mut log = Log::new();
    rotate(&log);
    let probe = log.probe("^ready on port");
    let mut reading = Progress::default();
    let mut is_ready = || matches!(probe.probe(&watch, &mut reading, "it"), ProbeResult::Ready);
    assert!(!is_ready(), "the older part is of an earlier run");
    log.write(b"more\nready on port 2\n");
    rotate(&log);
    assert!(is_ready());
}

#[test]
fn lines_are_complete_however_reads_split_them() {
    let mut partial = Vec::new();
    assert!(lines::split_lines(&mut partial, b"on").is_empty());
    assert_eq!(
        lines::split_lines(&mut partial, b"e\r\n\ntw"),
        [b"one".to_vec(), Vec::new()]
    );
    assert_eq!(lines::split_lines(&mut partial, b"o\n"), [b"two".to_vec()]);
    assert!(partial.is_empty());
    let long = lines::split_lines(&mut partial, &vec![b'x'; 1 << 20]);
    assert_eq!(long.len(), 1, "a line without an end does not accumulate");
    assert!(partial.is_empty());
}

#[test]
fn command_probe_repeats_until_it_succeeds() {
    let dir = tempfile::tempdir().unwrap();
    let count = dir.path().join("count").display().to_string();
    let probe = shell(&format!("echo x >> {count}; test $(wc -l < {count}) -ge 3"));
    assert_eq!(wait(&probe, PATIENCE), ready());
    assert_eq!(fs::read_to_string(&count).unwrap().lines().count(), 3);
    is_late(&shell("exit 3"), "exited with status 3");
    is_late(&shell("kill -9 $$"), "signal 9 (SIGKILL)");
    is_late(&shell("nosuch-program"), "did not find");
}

#[test]
fn command_probe_reports_the_last_lines_of_its_output() {
    is_late(
        &shell("echo 1; echo 2; echo; printf '\\033[1m3'; echo; echo no database >&2; exit 3"),
        "exited with status 3, and printed: 2 |  [1m3 | no database",
    );
    is_late(&shell("exec >&- 2>&-; exit 3"), "exited with status 3");
    // More than a pipe holds. The program would not exit if the pipe were not read.
    let chatty = shell("head -c 1000000 /dev/zero");
    assert_eq!(wait(&chatty, PATIENCE), ready());
}

#[test]
fn command_probe_that_cannot_be_executed_fails_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let script = |name: &str, text: &str, mode: u32| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    for (program, said) in [
        ("/nonexistent".into(), "is missing"),
        (
            script("interpreter", "#!/nonexistent\n", 0o700),
            "interpreter",
        ),
        (script("mode", "#!/bin/sh\n", 0o600), "may execute"),
        (dir.path().to_owned(), "may execute"),
    ] {
        let probe = Probe::Command(CommandProbe {
            program,
            name: "x".into(),
            args: Vec::new(),
            env: Vec::new(),
            dir: "/".into(),
        });
        match wait(&probe, PATIENCE) {
            Waited::Unusable { waiting_for, why } => {
                assert_eq!(waiting_for, probe.to_string());
                assert!(why.contains(said), "{why}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn started_service_must_live_for_100_ms() {
    let begun = Instant::now();
    assert_eq!(wait(&Probe::AtOnce, PATIENCE), ready());
    assert!(begun.elapsed() >= SURVIVAL);
    let (silent, ended) = alarm();
    let ringer = thread::spawn(move || {
        // Raise the alarm during the wait.
        thread::sleep(SURVIVAL / 4);
        drop(ended);
    });
    let waited = Probe::AtOnce.wait(Alarm::only(silent.as_fd()), Instant::now() + PATIENCE, "it");
    assert_eq!(waited, Waited::Alarm);
    ringer.join().unwrap();
    // The start timeout limits this wait, too.
    assert_eq!(wait(&Probe::AtOnce, Duration::ZERO), ready());
}

/// A command that writes its pid and a child's to a file, and does not exit.
fn stubborn(pids: &std::path::Path) -> Probe {
    let pids = pids.display();
    shell(&format!(
        "trap '' TERM; sleep 1000 & echo $$ $! > {pids}.tmp; mv {pids}.tmp {pids}; wait"
    ))
}

#[track_caller]
fn are_gone(pids: &std::path::Path) {
    let text = fs::read_to_string(pids).unwrap();
    for pid in text.split_whitespace() {
        let pid = pid.parse().unwrap();
        let begun = Instant::now();
        while crate::process::is_alive(pid) {
            assert!(begun.elapsed() < PATIENCE, "process {pid} is still alive");
            thread::yield_now();
        }
    }
}

#[test]
fn command_probe_is_killed_with_its_children_after_its_limit() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    let (silent, _kept) = alarm();
    let deadline = Instant::now() + Duration::from_secs(1);
    let waited = stubborn(&pids).wait(Alarm::only(silent.as_fd()), deadline, "it");
    match waited {
        Waited::Late { last, .. } => assert!(last.contains("did not end"), "{last}"),
        other => panic!("{other:?}"),
    }
    are_gone(&pids);
}

#[test]
fn command_probe_is_killed_by_the_alarm() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    let (heard, kept) = alarm();
    let seen = pids.clone();
    let ringer = thread::spawn(move || {
        while !seen.exists() {
            thread::yield_now();
        }
        drop(kept);
    });
    let deadline = Instant::now() + PATIENCE;
    let waited = stubborn(&pids).wait(Alarm::only(heard.as_fd()), deadline, "it");
    assert_eq!(waited, Waited::Alarm);
    ringer.join().unwrap();
    are_gone(&pids);
}

#[test]
fn alarm_ends_every_probe_at_once() {
    let (_kept, address) = closed_port();
    let log = Log::new();
    let (socket, _) = NotifySocket::new().unwrap();
    let open = TcpListener::bind("127.0.0.1:0").unwrap();
    let open = match open.local_addr().unwrap() {
        std::net::SocketAddr::V4(address) => (open, address),
        other => panic!("{other}"),
    };
    for probe in [
        Probe::Tcp(addresses(address)),
        Probe::Tcp(addresses(open.1)),
        http(&[b""]),
        Probe::Unix("/nonexistent".into()),
        log.probe("never"),
        shell("sleep 1000"),
        Probe::Notify(socket),
        Probe::AtOnce,
    ] {
        let (heard, kept) = alarm();
        let ringer = thread::spawn(move || {
            // No event shows that the other thread has begun to wait.
            thread::sleep(Duration::from_millis(20));
            drop(kept);
        });
        let begun = Instant::now();
        let waited = probe.wait(Alarm::only(heard.as_fd()), begun + PATIENCE, "it");
        let immediate = matches!(&probe, Probe::AtOnce)
            || matches!(&probe, Probe::Tcp(asked) if *asked == addresses(open.1));
        if !immediate {
            assert_eq!(waited, Waited::Alarm, "{probe}");
        }
        ringer.join().unwrap();
        // A child that another test forks may keep the other end for a moment.
        let mut raised = [PollFd::new(&heard, PollFlags::IN)];
        rustix::event::poll(&mut raised, None).unwrap();
        // The alarm is raised, and takes precedence.
        let waited = probe.wait(Alarm::only(heard.as_fd()), begun + PATIENCE, "it");
        assert_eq!(waited, Waited::Alarm, "{probe}");
        assert!(begun.elapsed() < PATIENCE / 2, "{probe}");
    }
}

#[test]
fn byte_in_the_alarm_pipe_is_an_alarm() {
    let (heard, kept) = alarm();
    rustix::io::write(&kept, b"x").unwrap();
    let (_closed, address) = closed_port();
    let deadline = Instant::now() + PATIENCE;
    let waited = Probe::Tcp(addresses(address)).wait(Alarm::only(heard.as_fd()), deadline, "it");
    assert_eq!(waited, Waited::Alarm);
}

#[test]
fn callback_probe_is_ready_even_after_the_deadline() {
    assert_eq!(wait(&Probe::AtOnce, Duration::ZERO), ready());
    let asked = Ready::callback(|info: &ServiceInfo| {
        let port = info.port();
        async move { port == 80 }
    });
    let Kind::Callback(callback) = asked.0 else {
        panic!("{asked:?}");
    };
    let probe = Probe::Callback(callback);
    assert_eq!(wait(&probe, Duration::ZERO), ready());
    let callback = probe.callback().unwrap();
    assert!(pollster::block_on(callback(&ServiceInfo::new(1, 80))));
    assert!(!pollster::block_on(callback(&ServiceInfo::new(1, 81))));
    assert!(Probe::AtOnce.callback().is_none());
}

#[test]
fn condition_is_checked_until_it_holds() {
    let (silent, _kept) = alarm();
    let info = ServiceInfo::new(7, 8);
    let (pid, checks) = (info.pid(), Arc::new(AtomicU32::new(0)));
    let counted = Arc::clone(&checks);
    let third = Condition::new(move |info| {
        assert_eq!(info.pid(), pid);
        counted.fetch_add(1, Ordering::Relaxed) == 2
    });
    let end = Instant::now() + PATIENCE;
    assert_eq!(third.wait(&info, Alarm::only(silent.as_fd()), end), ready());
    assert_eq!(checks.load(Ordering::Relaxed), 3);
}

#[test]
fn unmet_condition_ends_with_the_alarm_or_the_deadline() {
    let never = Condition::new(|_| false);
    let info = ServiceInfo::new(7, 8);
    let (silent, kept) = alarm();
    let late = never.wait(&info, Alarm::only(silent.as_fd()), Instant::now());
    assert!(matches!(late, Waited::Late { .. }), "{late:?}");
    drop(kept);
    let end = Instant::now() + PATIENCE;
    assert_eq!(
        never.wait(&info, Alarm::only(silent.as_fd()), end),
        Waited::Alarm
    );
}

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Command, Stdio};

use super::*;

/// The service of the next test, run as a separate process.
#[test]
fn notifying_child() {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let name = name.into_encoded_bytes();
    let address = SocketAddr::from_abstract_name(name.strip_prefix(b"@").unwrap()).unwrap();
    let socket = UnixDatagram::unbound().unwrap();
    for message in [
        "",
        "garbage\n=\n\u{1f418}",
        "STATUS=loading\nREADY=0",
        "READY=1\nSTATUS=up",
    ] {
        socket.send_to_addr(message.as_bytes(), &address).unwrap();
    }
}

#[test]
fn notification_of_another_process_makes_the_service_ready() {
    let (socket, name) = notify_socket().unwrap();
    let probe = Probe::Notify(socket);
    is_late(&probe, "no message so far");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "ready::tests::notify::notifying_child"])
        .env("NOTIFY_SOCKET", &name)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    assert_eq!(wait(&probe, PATIENCE), Waited::Ready);
    assert!(child.wait().unwrap().success());
}

#[test]
fn status_is_reported_when_the_service_is_not_ready_in_time() {
    let (socket, name) = notify_socket().unwrap();
    let name = name.into_encoded_bytes();
    let address = SocketAddr::from_abstract_name(&name[1..]).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    sender.send_to_addr(b"STATUS=loading", &address).unwrap();
    is_late(&Probe::Notify(socket), "\"loading\"");
}

#[test]
fn notification_of_another_user_is_ignored() {
    let (socket, name) = notify_socket().unwrap();
    let name = name.into_encoded_bytes();
    let other = rustix::process::Uid::from_raw(65534);
    assert!(!crate::ready::notify::may_speak(other));
    // Only root can change its user temporarily, and only in one thread.
    if rustix::process::geteuid().is_root() {
        let sender = thread::spawn(move || {
            rustix::thread::set_thread_uid(other).unwrap();
            let address = SocketAddr::from_abstract_name(&name[1..]).unwrap();
            let socket = UnixDatagram::unbound().unwrap();
            socket.send_to_addr(b"READY=1", &address).unwrap();
        });
        sender.join().unwrap();
    }
    is_late(&Probe::Notify(socket), "no message so far");
}

#[test]
fn notification_is_parsed_line_by_line() {
    use crate::ready::notify::{Message, parse};
    let message = |ready, status: Option<&str>| Message {
        ready,
        status: status.map(str::to_owned),
    };
    for (datagram, parsed) in [
        (&b"READY=1"[..], message(true, None)),
        (b"STATUS=a=b\nREADY=1\n", message(true, Some("a=b"))),
        (b"READY=0", message(false, None)),
        (b"READY=11\nXREADY=1\n READY=1", message(false, None)),
        (b"", message(false, None)),
        (b"STATUS=\xff", message(false, Some("\u{fffd}"))),
        (b"\0\n\n=", message(false, None)),
    ] {
        assert_eq!(parse(datagram), parsed, "{datagram:?}");
    }
}

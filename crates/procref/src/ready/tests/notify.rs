use std::ffi::OsStr;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Command, Stdio};

use super::*;

/// Returns the address that the value of `NOTIFY_SOCKET` names.
fn address(name: &OsStr) -> SocketAddr {
    #[cfg(target_os = "linux")]
    {
        use std::os::linux::net::SocketAddrExt as _;

        let name = name.as_encoded_bytes().strip_prefix(b"@").unwrap();
        SocketAddr::from_abstract_name(name).unwrap()
    }
    #[cfg(target_os = "macos")]
    SocketAddr::from_pathname(name).unwrap()
}

/// The service of the next test, run as a separate process.
#[test]
fn notifying_child() {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let address = address(&name);
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
    let (socket, name) = NotifySocket::new().unwrap();
    let probe = Probe::Notify(socket);
    is_late(&probe, "no message so far");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "ready::tests::notify::notifying_child"])
        .env("NOTIFY_SOCKET", &name)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    assert_eq!(wait(&probe, PATIENCE), ready());
    assert!(child.wait().unwrap().success());
}

#[test]
fn status_is_reported_when_the_service_is_not_ready_in_time() {
    let (socket, name) = NotifySocket::new().unwrap();
    let address = address(&name);
    let sender = UnixDatagram::unbound().unwrap();
    sender.send_to_addr(b"STATUS=loading", &address).unwrap();
    is_late(&Probe::Notify(socket), "\"loading\"");
}

#[cfg(target_os = "linux")]
#[test]
fn notification_of_another_user_is_ignored() {
    let (socket, name) = NotifySocket::new().unwrap();
    let other = rustix::process::Uid::from_raw(65534);
    assert!(!crate::ready::notify::may_speak(other));
    // Only root can change its user temporarily, and only in one thread.
    if rustix::process::geteuid().is_root() {
        let sender = thread::spawn(move || {
            rustix::thread::set_thread_uid(other).unwrap();
            let address = address(&name);
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
        ..Message::default()
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
        assert_eq!(parse(datagram), Ok(parsed), "{datagram:?}");
    }
}

/// Returns the result of a service that sends these messages.
fn wait_for(messages: &[&[u8]]) -> Waited {
    let (socket, name) = NotifySocket::new().unwrap();
    let address = address(&name);
    let probe = Probe::Notify(socket);
    thread::scope(|scope| {
        // The queue of the socket does not have room for all messages. A send fails after the socket is closed.
        scope.spawn(|| {
            let sender = UnixDatagram::unbound().unwrap();
            for message in messages {
                let _ = sender.send_to_addr(message, &address);
            }
        });
        let waited = wait(&probe, PATIENCE);
        drop(probe);
        waited
    })
}

fn notified(port: Option<u16>, metadata: &[(&str, &str)]) -> Notified {
    let pairs = metadata.iter();
    let pairs = pairs.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Notified {
        port,
        metadata: pairs.collect(),
    }
}

#[test]
fn values_of_a_notification_are_returned_with_readiness() {
    for (messages, values) in [
        (
            &[&b"PROCREF_PORT=80\nREADY=1\nPROCREF_META_a=b=c"[..]][..],
            notified(Some(80), &[("a", "b=c")]),
        ),
        // Values may arrive before `READY=1`, and later values replace earlier ones.
        (
            &[
                b"PROCREF_PORT=1\nPROCREF_META_a=1\nPROCREF_META_b=",
                b"PROCREF_PORT=65535\nPROCREF_META_a=2",
                b"READY=1",
            ],
            notified(Some(65535), &[("a", "2"), ("b", "")]),
        ),
        // No message after `READY=1` counts.
        (
            &[b"READY=1\nPROCREF_PORT=1", b"READY=1\nPROCREF_PORT=2"],
            notified(Some(1), &[]),
        ),
        // Unknown variables are ignored.
        (
            &[b"PROCREF_PORTS=x\nPROCREF_META\nMAINPID=1\nREADY=1"],
            notified(None, &[]),
        ),
        (
            &["PROCREF_META_Key_1=gr\u{fc}n \u{1f418}\nREADY=1".as_bytes()],
            notified(None, &[("Key_1", "gr\u{fc}n \u{1f418}")]),
        ),
    ] {
        assert_eq!(wait_for(messages), Waited::Ready(values), "{messages:?}");
    }
}

#[test]
fn invalid_value_in_a_notification_is_an_error_that_names_it() {
    let long = [b"PROCREF_META_a=".as_slice(), &[b'x'; 64 * 1024]].concat();
    let large = |key: u8| [b"PROCREF_META_", &[key][..], b"=", &[b'x'; 65_000]].concat();
    let large: Vec<Vec<u8>> = (b'a'..=b'z').map(large).collect();
    let large: Vec<&[u8]> = large.iter().map(Vec::as_slice).collect();
    let port = "a port is a number from 1 to 65535";
    let key = "a key consists of ASCII letters, digits and `_`";
    for (messages, reason) in [
        (
            &[&b"PROCREF_PORT=0"[..]][..],
            format!("`PROCREF_PORT=0`: {port}"),
        ),
        (
            &[b"READY=1\nPROCREF_PORT=70000"],
            format!("`PROCREF_PORT=70000`: {port}"),
        ),
        (&[b"PROCREF_PORT="], format!("`PROCREF_PORT=`: {port}")),
        (
            &[b"PROCREF_PORT=+80"],
            format!("`PROCREF_PORT=+80`: {port}"),
        ),
        (
            &[b"PROCREF_PORT= 80"],
            format!("`PROCREF_PORT= 80`: {port}"),
        ),
        (
            &[b"PROCREF_PORT=\xff"],
            format!("`PROCREF_PORT=\\xff`: {port}"),
        ),
        (&[b"PROCREF_META_=x"], format!("`PROCREF_META_=x`: {key}")),
        (
            &[b"PROCREF_META_a b=x"],
            format!("`PROCREF_META_a b=x`: {key}"),
        ),
        (
            &[b"PROCREF_META_\xc3\xbc=x"],
            format!("`PROCREF_META_\\xc3\\xbc=x`: {key}"),
        ),
        (
            &[b"PROCREF_META_a=\xff"],
            "`PROCREF_META_a=\\xff`: the value is not valid UTF-8".to_owned(),
        ),
        (
            &[b"PROCREF_META_a=\0"],
            "`PROCREF_META_a=\\x00`: the value contains a NUL byte".to_owned(),
        ),
        (
            &[b"PROCREF_PORT=1\nPROCREF_PORT=1"],
            "`PROCREF_PORT=1`: the message contains this variable twice".to_owned(),
        ),
        (
            &[b"PROCREF_META_a=1\nREADY=1\nPROCREF_META_a=2"],
            "`PROCREF_META_a=2`: the message contains this variable twice".to_owned(),
        ),
        (&[&long], "the message is longer than 64 KiB".to_owned()),
        (
            &large,
            "all metadata together is larger than 1 MiB".to_owned(),
        ),
    ] {
        assert_eq!(wait_for(messages), Waited::Invalid(reason), "{messages:?}");
    }
}

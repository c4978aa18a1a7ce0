//! State files, sockets and messages that no procref has written.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use super::*;
use crate::error::Error;
use crate::kernel::counted::sys;
use crate::kernel::counted::wire::{ANSWER_LENGTH, Answer, Call, Reply, Request};

/// Returns the reason why an object with this state file cannot be opened.
fn refusal(home: &Home) -> String {
    match home.open() {
        Err(error @ Error::Foreign { .. }) => error.to_string(),
        Err(error) => panic!("another error: {error}"),
        Ok(_) => panic!("the file was accepted"),
    }
}

#[test]
fn state_file_of_another_kind_is_refused_and_stays() {
    let home = Home::new("foreign");
    let path: &Path = &home.place.state;
    let set_mode = |mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let target = path.with_extension("target");
    fs::write(&target, "").unwrap();
    symlink(&target, path).unwrap();
    assert!(
        refusal(&home).contains("symbolic link"),
        "{}",
        refusal(&home)
    );
    fs::remove_file(path).unwrap();
    fs::remove_file(&target).unwrap();

    fs::create_dir(path).unwrap();
    assert!(refusal(&home).contains("directory"), "{}", refusal(&home));
    fs::remove_dir(path).unwrap();

    for (bytes, mode, expected) in [
        (&b""[..], 0o644, "other users have access (mode 0644)"),
        (
            b"[Unit]\nDescription=x\n",
            0o600,
            "not a state file of procref",
        ),
        (b"\x22fercorp", 0o600, "another version of procref"),
    ] {
        let mut bytes = bytes.to_vec();
        if !bytes.is_empty() {
            bytes.resize(8192, 0);
        }
        fs::write(path, &bytes).unwrap();
        set_mode(mode);
        let reason = refusal(&home);
        assert!(reason.contains(expected), "{reason}");
        assert_eq!(fs::read(path).unwrap(), bytes);
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn state_file_of_wrong_size_is_an_error_and_of_another_boot_is_void() {
    let home = Home::new("void");
    let path: &Path = &home.place.state;
    let object = home.object();
    let ask = |object: &CountedObject, ask: &str| pollster::block_on(perform(object, ask));
    assert_eq!(ask(&object, "enter"), "true");
    let keeper = keeper_of(&home.place).unwrap();
    let good = fs::read(path).unwrap();
    assert!(kill_keeper(&home.place) && !keeper.is_alive());
    let file = fs::File::options().write(true).open(path).unwrap();
    for size in [16, 4096, 1 << 30] {
        file.set_len(size).unwrap();
        let reason = refusal(&home);
        assert!(reason.contains("wrong size"), "{size}: {reason}");
    }
    fs::write(path, &good).unwrap();
    assert_eq!(ask(&object, "unlock"), "done", "the file is usable again");
    assert!(kill_keeper(&home.place));
    let mut other = good;
    other[32] ^= 1;
    fs::write(path, &other).unwrap();
    let fresh = home.object();
    let blank = "clients 0, locked false, pinned false, claimed false, instance false";
    assert_eq!(ask(&fresh, "snapshot"), blank);
    assert_eq!(ask(&fresh, "enter"), "true");
    assert_eq!(ask(&fresh, "remove"), "done");
}

#[test]
fn socket_that_is_stale_or_squatted_is_replaced() {
    let home = Home::new("socket");
    let squatter = std::os::unix::net::UnixListener::bind(&home.place.socket).unwrap();
    let object = home.object();
    let ask = |object: &CountedObject, ask: &str| pollster::block_on(perform(object, ask));
    assert_eq!(ask(&object, "enter"), "true");
    drop(squatter);
    assert!(kill_keeper(&home.place));
    assert!(home.place.socket.exists());
    assert_eq!(ask(&object, "unlock"), "done");
    assert_eq!(ask(&object, "remove"), "done");
}

/// Sends bytes to the keeper, and returns the reply. `None` if the keeper closes the connection.
fn raw(socket: &std::os::fd::OwnedFd, bytes: &[u8]) -> Option<Answer> {
    sys::send_all(socket, bytes).ok()?;
    let mut answer = [0; ANSWER_LENGTH];
    let mut filled = 0;
    while filled < answer.len() {
        match sys::receive(socket, &mut answer[filled..]) {
            Ok(received) if received > 0 => filled += received,
            _ => return None,
        }
    }
    Answer::decode(&answer)
}

#[test]
fn g5_keeper_believes_no_message_about_its_sender() {
    let home = Home::new("raw");
    let object = home.object();
    let connect = || sys::connect(&state::socket(&fs::read(&home.place.state).unwrap())).unwrap();
    let own = Process::open(std::process::id()).unwrap().identity().start;
    let request = |call| {
        let seq = u64::from(matches!(call, Call::Operate(_) | Call::Remove));
        let nonce = 77;
        Request { nonce, seq, call }.encode()
    };
    let enter = request(Call::Operate(crate::kernel::semset::steps::ENTER.to_vec()));
    let reply = |socket, bytes: &[u8]| raw(socket, bytes).map(|it| it.reply);

    let socket = connect();
    assert_eq!(reply(&socket, &enter), Some(Reply::HelloFirst));
    let lie = request(Call::Hello { start: own + 1 });
    assert_eq!(reply(&socket, &lie), Some(Reply::Unidentified));
    assert_eq!(reply(&socket, &enter), Some(Reply::HelloFirst));

    let mut other = request(Call::Hello { start: own });
    other[0] += 1;
    let answer = raw(&connect(), &other).unwrap();
    assert_eq!((answer.reply, answer.arg), (Reply::OtherVersion, 1));

    // Every other misuse ends the connection.
    let hello = request(Call::Hello { start: own });
    let sleep = request(Call::Wait(crate::kernel::semset::steps::LOCK.to_vec()));
    let mut long = enter.to_vec();
    long[24] = 200;
    let mut noise = [0xff; 112];
    noise[..4].copy_from_slice(&enter[..4]);
    for bytes in [&noise[..], &long, &sleep] {
        let socket = connect();
        let first = raw(&socket, &hello).unwrap();
        assert_eq!(
            (first.reply, first.arg),
            (Reply::Done, keeper_of(&home.place).unwrap().pid())
        );
        // The rest of the answer to HELLO.
        assert_eq!(sys::receive(&socket, &mut [0; 32]).unwrap(), 32);
        assert_eq!(raw(&socket, bytes), None);
    }
    // A request may arrive in pieces.
    let socket = connect();
    sys::send_all(&socket, &enter[..50]).unwrap();
    assert_eq!(reply(&socket, &enter[50..]), Some(Reply::HelloFirst));
    let state = pollster::block_on(perform(&object, "snapshot"));
    assert!(state.starts_with("clients 0, locked false,"), "{state}");
}

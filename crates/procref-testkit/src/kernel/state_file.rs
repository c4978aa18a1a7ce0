//! Reads the state files of keepers, and asks a keeper for its sleepers, without the library.
//!
//! The layout is described in `kernel/counted/state.rs` and `wire.rs` of procref.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::Set;
use crate::observe::Identity;

/// The number of slots of an object.
const SLOTS: usize = 130;
/// Offsets in a state file, in words of 64 bits.
const COMMITTED: usize = 1;
const APPLIED: usize = 2;
const REMOVED: usize = 3;
const KEEPER: usize = 5;
const VALUES: usize = 128;
const SOCKET: usize = 226;
const SOCKET_WORDS: usize = 13;

/// The paths of the state files whose keys this process knows.
static PATHS: Mutex<Option<HashMap<i32, PathBuf>>> = Mutex::new(None);

/// Returns the key for a state file: a number that this process derives from the path.
pub(super) fn key_of(path: &str) -> i32 {
    // FNV-1a.
    let hash = path.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let key = i32::from_ne_bytes(hash.to_ne_bytes());
    let mut paths = PATHS.lock().unwrap_or_else(PoisonError::into_inner);
    paths.get_or_insert_default().insert(key, path.into());
    key
}

/// Returns the path of the state file with this key. Returns `None` if the key is that of a semaphore set.
pub(super) fn path_of(key: i32) -> Option<PathBuf> {
    let paths = PATHS.lock().unwrap_or_else(PoisonError::into_inner);
    paths.as_ref()?.get(&key).cloned()
}

/// Returns the object in a state file. Returns `None` if the file is missing, or if its object is removed or blank.
pub(super) fn find(key: i32, path: &Path) -> Option<Set> {
    let metadata = fs::symlink_metadata(path).ok()?;
    let words = read(path)?;
    let is_blank = values(&words).iter().all(|&value| value == 0);
    let exists = words[REMOVED] == 0 && !is_blank;
    exists.then(|| Set {
        key,
        id: metadata.ino() as i32,
        mode: metadata.mode() & 0o7777,
        len: SLOTS,
        uid: metadata.uid(),
        state: Some(path.to_owned()),
    })
}

/// Returns the value of a slot.
pub(super) fn value(path: &Path, slot: usize) -> io::Result<u32> {
    let words = read(path).ok_or(io::ErrorKind::NotFound)?;
    match words[REMOVED] {
        0 => Ok(values(&words)[slot].into()),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

/// Kills the keeper, and sets the value of a slot.
pub(super) fn set_value(path: &Path, slot: usize, value: u16) -> io::Result<()> {
    let words = read(path).ok_or(io::ErrorKind::NotFound)?;
    let keeper = Identity {
        pid: words[KEEPER] as u32,
        start: words[KEEPER + 1],
    };
    keeper.kill();
    keeper.wait_exit();
    let file = fs::File::options().write(true).open(path)?;
    let at = 8 * VALUES + 2 * slot;
    file.write_all_at(&value.to_le_bytes(), at as u64)
}

/// Removes a state file, and its socket.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path.with_extension("s")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::remove_file(path),
    }
}

fn values(words: &[u64]) -> [u16; SLOTS] {
    std::array::from_fn(|slot| (words[VALUES + slot / 4] >> (16 * (slot % 4))) as u16)
}

/// Reads the words of a file between two changes. A keeper that was killed in a change leaves the file in between, and
/// this returns what the file has then.
fn read(path: &Path) -> Option<Vec<u64>> {
    for _ in 0..1000 {
        let bytes = fs::read(path).ok()?;
        let words: Vec<u64> = bytes
            .chunks_exact(8)
            .map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")))
            .collect();
        if words.len() <= SOCKET + SOCKET_WORDS {
            return None;
        }
        let again = fs::read(path).ok()?;
        if words[COMMITTED] == words[APPLIED] && again.get(8..24) == bytes.get(8..24) {
            return Some(words);
        }
    }
    let bytes = fs::read(path).ok()?;
    let words = bytes.chunks_exact(8);
    Some(
        words
            .map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")))
            .collect(),
    )
}

/// Returns the number of processes that sleep until a slot is 0 or more, as the keeper counts them.
pub(super) fn sleepers(path: &Path, slot: usize) -> io::Result<u32> {
    let words = read(path).ok_or(io::ErrorKind::NotFound)?;
    let socket: Vec<u8> = words[SOCKET..SOCKET + SOCKET_WORDS]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .take_while(|&byte| byte != 0)
        .collect();
    let socket = String::from_utf8(socket).map_err(io::Error::other)?;
    let mut connection = UnixStream::connect(socket)?;
    // A suspended keeper does not answer.
    connection.set_read_timeout(Some(Duration::from_secs(10)))?;
    ask(&mut connection, 1, 0, Identity::own().start, 32)?;
    let slot = u32::try_from(slot).map_err(io::Error::other)?;
    ask(&mut connection, 5, slot, 0, 4 * SLOTS + 8)
}

/// Sends a request, reads the answer with its payload, and returns the argument of the answer.
fn ask(
    connection: &mut UnixStream,
    kind: u32,
    arg: u32,
    number: u64,
    payload: usize,
) -> io::Result<u32> {
    let mut request = Vec::new();
    request.extend(1_u32.to_le_bytes()); // version
    request.extend(kind.to_le_bytes());
    request.extend(u64::MAX.to_le_bytes()); // nonce
    request.extend(0_u64.to_le_bytes()); // number of the change
    request.extend(0_u32.to_le_bytes()); // number of operations
    request.extend(arg.to_le_bytes());
    request.extend([0; 72]);
    request.extend(number.to_le_bytes());
    connection.write_all(&request)?;
    let mut answer = [0; 16];
    connection.read_exact(&mut answer)?;
    let [reply, arg] =
        [8, 12].map(|at| u32::from_le_bytes(answer[at..at + 4].try_into().expect("four bytes")));
    if reply != 1 {
        return Err(io::Error::other(format!("the keeper answers {reply}")));
    }
    connection.read_exact(&mut vec![0; payload])?;
    Ok(arg)
}

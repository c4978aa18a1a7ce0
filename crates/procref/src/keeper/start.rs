//! The start of a keeper, from the lock to its loop.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Keeper;
use super::shared::Files;
use crate::kernel::counted::mapped::Mapped;
use crate::kernel::counted::state::{Condition, State, condition};
use crate::kernel::counted::sys;
use crate::process::Process;

/// The exit code after an error. The files stay as they are, and the next client starts a successor.
pub(super) const FAILED: i32 = 70;

/// Becomes the keeper of an object, and returns the exit code of this process.
pub(super) fn run(state: PathBuf, socket: PathBuf, file: OwnedFd, ready: OwnedFd) -> i32 {
    match serve(state, socket, file, ready) {
        Ok(()) => 0,
        Err(_) => FAILED,
    }
}

fn serve(state: PathBuf, socket: PathBuf, file: OwnedFd, ready: OwnedFd) -> io::Result<()> {
    let id = sys::id_of(&file)?;
    // Another keeper is alive, or the file belongs to an object that was removed.
    if !sys::lock(&file)? || !sys::leads_to(&state, id) {
        return Ok(());
    }
    #[cfg(test)]
    arm_death();
    raise_descriptor_limit();
    let own = Process::find(std::process::id()).map_err(io::Error::other)?;
    let own = own.ok_or(io::ErrorKind::NotFound)?.identity();
    let boot = sys::boot()?;
    let memory = Mapped::new(file)?;
    if condition(&memory, boot) == Ok(Condition::Removed) {
        // The keeper died between the removal and the unlinking.
        let _ = fs::remove_file(&socket);
        return fs::remove_file(&state);
    }
    let unusable = |_| io::Error::from(io::ErrorKind::InvalidData);
    let opened = State::open(memory, boot).map_err(unusable)?;
    // The socket of a keeper that has died.
    match fs::remove_file(&socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = sys::listen(&socket)?;
    let files = Files::new(state, id, socket)?;
    let mut keeper = Keeper::recover(own, files, opened, listener)?;
    keeper.name_in_file();
    let _ = sys::send_now(&ready, &[1]);
    keeper.await_starter(ready)?;
    keeper.run()
}

/// Each client needs one or two descriptors, and the usual limit is 1024, on macOS 256.
fn raise_descriptor_limit() {
    /// The kernel of macOS refuses more, although it reports no maximum: `OPEN_MAX`.
    const MOST: u64 = 10_240;

    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let current = match cfg!(target_os = "macos") {
        true => Some(maximum.unwrap_or(MOST).min(MOST)),
        false => maximum,
    };
    let _ = setrlimit(Resource::Nofile, Rlimit { current, maximum });
}

/// Dies at the store that a test has chosen.
#[cfg(test)]
fn arm_death() {
    use crate::kernel::counted::{helper, mapped::store_point};

    let stores = std::env::var(helper::tests::DIES).ok();
    store_point::arm(stores.and_then(|it| it.parse().ok()).unwrap_or(0));
}

//! State files that contain nothing, which `gc` removes.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::thread;

use super::*;
use crate::descriptor;
use crate::kernel::counted::open::UnusedFile;
use crate::kernel::counted::sys::{self, OpenFileLock};

/// Starts a keeper, and returns the starter's end of their socket if the keeper serves. Returns `None` if it has exited.
fn start_keeper(place: &Place) -> Option<OwnedFd> {
    let program = std::env::current_exe().unwrap();
    let file = sys::open(&place.state, false).unwrap().unwrap();
    let (ready, theirs) = descriptor::socket_pair().unwrap();
    helper::start(&program, place, file, theirs).unwrap();
    let serves = sys::receive(ready.as_fd(), &mut [0]).unwrap() > 0;
    serves.then_some(ready)
}

fn keeper_serves(place: &Place) -> bool {
    start_keeper(place).is_some()
}

/// Returns a service whose keeper was killed before the object had any contents.
fn unused(name: &str) -> Home {
    let home = Home::new(name);
    let object = home.object();
    assert!(kill_keeper(&home.place));
    drop(object);
    home
}

/// Locks an unused file. A child that another test has forked keeps the mark of this process until it executes a program.
fn locked(path: &Path) -> UnusedFile<'_> {
    let begun = Instant::now();
    loop {
        if let Some(locked) = UnusedFile::lock(path) {
            return locked;
        }
        assert!(begun.elapsed() < EXIT_LIMIT, "it stays marked");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn g1_keeper_does_not_serve_a_file_that_gc_removes() {
    let home = unused("swept");
    let path = &home.place.state;
    let locked = locked(path);
    // As another thread that opens the service, or another copy of this library in the process.
    thread::scope(|scope| scope.spawn(|| drop(File::open(path).unwrap())).join()).unwrap();
    assert!(!keeper_serves(&home.place));
    locked.remove();
    assert!(!path.exists() && !home.place.socket.exists());
    let object = home.object();
    let ask = |ask: &str| pollster::block_on(perform(&object, ask));
    assert_eq!(ask("enter"), "true");
    assert_eq!(ask("remove"), "done");
}

#[test]
fn file_that_gc_has_locked_has_no_keeper_that_a_client_could_signal() {
    let home = unused("locked");
    let path = &home.place.state;
    let other = File::open(path).unwrap();
    let locked = locked(path);
    assert_eq!(sys::lock_holder(&other).unwrap(), Some(0));
    assert!(UnusedFile::lock(path).is_none());
    drop(locked);
    assert_eq!(sys::lock_holder(&other).unwrap(), None);
    UnusedFile::lock(path).expect("the mark ends, too").remove();
}

#[test]
fn file_for_which_a_client_starts_a_keeper_is_not_unused() {
    let home = unused("marked");
    let path = &home.place.state;
    drop(locked(path));
    let starter = File::open(path).unwrap();
    assert!(sys::mark_starting(&starter));
    assert!(UnusedFile::lock(path).is_none());
    drop(starter);
    locked(path).remove();
}

/// A child that another thread forks has the same open file.
#[test]
fn lock_of_an_open_file_ends_while_a_child_has_the_file() {
    let home = unused("child");
    let file = File::from(sys::open(&home.place.state, false).unwrap().unwrap());
    let inherited = file.try_clone().unwrap();
    drop(locked(&home.place.state));
    let lock = OpenFileLock::take(file).expect("a file without a lock");
    assert!(!keeper_serves(&home.place));
    drop(lock);
    assert!(keeper_serves(&home.place));
    drop(inherited);
}

#[test]
fn file_of_a_living_keeper_is_not_unused() {
    let home = Home::new("living");
    let object = home.object();
    assert!(UnusedFile::lock(&home.place.state).is_none());
    let ask = |ask: &str| pollster::block_on(perform(&object, ask));
    assert_eq!(ask("enter"), "true");
    assert!(kill_keeper(&home.place));
    assert!(
        UnusedFile::lock(&home.place.state).is_none(),
        "it is locked by a client"
    );
    assert_eq!(ask("remove"), "done");
}

/// The starter may run only much later, on a busy machine.
#[test]
fn keeper_of_a_blank_object_waits_for_its_starter() {
    let home = unused("starter");
    let starter = start_keeper(&home.place).expect("a keeper that serves");
    let keeper = keeper_of(&home.place).unwrap();
    let longer_than_blank = Duration::from_millis(250);
    assert!(!keeper.wait(longer_than_blank).unwrap());
    drop(starter);
    assert!(keeper.wait(EXIT_LIMIT).unwrap());
    assert!(!home.place.state.exists() && !home.place.socket.exists());
}

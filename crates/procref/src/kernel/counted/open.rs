//! Opening an object: connect to its keeper, and start one if there is none.
//!
//! A keeper holds a lock on the state file as long as it lives. A client that finds the lock free starts a keeper, and
//! every client connects to the socket whose path is in the file. If several clients start keepers at the same moment,
//! the one that gets the lock stays, and the others exit.
//!
//! The client does not take the lock itself. If it did, and passed the lock to the keeper, a child that another thread
//! forks at this moment would hold the lock, too, and no successor could get it after the death of the keeper.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::thread;
use std::time::{Duration, Instant};

use super::channel::Channel;
use super::helper;
use super::place::Place;
use super::state::{self, Condition, HEADER_LENGTH, Unusable};
use super::sys::{self, FileId};
use super::wire::{Reply, VERSION};
use crate::descriptor;
use crate::file::{check_private, read_at};
use crate::kernel::Missing;
use crate::process::{Identity, Process};

/// The time after which a client gives up if it finds no keeper and cannot start one.
pub(super) const START_LIMIT: Duration = Duration::from_secs(10);

/// The time after which a client that has started a keeper tries again.
const READY_LIMIT: Duration = Duration::from_secs(1);

/// The time for which a client waits for a keeper that another client is starting.
const STARTING: Duration = Duration::from_millis(100);

/// The first and the longest time between two attempts.
const RETRY_AFTER: [Duration; 2] = [Duration::from_micros(300), Duration::from_millis(2)];

/// The reason why an object cannot be opened.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The file belongs to another user or program.
    Foreign(String),
    /// A system call or the keeper failed. The text says what to do.
    Failed { advice: String, source: io::Error },
}

/// The result of opening an object.
#[derive(Debug)]
pub(super) enum Found {
    Connected(Channel, FileId),
    Missing,
    /// The deadline has passed.
    TimedOut,
}

/// The result of one attempt.
enum Attempt {
    Done(Found),
    Retry(io::Error),
}

/// Opens an object.
///
/// With `known`, opens only the object with this file. Any other file belongs to a later object.
pub(super) fn connect(
    place: &Place,
    nonce: u64,
    known: Option<FileId>,
    missing: Missing,
    deadline: Option<Instant>,
) -> Result<Found, Refusal> {
    let begun = Instant::now();
    let mut retry_after = RETRY_AFTER[0];
    loop {
        let ignores_mark = begun.elapsed() > STARTING;
        let error = match attempt(place, nonce, known, missing, ignores_mark)? {
            Attempt::Done(found) => return Ok(found),
            Attempt::Retry(error) => error,
        };
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(Found::TimedOut);
        }
        if begun.elapsed() > START_LIMIT {
            let path = place.state.display();
            let advice = format!(
                "no keeper answers for {path} after {START_LIMIT:?}; a keeper that is suspended can be continued with \
                 `kill -CONT PID`"
            );
            return Err(Refusal::Failed {
                advice,
                source: error,
            });
        }
        thread::sleep(retry_after);
        retry_after = (retry_after * 2).min(RETRY_AFTER[1]);
    }
}

fn attempt(
    place: &Place,
    nonce: u64,
    known: Option<FileId>,
    missing: Missing,
    ignores_mark: bool,
) -> Result<Attempt, Refusal> {
    let path = place.state.display();
    let failed = |doing: &str| {
        let advice = format!("{doing} {path}");
        move |source| Refusal::Failed { advice, source }
    };
    let foreign = |reason: &str| Refusal::Foreign(format!("{reason} ({path})"));
    let creates = missing == Missing::Create && known.is_none();
    let file = match sys::open(&place.state, creates) {
        Ok(Some(file)) => file,
        Ok(None) => return Ok(Attempt::Done(Found::Missing)),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            return Err(foreign("its state file is a symbolic link"));
        }
        Err(error) if error.raw_os_error() == Some(libc::EISDIR) => {
            return Err(foreign("its state file is a directory"));
        }
        Err(error) => return Err(failed("check the permissions of")(error)),
    };
    let stat = rustix::fs::fstat(&file).map_err(|it| failed("could not read")(it.into()))?;
    check_private(&stat)
        .map_err(|reason| foreign(&format!("its state file is refused: {reason}")))?;
    let id = sys::id_of(&file).map_err(failed("could not read"))?;
    if known.is_some_and(|known| known != id) {
        return Ok(Attempt::Done(Found::Missing));
    }
    let file = File::from(file);
    let header = read_header(&file).map_err(failed("could not read"))?;
    // An empty file is new.
    let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
    if size != 0 && !state::SIZES.contains(&size) {
        return Err(foreign("its state file is refused: it has a wrong size"));
    }
    let condition = state::condition(&header, sys::boot())
        .map_err(|Unusable(reason)| foreign(&format!("its state file is refused: {reason}")))?;
    let Some(holder) = sys::lock_holder(&file).map_err(failed("could not lock"))? else {
        if condition == Condition::Blank && missing == Missing::Ignore {
            return Ok(Attempt::Done(Found::Missing));
        }
        let file = OwnedFd::from(file);
        if ignores_mark || sys::mark_starting(&file) {
            start(place, &file)?;
        }
        let error = io::Error::new(io::ErrorKind::NotFound, "there is no keeper");
        return Ok(Attempt::Retry(error));
    };
    let (pid, start) = state::keeper(&header);
    if pid != holder {
        // The keeper has the lock, and has not written its name yet. Only a process that has the lock is believed to be
        // the keeper, because a client may have to continue it.
        return Ok(Attempt::Retry(io::ErrorKind::NotFound.into()));
    }
    let keeper = Identity { pid, start };
    let channel = match Channel::connect(&state::socket(&header), keeper) {
        Ok(channel) => channel,
        // The keeper does not listen any more.
        Err(error) => return Ok(Attempt::Retry(error)),
    };
    // Another keeper may have its socket at this path now.
    if !sys::leads_to(&place.state, id) {
        return Ok(Attempt::Retry(io::ErrorKind::NotFound.into()));
    }
    introduce(channel, nonce, id)
}

/// Sends HELLO.
fn introduce(channel: Channel, nonce: u64, id: FileId) -> Result<Attempt, Refusal> {
    let own = std::process::id();
    let process = Process::find(own).ok().flatten();
    let start = process.map_or(0, |it| it.identity().start);
    let Ok(response) = channel.hello(nonce, start) else {
        return Ok(Attempt::Retry(io::ErrorKind::ConnectionReset.into()));
    };
    let refused = |advice: String, kind: io::ErrorKind| Refusal::Failed {
        advice,
        source: kind.into(),
    };
    match response.reply {
        Reply::Done => Ok(Attempt::Done(Found::Connected(channel, id))),
        Reply::OtherVersion => Err(refused(
            format!(
                "the service is held by a keeper of another version of procref: its messages have version {}, and \
                 this program's have version {VERSION}; wait until the service has ended",
                response.arg
            ),
            io::ErrorKind::Unsupported,
        )),
        Reply::Unidentified => Err(refused(
            format!(
                "the keeper cannot identify process {own}; it needs a /proc that shows the pids of its clients"
            ),
            io::ErrorKind::PermissionDenied,
        )),
        // The object is being removed.
        _ => Ok(Attempt::Retry(io::ErrorKind::NotFound.into())),
    }
}

/// Reads the part of a file that clients use. Missing bytes are zeros.
fn read_header(file: &File) -> io::Result<Vec<u8>> {
    let mut header = vec![0; HEADER_LENGTH];
    let mut filled = 0;
    while filled < header.len() {
        match read_at(file, &mut header[filled..], filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(header)
}

/// Reads the header of a state file that belongs to this user. Returns `None` for any other file.
pub(super) fn header_of(path: &std::path::Path) -> Option<Vec<u8>> {
    let file = sys::open(path, false).ok()??;
    check_private(&rustix::fs::fstat(&file).ok()?).ok()?;
    read_header(&File::from(file)).ok()
}

/// Removes a state file that contains nothing, if it has no keeper, together with its socket.
pub(super) fn remove_unused(path: &std::path::Path) {
    let Ok(Some(file)) = sys::open(path, false) else {
        return;
    };
    let is_private = rustix::fs::fstat(&file).is_ok_and(|stat| check_private(&stat).is_ok());
    // A client that starts a keeper at this moment tries again, because the keeper does not get the lock.
    if !is_private || !sys::lock(&file).unwrap_or(false) {
        return;
    }
    let id = sys::id_of(&file);
    let file = File::from(file);
    let Ok(header) = read_header(&file) else {
        return;
    };
    if state::is_unused(&header, sys::boot()) && id.is_ok_and(|id| sys::leads_to(path, id)) {
        let _ = std::fs::remove_file(path.with_extension("s"));
        let _ = std::fs::remove_file(path);
    }
}

/// Starts a keeper, and waits until it is ready or has exited.
fn start(place: &Place, file: &OwnedFd) -> Result<(), Refusal> {
    if let Some(dir) = &place.socket_dir {
        let mut builder = std::fs::DirBuilder::new();
        let created = builder.mode(0o700).recursive(true).create(dir);
        created.map_err(|source| Refusal::Failed {
            advice: format!("could not create {}", dir.display()),
            source,
        })?;
    }
    let failed = |source| Refusal::Failed {
        advice: "could not start the keeper of the service".to_owned(),
        source,
    };
    let program = helper::program().map_err(|advice| Refusal::Failed {
        advice,
        source: io::ErrorKind::NotFound.into(),
    })?;
    let (ready, theirs) = descriptor::socket_pair().map_err(failed)?;
    let file = file.try_clone().map_err(failed)?;
    helper::start(&program, place, file, theirs).map_err(failed)?;
    // The keeper sends a byte when it listens. It closes the socket if it is not needed. A child that another thread
    // forks at this moment may keep the socket open, so the wait has a limit.
    let _ = sys::wait_readable(ready.as_fd(), READY_LIMIT);
    Ok(())
}

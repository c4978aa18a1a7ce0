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
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::channel::Channel;
use super::helper;
use super::place::Place;
use super::state::{self, Condition, HEADER_LENGTH, Unusable};
use super::sys::{self, FileId, OpenFileLock};
use super::wire::{Reply, VERSION};
use crate::descriptor;
use crate::file::{check_private, read_at};
use crate::kernel::Missing;
use crate::process::{Identity, Process};

/// The time after which a client gives up if no keeper answers and no other keeper appears.
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
    /// Like `Retry`, after a keeper was started. It waits for this client until the descriptor is closed.
    Started(OwnedFd),
}

/// The time of an attempt to connect.
///
/// The limit begins again with each keeper. On a busy machine, other programs may kill one keeper after the other before a
/// client can connect to it, and the client must not fail because of that.
struct Patience {
    keeper: (u32, u64),
    appeared: Instant,
}

impl Patience {
    /// Takes the pid and the start time of the keeper that the state file names.
    fn note(&mut self, keeper: (u32, u64), now: Instant) {
        if self.keeper != keeper {
            (self.keeper, self.appeared) = (keeper, now);
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.appeared) > START_LIMIT
    }
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
    let mut patience = Patience {
        keeper: (0, 0),
        appeared: begun,
    };
    let mut _expected = None;
    loop {
        let ignores_mark = begun.elapsed() > STARTING;
        let attempted = attempt(place, nonce, known, missing, ignores_mark, &mut patience)?;
        let error = match attempted {
            Attempt::Done(found) => return Ok(found),
            Attempt::Retry(error) => error,
            Attempt::Started(keeper) => {
                _expected = Some(keeper);
                no_keeper()
            }
        };
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(Found::TimedOut);
        }
        if patience.is_over(Instant::now()) {
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
    patience: &mut Patience,
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
    patience.note(state::keeper(&header), Instant::now());
    // An empty file is new.
    let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
    if size != 0 && !state::SIZES.contains(&size) {
        return Err(foreign("its state file is refused: it has a wrong size"));
    }
    let boot = sys::boot().map_err(failed(
        "it shows whether the system has booted since the last change of",
    ))?;
    let condition = state::condition(&header, boot)
        .map_err(|Unusable(reason)| foreign(&format!("its state file is refused: {reason}")))?;
    let Some(holder) = sys::lock_holder(&file).map_err(failed("could not lock"))? else {
        if condition == Condition::Blank && missing == Missing::Ignore {
            return Ok(Attempt::Done(Found::Missing));
        }
        let file = OwnedFd::from(file);
        let is_marked = sys::mark_starting(&file);
        // `gc` removes a file that has no mark.
        if (is_marked || ignores_mark) && sys::leads_to(&place.state, id) {
            return Ok(Attempt::Started(start(place, &file)?));
        }
        return Ok(Attempt::Retry(no_keeper()));
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

fn no_keeper() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "there is no keeper")
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
pub(super) fn header_of(path: &Path) -> Option<Vec<u8>> {
    let file = sys::open(path, false).ok()??;
    check_private(&rustix::fs::fstat(&file).ok()?).ok()?;
    read_header(&File::from(file)).ok()
}

/// Removes a state file that contains nothing, if it has no keeper, together with its socket.
pub(super) fn remove_unused(path: &Path) {
    if let Some(unused) = UnusedFile::lock(path) {
        unused.remove();
    }
}

/// A state file that contains nothing, and has no keeper and no client that starts one. No keeper can use it as long as this value exists.
pub(crate) struct UnusedFile<'a> {
    path: &'a Path,
    _lock: OpenFileLock,
}

impl<'a> UnusedFile<'a> {
    pub(crate) fn lock(path: &'a Path) -> Option<Self> {
        let file = sys::open(path, false).ok()??;
        check_private(&rustix::fs::fstat(&file).ok()?).ok()?;
        // A client that starts a keeper without the mark tries again, because the keeper does not get the lock.
        let lock = OpenFileLock::take(file.into())?;
        let header = read_header(lock.file()).ok()?;
        let boot = sys::boot().ok()?;
        let id = sys::id_of(lock.file()).ok()?;
        let is_unused = state::is_unused(&header, boot) && sys::leads_to(path, id);
        is_unused.then_some(Self { path, _lock: lock })
    }

    /// Unlinks the file last, because a keeper of another file would have its socket at the same path.
    pub(crate) fn remove(self) {
        let _ = std::fs::remove_file(self.path.with_extension("s"));
        let _ = std::fs::remove_file(self.path);
    }
}

/// Starts a keeper, and waits until it is ready or has exited. The keeper waits for a client until the result is closed.
fn start(place: &Place, file: &OwnedFd) -> Result<OwnedFd, Refusal> {
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
    Ok(ready)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_ends_after_the_limit_without_another_keeper() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut patience = Patience {
            keeper: (0, 0),
            appeared: begun,
        };
        patience.note((0, 0), at(9));
        assert!(!patience.is_over(at(10)) && patience.is_over(at(11)));
        patience.note((7, 1), at(9));
        patience.note((7, 1), at(18));
        assert!(!patience.is_over(at(19)) && patience.is_over(at(20)));
        // Another process with the same pid.
        patience.note((7, 2), at(19));
        assert!(!patience.is_over(at(29)) && patience.is_over(at(30)));
    }
}

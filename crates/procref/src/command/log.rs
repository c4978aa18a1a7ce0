//! The log: the file for the program's output, and the limit of its size.

use std::fs::{self, File};
use std::io::{self, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::error::{Error, Result};
use crate::file;

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
use unix as sys;
#[cfg(windows)]
use windows as sys;

/// The largest part of the log that an error shows.
pub(super) const TAIL_LINES: usize = 20;
const TAIL_BYTES: u64 = 4096;

/// Permission bits that a log must not have.
#[derive(Clone, Copy)]
pub(super) enum Forbidden {
    /// For a path that procref chose.
    GroupOrWorld = 0o077,
    /// For a path that a user chose, because the log may be meant for other users.
    WritableByOthers = 0o022,
}

/// The output of one run: the file and the offset at which this run begins.
#[derive(Debug)]
pub(crate) struct ServiceLog {
    /// The file is opened for appending, so that truncating it while the service writes leaves no hole.
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    /// The file's size when this run began, in bytes.
    pub(crate) start: u64,
    /// The rotated log when this run began. If there is another one, this run has written it.
    pub(crate) rotated: Option<RotatedLog>,
}

/// The properties by which a rotated log is recognized.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RotatedLog {
    size: u64,
    modified: Option<SystemTime>,
}

impl RotatedLog {
    /// Returns the rotated log of this log, or `None` if there is none.
    pub(crate) fn of(log: &Path) -> Option<Self> {
        let [_, rotated] = files(log);
        let metadata = fs::symlink_metadata(rotated).ok()?;
        metadata.is_file().then(|| Self {
            size: metadata.len(),
            modified: metadata.modified().ok(),
        })
    }
}

impl ServiceLog {
    /// Opens the log for a start. A log beyond the limit is renamed to `PATH.1` first, and replaces that
    /// file.
    ///
    /// Call this with the transition lock held, after the previous instance has exited and when no process
    /// writes to the log.
    pub(super) fn open(
        service: &str,
        path: PathBuf,
        limit: u64,
        forbidden: Forbidden,
    ) -> Result<Self> {
        let failed = |operation, source| failure(service, operation, &path, source);
        let create = || sys::open_for_service(&path, forbidden);
        let (mut file, mut size) = create().map_err(|error| failed("open", error))?;
        if size >= limit {
            let [_, rotated] = files(&path);
            fs::rename(&path, rotated).map_err(|error| failed("rotate", error))?;
            (file, size) = create().map_err(|error| failed("open", error))?;
        }
        let rotated = RotatedLog::of(&path);
        Ok(Self {
            file,
            path,
            start: size,
            rotated,
        })
    }

    /// Returns the last lines since the start, at most 20 lines and 4 KiB, without a final line break. Bytes
    /// that are not UTF-8 and control characters become `U+FFFD`, because the text goes to terminals.
    pub(crate) fn tail(&self) -> String {
        match self.last_bytes() {
            Ok((bytes, cut)) => last_lines(&bytes, cut),
            Err(error) => {
                tracing::debug!(path = %self.path.display(), %error, "could not read the log");
                String::new()
            }
        }
    }

    /// Returns the end of this run's output, and `true` if there is more output before it.
    fn last_bytes(&self) -> io::Result<(Vec<u8>, bool)> {
        let size = self.file.metadata()?.len();
        let was_rotated = RotatedLog::of(&self.path) != self.rotated;
        // The log was truncated during this run, so all of it belongs to this run.
        let start = match was_rotated || self.start > size {
            true => 0,
            false => self.start,
        };
        let from = start.max(size.saturating_sub(TAIL_BYTES));
        let bytes = read_range(&self.file, from, size)?;
        if from > start || !was_rotated {
            return Ok((bytes, from > start));
        }
        // The lines before those of the log are at the end of the rotated log.
        let [_, rotated] = files(&self.path);
        let rotated = File::open(rotated)?;
        let size = rotated.metadata()?.len();
        let from = size.saturating_sub(TAIL_BYTES - bytes.len() as u64);
        let mut older = read_range(&rotated, from, size)?;
        older.extend(bytes);
        Ok((older, true))
    }
}

/// Returns the bytes of a file between two offsets. If the file is shorter, returns fewer bytes.
fn read_range(file: &File, from: u64, end: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(end - from).unwrap_or(0)];
    let mut filled = 0;
    while filled < bytes.len() {
        match file::read_at(file, &mut bytes[filled..], from + filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Returns the paths of the log and of the rotated log, which are removed with the service.
pub(crate) fn files(path: &Path) -> [PathBuf; 2] {
    let mut rotated = path.as_os_str().to_owned();
    rotated.push(".1");
    [path.to_owned(), rotated.into()]
}

/// Removes the log of the run before, and the rotated log.
///
/// Call this with the transition lock held, after the previous instance has exited. The log is not truncated instead,
/// because a process that reads it could not distinguish a truncated log that has grown again from a longer one.
pub(super) fn remove(service: &str, path: &Path) -> Result<()> {
    for path in files(path) {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failure(service, "remove", &path, error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Truncates the log of a running service if it exceeds the limit, and returns `true` if it did. The last
/// `limit` bytes, and what the service writes during the copy, are kept in `PATH.1`, which is replaced.
///
/// The service keeps its open file. It writes with `O_APPEND`, so its next output is at the beginning. If the
/// file were renamed instead, the service would write to `PATH.1` indefinitely. Lines that it writes between
/// the end of the copy and the truncation are lost.
///
/// Several clients may find the log too long at once. One of them truncates it, and the others continue.
pub(crate) fn rotate_running(service: &str, path: &Path, limit: u64) -> Result<bool> {
    // Every join calls this function, and the log is usually within its limit. One system call costs a
    // quarter of opening and checking the file. All other properties are checked through a descriptor.
    if sys::is_short(path, limit, Forbidden::WritableByOthers) {
        return Ok(false);
    }
    let failed = |operation, source| failure(service, operation, path, source);
    let opened = sys::open_to_empty(path, Forbidden::WritableByOthers);
    let (mut log, size) = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened.map_err(|error| failed("open", error))?,
    };
    if size <= limit {
        return Ok(false);
    }
    if !sys::try_lock(&log).map_err(|error| failed("lock", error))? {
        return Ok(false);
    }
    // Another process may have truncated the log while this process waited for the lock.
    let metadata = log.metadata().map_err(|error| failed("look at", error))?;
    let size = metadata.len();
    if size <= limit {
        return Ok(false);
    }
    keep_end(&mut log, size, limit, path).map_err(|error| failed("rotate", error))?;
    log.set_len(0).map_err(|error| failed("truncate", error))?;
    Ok(true)
}

/// Copies the log from `limit` bytes before `size` to its end to `PATH.1`. If this process dies during the copy, the
/// log is unchanged.
fn keep_end(log: &mut File, size: u64, limit: u64, path: &Path) -> io::Result<()> {
    let [_, rotated] = files(path);
    match fs::remove_file(&rotated) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut copy = sys::create_new(&rotated)?;
    log.seek(SeekFrom::Start(size.saturating_sub(limit)))?;
    // The service may write during the copy, and then be silent, so these lines are often its most important ones.
    // The copy has a limit. Otherwise a service that writes faster than this loop copies would keep the loop
    // running.
    let most = limit.saturating_mul(2);
    io::copy(&mut io::Read::take(log, most), &mut copy).map(drop)
}

fn failure(service: &str, operation: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Log {
        service: service.to_owned(),
        operation,
        path: path.to_owned(),
        source,
    }
}

/// Returns the last lines of `bytes`. If `cut` is `true`, the first line may be incomplete and is left out.
pub(super) fn last_lines(bytes: &[u8], cut: bool) -> String {
    let whole = match bytes.iter().position(|&byte| byte == b'\n') {
        Some(end) if cut && end + 1 < bytes.len() => &bytes[end + 1..],
        _ => bytes,
    };
    let text = String::from_utf8_lossy(whole);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..]
        .join("\n")
        .chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            c if c.is_control() => char::REPLACEMENT_CHARACTER,
            c => c,
        })
        .collect()
}

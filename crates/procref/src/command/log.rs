//! The log: where the program's output goes, and how it is kept from growing for ever.

use std::fs::{self, File};
use std::io::{self, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

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

/// How much of the log an error shows, at most.
pub(super) const TAIL_LINES: usize = 20;
const TAIL_BYTES: u64 = 4096;

/// Permission bits that a log must not have.
#[derive(Clone, Copy)]
pub(super) enum Forbidden {
    /// For one whose place procref chose.
    GroupOrWorld = 0o077,
    /// For one that somebody named, and may want others to read.
    WritableByOthers = 0o022,
}

/// One run's output: the file, and where in it this run begins.
#[derive(Debug)]
pub(crate) struct ServiceLog {
    /// Appends, whoever writes; so that truncating it under a running service leaves no hole.
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    /// The file's size when this run began, in bytes.
    pub(crate) start: u64,
}

impl ServiceLog {
    /// Opens the log for a start. One past the limit becomes `PATH.1` first, and replaces that.
    ///
    /// Call it under the transition lock, when the instance before is gone: nobody writes to it.
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
        Ok(Self {
            file,
            path,
            start: size,
        })
    }

    /// The last lines since the start, at most 20 and 4 KiB, without a line break at the end. Bytes
    /// that are not UTF-8 and control characters show as `U+FFFD`: it goes to people's terminals.
    pub(crate) fn tail(&self) -> String {
        match self.last_bytes() {
            Ok((bytes, cut)) => last_lines(&bytes, cut),
            Err(error) => {
                tracing::debug!(path = %self.path.display(), %error, "could not read the log");
                String::new()
            }
        }
    }

    /// The end of this run's output, and whether there was more before it.
    fn last_bytes(&self) -> io::Result<(Vec<u8>, bool)> {
        let size = self.file.metadata()?.len();
        // Truncated meanwhile: all that is there is this run's.
        let start = if self.start > size { 0 } else { self.start };
        let from = start.max(size.saturating_sub(TAIL_BYTES));
        let mut bytes = vec![0; usize::try_from(size - from).unwrap_or(0)];
        let mut filled = 0;
        while filled < bytes.len() {
            match file::read_at(&self.file, &mut bytes[filled..], from + filled as u64)? {
                0 => break,
                read => filled += read,
            }
        }
        bytes.truncate(filled);
        Ok((bytes, from > start))
    }
}

/// The log and what is kept of it after a rotation, for who removes them with the service.
pub(crate) fn files(path: &Path) -> [PathBuf; 2] {
    let mut rotated = path.as_os_str().to_owned();
    rotated.push(".1");
    [path.to_owned(), rotated.into()]
}

/// Makes room in the log of a service that is running, if it is past the limit, and says whether it
/// did. The last `limit` bytes are kept in `PATH.1`, replacing it.
///
/// The service keeps its file and goes on: it writes with `O_APPEND`, so what it writes next stands at
/// the beginning. Renaming the file instead would have it write to `PATH.1` for ever. Lines that it
/// writes between the copy and the truncation are lost.
///
/// Any number of clients may find the log too long at once: one does it, the others go on.
pub(crate) fn rotate_running(service: &str, path: &Path, limit: u64) -> Result<bool> {
    // Every join comes by here, and mostly finds nothing to do: one call is a quarter of what opening and
    // checking it would be. Whatever else it is, is looked at through a descriptor.
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
    // Whoever had the lock until now has just done it.
    let metadata = log.metadata().map_err(|error| failed("look at", error))?;
    let size = metadata.len();
    if size <= limit {
        return Ok(false);
    }
    keep_end(&mut log, size, limit, path).map_err(|error| failed("rotate", error))?;
    log.set_len(0).map_err(|error| failed("truncate", error))?;
    Ok(true)
}

/// Copies the last `limit` of `size` bytes to `PATH.1`. Whoever dies in the middle of it leaves the
/// log as it was, for the next one.
fn keep_end(log: &mut File, size: u64, limit: u64, path: &Path) -> io::Result<()> {
    let [_, rotated] = files(path);
    match fs::remove_file(&rotated) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut copy = sys::create_new(&rotated)?;
    log.seek(SeekFrom::Start(size.saturating_sub(limit)))?;
    // Not to the end of the file: a service that writes faster than this copies would not let it end.
    io::copy(&mut io::Read::take(log, limit), &mut copy).map(drop)
}

fn failure(service: &str, operation: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Log {
        service: service.to_owned(),
        operation,
        path: path.to_owned(),
        source,
    }
}

/// The last lines of `bytes`; `cut` if they begin in the middle of something, so that the first line
/// may be half a one.
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

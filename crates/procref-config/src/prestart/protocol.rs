//! The texts and files by which the helper and a client of the service understand each other.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::text::{shortened, shown};

/// The name of the helper's hidden subcommand.
pub const SUBCOMMAND: &str = "__service";

/// The exit code of a helper that did not execute the program.
pub const NOT_EXECUTED: u8 = 125;

/// The beginning of the line in the service's log with the reason why the program was not executed.
pub const REASON: &str = "procref: program not executed: ";

/// The beginning of the last line in the service's log while another process uses the data directory.
pub const WAITING: &str = "procref: waiting for ";

/// The line in the service's log that marks the start of the program. Only Windows has it, because the helper's process
/// becomes the program elsewhere.
#[cfg(windows)]
pub const STARTED: &str = "procref: executing the program";

/// The longest command line in a message, in characters. The client reads only the end of the log.
const SHOWN: usize = 300;

/// Returns words as a command on one line of limited length.
pub fn shown_words<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> String {
    shortened(&shown(&shell_words::join(words)), SHOWN)
}

/// The file that marks a filled data directory.
pub const MARKER: &str = ".procref-initialised";

/// Returns `true` if `init` has filled this directory.
pub(crate) fn is_filled(data: &Path) -> bool {
    data.join(MARKER).exists()
}

/// Returns `true` if `init` was started for this directory and has not succeeded yet.
pub fn is_begun(data: &Path) -> bool {
    note_of(data).is_some_and(|note| fs::symlink_metadata(note).is_ok())
}

/// Returns the path of the note, the file that exists while a data directory is being filled.
pub fn note_of(data: &Path) -> Option<PathBuf> {
    beside(data, ".procref-begun")
}

/// Returns the path of a hidden file beside the data directory.
pub fn beside(data: &Path, ending: &str) -> Option<PathBuf> {
    let mut file = OsString::from(".");
    file.push(data.file_name()?);
    file.push(ending);
    Some(data.parent()?.join(file))
}

//! The data directory: made once, whole, also when the machine goes down in the middle.
//!
//! | beside it: begun | in it: the marker | | |
//! |---|---|---|---|
//! | no | yes | | it is made |
//! | no | no | missing or empty | begin: note that beside it, run `init`, leave the marker, remove the note |
//! | yes | | | it is half made, by us: empty it, and begin |
//! | no | no | something in it | it is somebody else's: an error, and nothing is touched |
//!
//! A marker alone would not tell the last two apart, and a note alone would take a directory for made that
//! `init` has never seen. To make it elsewhere and rename it would need neither, but what it is called is
//! part of what many an `init` writes.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};

#[cfg_attr(unix, path = "data/unix.rs")]
#[cfg_attr(windows, path = "data/windows.rs")]
mod sys;

use sys::Parent;

/// In the directory, once it is made.
const MARKER: &str = ".procref-initialised";

/// Makes the directory, and has it filled if it was not yet.
pub(super) fn prepare(service: &str, data: &Path, init: Option<Command>) -> Result<()> {
    let place = Place::new(service, data)?;
    let Some(mut init) = init else {
        return place.create();
    };
    // Two runtime directories do not know of each other, and may have the same data directory.
    let parent = place.lock()?;
    if place.marker().exists() {
        return Ok(());
    }
    place.create()?;
    if place.begun.exists() {
        place.tell("empties the directory, whose initialisation was interrupted");
        place.empty()?;
    } else if !place.is_empty()? {
        return Err(place.foreign());
    }
    place.note(&parent)?;
    place.tell("initialises the directory");
    let shown = shell_words::join(
        std::iter::once(init.get_program())
            .chain(init.get_args())
            .map(|word| word.to_string_lossy()),
    );
    let status = init
        .status()
        .map_err(|error| place.failed(&format!("execute `{shown}`"), error))?;
    if !status.success() {
        return Err(Error::Failed(format!(
            "service {service:?}: `init` failed with {status}: `{shown}`; what it has left in {} will be \
             removed by the next start",
            data.display()
        )));
    }
    place.finish(&parent)
}

struct Place<'a> {
    service: &'a str,
    data: &'a Path,
    parent: PathBuf,
    /// The note that it is half made.
    begun: PathBuf,
}

impl<'a> Place<'a> {
    fn new(service: &'a str, data: &'a Path) -> Result<Self> {
        let (Some(parent), Some(name)) = (data.parent(), data.file_name()) else {
            let data = data.display();
            return Err(Error::Usage(format!(
                "service {service:?}: {data} is no directory for data"
            )));
        };
        let mut note = std::ffi::OsString::from(".");
        note.push(name);
        note.push(".procref-begun");
        Ok(Self {
            service,
            data,
            begun: parent.join(note),
            parent: parent.to_owned(),
        })
    }

    fn marker(&self) -> PathBuf {
        self.data.join(MARKER)
    }

    fn failed(&self, what: &str, error: io::Error) -> Error {
        let (service, data) = (self.service, self.data.display());
        Error::io(
            format!("{what} for the data directory {data} of service {service:?}"),
            error,
        )
    }

    /// Goes to the service's log.
    fn tell(&self, what: &str) {
        let data = self.data.display();
        let _ = writeln!(io::stderr(), "procref: {what} {data}");
    }

    fn create(&self) -> Result<()> {
        let made = sys::create_private(self.data);
        made.map_err(|error| self.failed("create a directory", error))
    }

    /// The lock lasts as long as what it returns, and as this process.
    fn lock(&self) -> Result<Parent> {
        let made = sys::create_private(&self.parent);
        made.map_err(|error| self.failed("create a directory", error))?;
        let failed = |error| self.failed("lock the directory", error);
        Parent::lock(&self.parent, self.data).map_err(failed)
    }

    fn entries(&self) -> Result<Vec<fs::DirEntry>> {
        let entries = fs::read_dir(self.data).and_then(Iterator::collect);
        entries.map_err(|error| self.failed("read the directory", error))
    }

    fn is_empty(&self) -> Result<bool> {
        Ok(self.entries()?.is_empty())
    }

    /// Not the directory itself: that may be a mount point, or a link to one.
    fn empty(&self) -> Result<()> {
        for entry in self.entries()? {
            let removed = match entry.file_type() {
                Ok(kind) if kind.is_dir() => fs::remove_dir_all(entry.path()),
                Ok(_) => fs::remove_file(entry.path()),
                Err(error) => Err(error),
            };
            removed.map_err(|error| self.failed("remove what was half made", error))?;
        }
        Ok(())
    }

    fn foreign(&self) -> Error {
        let (service, data, marker) = (self.service, self.data.display(), self.marker());
        Error::Failed(format!(
            "service {service:?}: there is something in {data}, and it was not put there by `init`; if it is \
             what the service needs, run `touch {}`, and otherwise remove it",
            marker.display()
        ))
    }

    /// Before anything is made: a crash of the machine must not leave half of it without the note.
    fn note(&self, parent: &Parent) -> Result<()> {
        let noted = File::create(&self.begun).and_then(|note| note.sync_all());
        noted
            .and_then(|()| parent.sync())
            .map_err(|error| self.failed("note what is begun", error))
    }

    /// In this order, and each on the disk before the next.
    fn finish(&self, parent: &Parent) -> Result<()> {
        let marked = sys::mark(&self.marker());
        marked
            .and_then(|()| fs::remove_file(&self.begun))
            .and_then(|()| parent.sync())
            .map_err(|error| self.failed("note that it is done", error))
    }
}

//! Changes of files by inotify.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

use super::super::super::Event;

/// Watches the runtime directories and one log.
///
/// Without inotify, for example because the limit of its instances is reached, the screen is updated only at its
/// interval.
pub(in super::super::super) struct Changes {
    watch: Option<Arc<OwnedFd>>,
    log: Option<(PathBuf, i32)>,
}

impl Changes {
    pub(in super::super::super) fn new(events: Sender<Event>) -> Self {
        let watch = inotify::init(CreateFlags::CLOEXEC).ok().map(Arc::new);
        if let Some(watch) = watch.clone() {
            let thread = thread::Builder::new().name("procref: changes".to_owned());
            // An error has the same effect as a missing inotify.
            let _ = thread.spawn(move || send_changes(&watch, &events));
        }
        Self { watch, log: None }
    }

    /// Reports services that start or stop in this directory. Watching a directory again has no effect.
    pub(in super::super::super) fn watch_dir(&self, dir: &Path) {
        let events = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ONLYDIR;
        if let Some(watch) = &self.watch {
            // The directory may be missing until its first service starts.
            let _ = inotify::add_watch(watch, dir, events);
        }
    }

    /// Reports writes to this log, and not to the one before.
    pub(in super::super::super) fn watch_log(&mut self, log: Option<&Path>) {
        let Some(watch) = &self.watch else {
            return;
        };
        if self.log.as_ref().map(|(path, _)| path.as_path()) == log {
            return;
        }
        if let Some((_, number)) = self.log.take() {
            // The kernel has removed the watch if the log was deleted.
            let _ = inotify::remove_watch(watch, number);
        }
        if let Some(path) = log {
            let added = inotify::add_watch(watch, path, WatchFlags::MODIFY);
            self.log = added.ok().map(|number| (path.to_owned(), number));
        }
    }
}

fn send_changes(watch: &OwnedFd, events: &Sender<Event>) {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(watch, &mut buffer);
    loop {
        let event = match reader.next() {
            Ok(change) if change.events().contains(ReadFlags::MODIFY) => Event::LogChanged,
            Ok(_) => Event::Changed,
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return,
        };
        if events.send(event).is_err() {
            return;
        }
    }
}

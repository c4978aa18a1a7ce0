//! The files in a runtime directory, recognized by their names.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::sys::size_of_ours;
use super::{MAX_SIZE, Record, Undecodable, read_file, remove_file};
use crate::error::{Error, Result};
use crate::key::{ServiceKey, digest_in_stem};
use crate::name::{Digest, Name};
use crate::namespace;
use crate::namespace::Namespace;

/// Records, drafts, kept logs, logs, older logs, and notes of failed starts.
///
/// A kept log also has the ending of a log, so its endings come first.
const ENDINGS: [&str; 7] = [
    ".json",
    ".tmp",
    ".kept.log",
    ".kept.log.1",
    ".log",
    ".log.1",
    ".failed",
];

/// A file whose name has procref's form.
#[derive(Debug)]
pub(crate) struct RuntimeFile {
    pub(crate) path: PathBuf,
    pub(crate) digest: Digest,
    pub(crate) kind: FileKind,
}

#[derive(Debug)]
pub(crate) enum FileKind {
    /// The record of this service.
    Record(ServiceKey),
    /// A file that is useful only together with a record, or the draft of a record.
    Other,
}

/// Returns the files in a runtime directory that procref has written in this namespace.
///
/// This excludes other files, for example files of another view of the directory or of another layout.
pub(crate) fn scan(namespace: &Namespace) -> Result<Vec<RuntimeFile>> {
    let dir = namespace.dir();
    let failed = |error| Error::runtime_dir_io(dir, "could not list it", error);
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let Some((stem, ending)) = name.to_str().and_then(split) else {
            continue;
        };
        let Some(digest) = digest_in_stem(stem, namespace) else {
            continue;
        };
        let path = dir.join(&name);
        let kind = match ending {
            ".json" => record(namespace, stem, &path),
            _ => size_of_ours(&path).map(|_| FileKind::Other),
        };
        match kind {
            Ok(kind) => all.push(RuntimeFile { path, digest, kind }),
            Err(reason) => tracing::warn!(path = %path.display(), reason, "ignored a file"),
        }
    }
    Ok(all)
}

/// Removes a file of a runtime directory, unless the path now leads to another directory.
pub(crate) fn remove(namespace: &Namespace, path: &Path) -> io::Result<()> {
    match namespace::check_unchanged(namespace) {
        Ok(()) => remove_file(path),
        // The file belongs to another namespace.
        Err(_) => Ok(()),
    }
}

pub(super) fn split(name: &str) -> Option<(&str, &'static str)> {
    ENDINGS
        .into_iter()
        .find_map(|ending| Some((name.strip_suffix(ending)?, ending)))
}

/// Returns an error if procref has not written this file under this name, or if it has another version.
fn record(namespace: &Namespace, stem: &str, path: &Path) -> Result<FileKind, String> {
    let size = size_of_ours(path)?;
    let broken = |reason: String| {
        tracing::warn!(path = %path.display(), reason, "found a broken record");
        Ok(FileKind::Other)
    };
    if size > MAX_SIZE {
        return broken("it is larger than 1 MiB".to_owned());
    }
    // If the file cannot be read now, for example for lack of descriptors, it may still be a complete record.
    let bytes = read_file(path)?.ok_or("it has just been removed")?;
    let record = match Record::decode(&bytes) {
        Ok(record) => record,
        Err(Undecodable::Broken(reason)) => return broken(reason),
        Err(Undecodable::Version(version)) => return Err(format!("it has version {version}")),
    };
    if !record.is_of(namespace) {
        return Err(format!("it belongs to namespace {:?}", record.namespace));
    }
    let Ok(name) = Name::new(&record.name) else {
        return broken("its name is not a valid service name".to_owned());
    };
    let key = ServiceKey::new(namespace.clone(), name);
    if key.file_stem() == stem {
        return Ok(FileKind::Record(key));
    }
    // The file may belong to one of several services with this name, each for clients with one fingerprint.
    match record.fingerprint() {
        Some(fingerprint) if key.clone().separated(fingerprint).file_stem() == stem => {
            Ok(FileKind::Record(key.separated(fingerprint)))
        }
        _ => Err(format!("it belongs to service {:?}", key.name())),
    }
}

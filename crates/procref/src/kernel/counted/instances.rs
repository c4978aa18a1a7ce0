//! The search for the object that names a process as its instance.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use super::{open, place, state, sys};
use crate::kernel::semset::decode;
use crate::namespace::Location;
use crate::process::Identity;

/// Returns `true` if the object of any service names this process as its instance, and not as a client.
///
/// The namespace of the service is not known. A keeper has its state file open as long as it lives. The file of a killed
/// keeper is found only in the runtime directories that this process, or the other process, would use.
pub(super) fn is_instance(identity: Identity) -> io::Result<bool> {
    let is_named_in = |path: PathBuf| {
        if !place::is_state(&path) {
            return false;
        }
        let header = open::header_of(&path);
        let instance = header.and_then(|header| decode(&state::values(&header), true).instance);
        instance.is_some_and(|instance| instance.identity == identity && !instance.hosted)
    };
    // The name alone does not make a process a keeper, but a process of this user can also write such a file.
    let mut open = sys::keepers_files()?.into_iter();
    Ok(open.any(is_named_in) || files_nearby(identity.pid).any(is_named_in))
}

/// Returns the state files in the runtime directories of this process and of another one, and in those of their projects.
fn files_nearby(pid: u32) -> impl Iterator<Item = PathBuf> {
    let theirs = variable_of(pid, "PROCREF_RUNTIME_DIR");
    let locations = [
        Location::of(None).ok(),
        theirs.and_then(|dir| Location::of(Some(&dir)).ok()),
    ];
    let directories = locations.into_iter().flatten().flat_map(|location| {
        let projects = location.projects().unwrap_or_default();
        let mut all = vec![location.dir().to_owned()];
        all.extend(projects.iter().map(|project| project.dir().to_owned()));
        all
    });
    let listed = directories.flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten());
    listed
        .map(|entry| entry.path())
        .filter(|path| place::is_state(path))
}

/// Returns the value that a variable had when a process executed its program.
fn variable_of(pid: u32, name: &str) -> Option<PathBuf> {
    let environment = fs::read(Path::new("/proc").join(pid.to_string()).join("environ")).ok()?;
    let mut variables = environment.split(|&byte| byte == 0);
    let value = variables.find_map(|it| it.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
    Some(std::ffi::OsString::from_vec(value.to_vec()).into())
}

//! Removes the sockets of services that were killed.
//!
//! A program that is killed leaves its socket in the file system. Many programs, nginx for example, cannot bind the path
//! again and fail. The runtime directory is private to the user, and `{dir}` stands for it in the settings of a service. So a
//! socket there that no process has bound is left over from a service.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

use crate::descriptor::{Blocking, socket};

/// Removes the sockets of this directory that no process has bound. Errors are logged only, because the program reports
/// a path that it cannot bind.
pub(super) fn remove_stale(service: &str, dir: &Path) {
    let sockets = match sockets(dir) {
        Ok(sockets) if sockets.is_empty() => return,
        Ok(sockets) => sockets,
        Err(error) => {
            tracing::debug!(service, %error, "could not search the runtime directory for sockets");
            return;
        }
    };
    // Without the kernel's list, a socket that is bound but does not listen yet would count as stale.
    let Ok(bound) = bound_names() else {
        return;
    };
    for path in sockets {
        let is_bound = path.file_name().is_some_and(|name| bound.contains(name));
        if is_bound || !is_refused(&path) {
            continue;
        }
        match fs::remove_file(&path) {
            Ok(()) => {
                tracing::info!(service, path = %path.display(), "removed the socket of a killed service");
            }
            Err(error) => {
                tracing::debug!(service, path = %path.display(), %error, "could not remove a stale socket");
            }
        }
    }
}

fn sockets(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_socket() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Returns the names of all bound sockets. The kernel lists each path as the program has written it, for example relative
/// to its working directory, so only the last component can be compared.
fn bound_names() -> io::Result<HashSet<OsString>> {
    let list = fs::read("/proc/net/unix")?;
    let paths = list.split(|&byte| byte == b'\n').filter_map(|line| {
        // Seven columns, and then the path if there is one.
        let mut rest = line;
        for _ in 0..7 {
            rest = rest.trim_ascii_start();
            let end = rest.iter().position(|&byte| byte == b' ')?;
            rest = &rest[end..];
        }
        Some(PathBuf::from(OsString::from_vec(rest[1..].to_vec())))
    });
    let names = paths.filter_map(|path| path.file_name().map(ToOwned::to_owned));
    Ok(names.collect())
}

/// Returns `true` if no process accepts connections at this path. A process in another network namespace counts, too:
/// `/proc/net/unix` does not list it.
fn is_refused(path: &Path) -> bool {
    let refused = || {
        let address = SocketAddrUnix::new(path)?;
        let socket = socket(AddressFamily::UNIX, SocketType::STREAM, Blocking::No)?;
        rustix::net::connect(&socket, &address)
    };
    refused() == Err(Errno::CONNREFUSED)
}

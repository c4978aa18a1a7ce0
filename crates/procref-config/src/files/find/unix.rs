//! Checks files by owner and mode.
//!
//! Group-writable files are common: many systems give each user a private group and a umask of 002. A private group has
//! no other members, so it is trusted. `sshd` on Debian checks `authorized_keys` in the same way.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawMode, Stat};

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "linux")]
use linux as sys;
#[cfg(target_os = "macos")]
use macos as sys;

const GROUP: RawMode = 0o020;
const WORLD: RawMode = 0o002;

/// Returns the directory for the user's configurations.
pub(super) fn base() -> Option<PathBuf> {
    let set = |name| env::var_os(name).map(PathBuf::from);
    let base = set("XDG_CONFIG_HOME").filter(|dir| dir.is_absolute());
    base.or_else(|| Some(set("HOME").filter(|dir| dir.is_absolute())?.join(".config")))
}

/// Opens a file. O_NONBLOCK keeps `open` from blocking on a named pipe without a writer.
pub(super) fn open(file: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
        .open(file)
}

/// Opens the file in a directory that no other user can change, or returns why another user may be able to change it.
///
/// The directory is opened once and used by its descriptor. If procref used the path, another user could
/// replace the directory between the check and `open`. If the file is a link, the link itself is also
/// checked. Its target may be a file that this user wrote for another directory with other programs.
pub(super) fn open_found(root: &Path, name: &OsStr) -> io::Result<Result<File, String>> {
    let flags = sys::SEARCH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::open(root, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&dir)?;
    if let Some(reason) = Checked::Directory.untrusted_reason(&stat, root, dir.as_fd()) {
        return Ok(Err(reason));
    }
    let path = root.join(name);
    let stat = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
        if let Some(reason) = Checked::Link.untrusted_reason(&stat, &path, dir.as_fd()) {
            return Ok(Err(reason));
        }
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(&dir, name, flags, Mode::empty())?;
    Ok(Ok(opened.into()))
}

/// Returns why another user may be able to change the file.
pub(super) fn untrusted_reason(file: &Path, opened: &File) -> io::Result<Option<String>> {
    let stat = rustix::fs::fstat(opened)?;
    Ok(Checked::File.untrusted_reason(&stat, file, opened.as_fd()))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Checked {
    File,
    Link,
    Directory,
}

impl Checked {
    fn untrusted_reason(self, stat: &Stat, path: &Path, opened: BorrowedFd<'_>) -> Option<String> {
        let (owner, own) = (stat.st_uid, rustix::process::geteuid().as_raw());
        let what = match self {
            Self::File => "it".to_owned(),
            Self::Link => "the link".to_owned(),
            Self::Directory => format!("its directory {}", path.display()),
        };
        if owner != own && owner != 0 {
            return Some(format!(
                "{what} belongs to uid {owner}, and this process runs as uid {own}"
            ));
        }
        // Links have no modes.
        let writable = match self {
            Self::Link => 0,
            Self::File | Self::Directory => stat.st_mode & (GROUP | WORLD),
        };
        let by_group = writable & GROUP != 0
            && (!is_private_group(stat.st_gid, own) || sys::extends_group(opened));
        if self != Self::Link && sys::allows_others(opened) {
            return Some(format!(
                "{what} has an access control list that allows access (run `chmod -N` on it)"
            ));
        }
        let (users, remove) = match (writable & WORLD != 0, by_group) {
            (true, true) => ("all users", "go-w"),
            (true, false) => ("all users", "o-w"),
            (false, true) => ("its group", "g-w"),
            (false, false) => return None,
        };
        let mode = stat.st_mode & 0o7777;
        let quoted = path.to_string_lossy();
        let quoted = shell_words::quote(&quoted);
        Some(format!(
            "{users} can write to {what} (mode {mode:04o}; run `chmod {remove} {quoted}`)"
        ))
    }
}

/// Returns `true` if this user, or root, is known to be the only member of the group.
fn is_private_group(group: u32, own: u32) -> bool {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    [own, 0]
        .into_iter()
        .any(|uid| is_private_in(&users, &groups, group, uid))
}

/// Checks a group with the contents of [`passwd(5)`](https://man7.org/linux/man-pages/man5/passwd.5.html) and
/// [`group(5)`](https://man7.org/linux/man-pages/man5/group.5.html). Users of a directory service are in neither file,
/// so their groups are not known to be private.
fn is_private_in(users: &str, groups: &str, group: u32, uid: u32) -> bool {
    let number = |field: Option<&&str>| field.and_then(|field| field.parse::<u32>().ok());
    let mut own_names = Vec::new();
    let mut is_primary = false;
    for line in users.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let (user, primary) = (number(fields.get(2)), number(fields.get(3)));
        if user == Some(uid) {
            own_names.extend(fields.first().copied());
            is_primary |= primary == Some(group);
        } else if primary == Some(group) {
            return false;
        }
    }
    let mut lines = groups
        .lines()
        .map(|line| line.split(':').collect::<Vec<&str>>())
        .filter(|fields| number(fields.get(2)) == Some(group))
        .peekable();
    is_primary
        && lines.peek().is_some()
        && lines.all(|fields| {
            let members = fields.get(3).copied().unwrap_or_default();
            members
                .split(',')
                .filter(|member| !member.is_empty())
                .all(|member| own_names.contains(&member))
        })
}

#[cfg(test)]
mod tests {
    use super::is_private_in;

    #[test]
    fn g7_group_is_private_if_no_other_user_is_in_it() {
        let users = "root:x:0:0::/root:/bin/sh\n\
                     ann:x:1000:1000::/home/ann:/bin/sh\n\
                     bob:x:1001:100::/home/bob:/bin/sh\n\
                     eve:x:1002:100::/home/eve:/bin/sh\n\
                     dan:x:1003:1003::/home/dan:/bin/sh\n\
                     cut\n";
        let groups = "root:x:0:\nann:x:1000:ann\nusers:x:100:\ndan:x:1003:ann,dan\n\
                      project:x:2000:ann\n";
        for (group, uid, expected) in [
            (1000, 1000, true),
            (0, 0, true),
            // Another user's private group.
            (1000, 1001, false),
            // The primary group of two users.
            (100, 1001, false),
            // A private group that another user was added to.
            (1003, 1003, false),
            // A group that is not the primary group of any user.
            (2000, 1000, false),
            // Unknown groups and users.
            (3000, 1000, false),
            (1000, 4000, false),
        ] {
            let found = is_private_in(users, groups, group, uid);
            assert_eq!(found, expected, "group {group}, uid {uid}");
        }
        assert!(!is_private_in("", "", 0, 0));
        assert!(
            !is_private_in(users, "", 1000, 1000),
            "the group is unknown"
        );
    }
}

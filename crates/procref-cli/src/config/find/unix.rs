//! By owner and mode.

use std::env;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

const WRITABLE_BY_ALL: u32 = 0o002;

/// Where a user's configurations are.
pub(super) fn base() -> Option<PathBuf> {
    let set = |name| env::var_os(name).map(PathBuf::from);
    let base = set("XDG_CONFIG_HOME").filter(|dir| dir.is_absolute());
    base.or_else(|| Some(set("HOME").filter(|dir| dir.is_absolute())?.join(".config")))
}

/// A pipe that nobody writes to would keep a plain `open` waiting.
pub(super) fn open(file: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
        .open(file)
}

/// Why it may be somebody else who tells what to execute.
pub(super) fn doubt(opened: &File) -> io::Result<Option<String>> {
    let metadata = opened.metadata()?;
    let (owner, own) = (metadata.uid(), rustix::process::geteuid().as_raw());
    Ok(if owner != own && owner != 0 {
        Some(format!(
            "it belongs to uid {owner}, and this process is uid {own}"
        ))
    } else if metadata.mode() & WRITABLE_BY_ALL != 0 {
        Some("everybody can write to it".to_owned())
    } else {
        None
    })
}

//! Checks files by owner.
//!
//! Access lists are not checked. They are too general to evaluate, and files inherit the list of a directory that other
//! users may write.

use std::env;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::windows::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// `FILE_FLAG_BACKUP_SEMANTICS`, which opens directories, and `FILE_FLAG_OPEN_REPARSE_POINT`, which opens a link
/// itself.
const OPEN_ITSELF: u32 = 0x0200_0000 | 0x0020_0000;

/// Returns the directory for the user's configurations.
pub(super) fn base() -> Option<PathBuf> {
    let base = env::var_os("APPDATA").map(PathBuf::from);
    base.filter(|dir| dir.is_absolute())
}

pub(super) fn open(file: &Path) -> io::Result<File> {
    File::open(file)
}

/// Opens the file in a directory that no other user owns, or returns which owner is not trusted. Each user can create a
/// directory in `C:\` and a link in it.
pub(super) fn open_found(root: &Path, name: &OsStr) -> io::Result<Result<File, String>> {
    let open_itself = |path: &Path| {
        OpenOptions::new()
            .read(true)
            .custom_flags(OPEN_ITSELF)
            .open(path)
    };
    // The root directory of a drive belongs to the installer of the system.
    if root.parent().is_some() && !procref_winsys::security::is_trusted(&open_itself(root)?)? {
        return Ok(Err(format!(
            "its directory {} belongs {OTHER}",
            root.display()
        )));
    }
    let file = root.join(name);
    if !procref_winsys::security::is_trusted(&open_itself(&file)?)? {
        return Ok(Err(format!("it belongs {OTHER}")));
    }
    open(&file).map(Ok)
}

const OTHER: &str = "neither to this user, nor to the administrators or the system";

/// Returns why another user may be able to change the file.
pub(super) fn untrusted_reason(_: &Path, opened: &File) -> io::Result<Option<String>> {
    let reason = format!("it belongs {OTHER}");
    Ok((!procref_winsys::security::is_trusted(opened)?).then_some(reason))
}

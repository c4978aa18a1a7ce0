//! By owner. Who may write to it is not looked at: that is told by lists in which everything is possible, and
//! those of a directory that others may write to are inherited.

use std::env;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::windows::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// `FILE_FLAG_BACKUP_SEMANTICS`, which opens directories, and `FILE_FLAG_OPEN_REPARSE_POINT`, which opens links
/// themselves.
const OPEN_ITSELF: u32 = 0x0200_0000 | 0x0020_0000;

/// Where a user's configurations are.
pub(super) fn base() -> Option<PathBuf> {
    let base = env::var_os("APPDATA").map(PathBuf::from);
    base.filter(|dir| dir.is_absolute())
}

pub(super) fn open(file: &Path) -> io::Result<File> {
    File::open(file)
}

/// Opens the file in a directory that no other user owns, or tells why that is in doubt. Anybody can make a
/// directory in `C:\`, and a link in it.
pub(super) fn open_found(root: &Path, name: &OsStr) -> io::Result<Result<File, String>> {
    let itself = |path: &Path| {
        OpenOptions::new()
            .read(true)
            .custom_flags(OPEN_ITSELF)
            .open(path)
    };
    // The drive's own directory belongs to the system's installer.
    if root.parent().is_some() && !procref::windows::is_trusted(&itself(root)?)? {
        return Ok(Err(format!(
            "its directory {} belongs {OTHER}",
            root.display()
        )));
    }
    let file = root.join(name);
    if !procref::windows::is_trusted(&itself(&file)?)? {
        return Ok(Err(format!("it belongs {OTHER}")));
    }
    open(&file).map(Ok)
}

const OTHER: &str = "neither to this user, nor to the administrators or the system";

/// Why another user may be able to change the file.
pub(super) fn doubt(_: &Path, opened: &File) -> io::Result<Option<String>> {
    let doubt = format!("it belongs {OTHER}");
    Ok((!procref::windows::is_trusted(opened)?).then_some(doubt))
}

//! Files: reads at an offset and of `/proc`, and checks of owner and mode.

use std::fs::File;
use std::io;

/// Reads bytes that begin at `offset`. Returns 0 at the end of the file.
pub(crate) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    #[cfg(unix)]
    use std::os::unix::fs::FileExt as _;
    #[cfg(windows)]
    use std::os::windows::fs::FileExt as _;

    loop {
        #[cfg(unix)]
        let read = file.read_at(buffer, offset);
        // This also moves the file's position, which no caller uses.
        #[cfg(windows)]
        let read = file.seek_read(buffer, offset);
        match read {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Windows returns this error for an offset beyond the end.
            Err(error) if cfg!(windows) && error.raw_os_error() == Some(38) => return Ok(0),
            read => return read,
        }
    }
}

/// Reads a file of `/proc`, which does not report its size.
///
/// `std::fs::read` begins with a small buffer for such a file, and makes ten system calls for a few kilobytes. The kernel
/// returns at most a page at once, so a buffer of two pages needs the fewest calls.
#[cfg(target_os = "linux")]
pub(crate) fn read_proc(path: &str) -> io::Result<Vec<u8>> {
    use rustix::fs::{Mode, OFlags};
    use rustix::io::Errno;

    const ROOM: usize = 8 << 10;

    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut bytes = Vec::new();
    loop {
        bytes.reserve(ROOM);
        match rustix::io::read(&file, rustix::buffer::spare_capacity(&mut bytes)) {
            Ok(0) => return Ok(bytes),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Checks that no other user can have written a file, and that it is not a link.
#[cfg(unix)]
pub(crate) fn check_private(stat: &rustix::fs::Stat) -> Result<(), String> {
    use rustix::fs::{FileType, RawMode};

    const GROUP_OR_WORLD: RawMode = 0o077;

    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err("it is not a regular file".to_owned());
    }
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(format!("it belongs to uid {}", stat.st_uid));
    }
    if stat.st_mode & GROUP_OR_WORLD != 0 {
        return Err(format!(
            "other users have access (mode {:04o})",
            stat.st_mode & 0o7777
        ));
    }
    Ok(())
}

/// Creates a named pipe of this user.
#[cfg(all(test, unix))]
pub(crate) fn make_fifo(path: &std::path::Path) {
    let mut command = std::process::Command::new("mkfifo");
    let made = command.args(["-m", "600"]).arg(path).status();
    assert!(made.is_ok_and(|status| status.success()), "{path:?}");
}

//! Reading a file at a place, whoever else reads it.

use std::fs::File;
use std::io;

/// Reads some bytes from `offset` on; none where the file has ended.
pub(crate) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    #[cfg(unix)]
    use std::os::unix::fs::FileExt as _;
    #[cfg(windows)]
    use std::os::windows::fs::FileExt as _;

    loop {
        #[cfg(unix)]
        let read = file.read_at(buffer, offset);
        // It moves the file's position, too, which nobody here uses.
        #[cfg(windows)]
        let read = file.seek_read(buffer, offset);
        match read {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Windows says so of a place behind the end.
            Err(error) if cfg!(windows) && error.raw_os_error() == Some(38) => return Ok(0),
            read => return read,
        }
    }
}

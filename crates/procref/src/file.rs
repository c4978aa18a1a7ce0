//! Reads from a file at an offset.

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

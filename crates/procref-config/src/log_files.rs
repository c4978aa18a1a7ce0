//! The files of a log: the log itself, and its older part, which a rotation has moved to `PATH.1`.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// Returns the path of the older part.
pub fn older(log: &Path) -> PathBuf {
    let mut path = log.as_os_str().to_owned();
    path.push(".1");
    path.into()
}

/// Opens a file. Returns `None` if it does not exist.
pub fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the last bytes of both parts, at most `limit`, and `true` if there are more before them.
pub fn tail(log: &Path, limit: u64) -> io::Result<(Vec<u8>, bool)> {
    let mut newer = File::open(log)?;
    let (bytes, is_cut) = end(&mut newer, limit)?;
    let left = limit.saturating_sub(bytes.len() as u64);
    if is_cut {
        return Ok((bytes, is_cut));
    }
    let Some(mut older) = open(&older(log))? else {
        return Ok((bytes, false));
    };
    let (mut both, is_cut) = end(&mut older, left)?;
    both.extend(bytes);
    Ok((both, is_cut))
}

/// Returns the last bytes of a file, and `true` if there are more before them.
fn end(file: &mut File, limit: u64) -> io::Result<(Vec<u8>, bool)> {
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(limit)))?;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok((bytes, size > limit))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn log_tail_continues_in_the_older_part() {
        let dir = tempfile::tempdir().expect("a directory");
        let log = dir.path().join("log");
        assert!(tail(&log, 10).is_err(), "there is no log");
        fs::write(&log, "5678").expect("write");
        assert_eq!(tail(&log, 10).expect("read"), (b"5678".to_vec(), false));
        fs::write(older(&log), "01234").expect("write");
        for (limit, expected) in [
            (2, ("78", true)),
            (4, ("5678", true)),
            (6, ("345678", true)),
            (9, ("012345678", false)),
        ] {
            let (bytes, is_cut) = tail(&log, limit).expect("read");
            assert_eq!(
                (String::from_utf8_lossy(&bytes).as_ref(), is_cut),
                expected,
                "{limit}"
            );
        }
    }
}

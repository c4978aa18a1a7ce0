//! Directories: made for this user alone, told apart, and watched.

use std::fs::File;
use std::io;
use std::path::Path;

pub(crate) use super::Changes;
use super::security::{Kind, descriptor};
use super::{create_directory, file_information};

/// One that is there already is no error; whose it is, is looked at later.
pub(crate) fn create(dir: &Path) -> io::Result<()> {
    match create_directory(dir, descriptor(Kind::File)?) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}

/// The volume's and the file's numbers, which together tell it from every other that is there.
pub(crate) fn identity(file: &File) -> io::Result<(u64, u64)> {
    let found = file_information(file)?;
    let index = u64::from(found.nFileIndexHigh) << 32 | u64::from(found.nFileIndexLow);
    Ok((found.dwVolumeSerialNumber.into(), index))
}

//! Where the configuration files are, and whether they may be used.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::problem::Problem;

/// The name of a project's file.
pub(crate) const FILE_NAME: &str = "procref.toml";

/// Names a project's file, as `--config` does.
pub(crate) const VARIABLE: &str = "PROCREF_CONFIG";

/// A longer file is no configuration.
const LONGEST: u64 = 1 << 20;

const WRITABLE_BY_ALL: u32 = 0o002;

/// The project's file that is nearest, from `dir` upwards.
pub(super) fn upwards(dir: &Path) -> Option<PathBuf> {
    let candidates = dir.ancestors().map(|dir| dir.join(FILE_NAME));
    // Whatever else it is than missing, it is said when it is read.
    candidates
        .into_iter()
        .find(|file| fs::symlink_metadata(file).is_ok())
}

/// The user's own file, if there is one.
pub(super) fn of_user() -> Option<PathBuf> {
    let set = |name| env::var_os(name).map(PathBuf::from);
    let base = set("XDG_CONFIG_HOME").filter(|dir| dir.is_absolute());
    let base = base.or_else(|| Some(set("HOME").filter(|dir| dir.is_absolute())?.join(".config")));
    let file = base?.join("procref").join("config.toml");
    fs::symlink_metadata(&file).is_ok().then_some(file)
}

/// What makes a file one that may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Somebody named it.
    Named,
    /// It was found, and tells what to execute: so it has to be this user's, or root's.
    Found,
}

/// The text of a file.
pub(super) fn read(file: &Path, trust: Trust) -> Result<String, Problem> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Problem::of_file(file, "there is no such file"),
        _ => Problem::io(file, "read it", &error),
    };
    // A pipe that nobody writes to would keep `open` waiting.
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
        .open(file)
        .map_err(failed)?;
    let metadata = opened.metadata().map_err(failed)?;
    if metadata.is_dir() || (trust == Trust::Found && !metadata.is_file()) {
        return Err(Problem::of_file(file, "it is no regular file"));
    }
    if trust == Trust::Found {
        check_owner(file, &metadata)?;
    }
    read_text(file, &opened)
}

fn check_owner(file: &Path, metadata: &fs::Metadata) -> Result<(), Problem> {
    let (owner, own) = (metadata.uid(), rustix::process::geteuid().as_raw());
    let doubt = if owner != own && owner != 0 {
        format!("it belongs to uid {owner}, and this process is uid {own}")
    } else if metadata.mode() & WRITABLE_BY_ALL != 0 {
        "everybody can write to it".to_owned()
    } else {
        return Ok(());
    };
    Err(Problem::of_file(
        file,
        format!(
            "{doubt}, and it tells what to execute; if you trust it, name it: `--config {}`, or \
             {VARIABLE}; otherwise `--no-config`",
            file.display()
        ),
    ))
}

fn read_text(file: &Path, opened: &File) -> Result<String, Problem> {
    let mut bytes = Vec::new();
    let read = opened.take(LONGEST + 1).read_to_end(&mut bytes);
    read.map_err(|error| Problem::io(file, "read it", &error))?;
    if bytes.len() as u64 > LONGEST {
        return Err(Problem::of_file(
            file,
            "it is longer than 1 MiB, so it is no configuration",
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let text = String::from_utf8_lossy(error.as_bytes());
        let source = super::problem::Source { file, text: &text };
        let valid = error.utf8_error().valid_up_to();
        source.problem(Some(valid..valid), "this is no UTF-8")
    })
}

//! Makes the paths of a service absolute.

use std::path::{Component, Path, PathBuf, is_separator};

use super::ServiceContext;

impl ServiceContext<'_> {
    /// Returns the absolute path of the data directory.
    pub(super) fn data_dir(&self, written: &Path) -> Result<String, String> {
        if written.as_os_str().is_empty() {
            return Err("the path is empty".to_owned());
        }
        let data = clean(&self.root.join(written));
        // After an interrupted `init`, the next start removes all entries of the directory.
        if self.root.starts_with(&data) {
            return Err(format!(
                "{} contains the configuration file",
                data.display()
            ));
        }
        let text = data.into_os_string().into_string();
        text.map_err(|_| "the path is not UTF-8".to_owned())
    }

    /// Makes a program's path absolute. A relative path is relative to the file.
    pub(super) fn program(&self, program: &str, filled: impl Fn(&str) -> String) -> String {
        match program.contains(is_separator) {
            true => self.below_root(program, filled),
            false => filled(program),
        }
    }

    /// Makes a path absolute. A path that is relative after it is filled in is relative to the file.
    pub(super) fn below_root(&self, path: &str, filled: impl Fn(&str) -> String) -> String {
        let value = filled(path);
        if value.starts_with("{dir}") || Path::new(&value).is_absolute() {
            return value;
        }
        // Join the templates, not their values, because two joined values could look like a placeholder.
        let joined: PathBuf = Path::new("{root}").join(path).components().collect();
        match self.root.parent() {
            Some(_) => filled(&joined.to_string_lossy()),
            None => self.root.join(value).to_string_lossy().into_owned(),
        }
    }
}

/// Returns the path without `.` and `..`. Links are not followed.
pub(super) fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    clean
}

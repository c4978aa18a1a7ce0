//! Makes the paths of a service absolute.

use std::path::{Component, Path, PathBuf, is_separator};

use super::ServiceContext;
use crate::files::template::AtStart;

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
    pub(super) fn program(
        &self,
        program: &str,
        at_start: AtStart<'_>,
        filled: impl Fn(&str) -> String,
    ) -> String {
        match program.contains(is_separator) {
            true => self.below_root(program, at_start, filled),
            false => filled(program),
        }
    }

    /// Makes a path absolute. A path that is relative after it is filled in is relative to the file.
    pub(super) fn below_root(
        &self,
        path: &str,
        at_start: AtStart<'_>,
        filled: impl Fn(&str) -> String,
    ) -> String {
        let value = filled(path);
        if at_start.begins_with_dir(&value) || Path::new(&value).is_absolute() {
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

/// Returns the existing directories whose paths match a pattern. A relative pattern is relative to `root`.
///
/// `glob::glob` would search too, but it takes one text for the root and the pattern. On Windows it finds nothing below a
/// root such as `\\?\C:\project`, and panics at some patterns that begin with two slashes.
pub(super) fn matching_dirs(root: &Path, pattern: &str) -> Result<Vec<PathBuf>, String> {
    let mut found = vec![root.to_path_buf()];
    for component in Path::new(pattern).components() {
        let name = component.as_os_str().to_string_lossy();
        if !matches!(component, Component::Normal(_)) || !name.contains(['*', '?', '[']) {
            for dir in &mut found {
                dir.push(component);
            }
            continue;
        }
        if name == "**" {
            return Err("`**` is not supported; write a `*` for each directory".to_owned());
        }
        let pattern = glob::Pattern::new(&name).map_err(|error| error.to_string())?;
        let options = glob::MatchOptions {
            case_sensitive: !cfg!(windows),
            ..Default::default()
        };
        let entries = found.iter().filter_map(|dir| dir.read_dir().ok()).flatten();
        found = entries
            .flatten()
            .filter(|entry| {
                let name = entry.file_name();
                name.to_str()
                    .is_some_and(|it| pattern.matches_with(it, options))
            })
            .map(|entry| entry.path())
            .collect();
    }
    found.retain(|dir| dir.is_dir());
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn names(root: &Path, pattern: &str) -> Vec<PathBuf> {
        let mut found = matching_dirs(root, pattern).expect("a valid pattern");
        found.sort();
        let relative = |dir: &PathBuf| dir.strip_prefix(root).map(Path::to_path_buf);
        found.iter().flat_map(relative).collect()
    }

    #[test]
    fn matching_directories_are_found_below_a_root_with_any_name() {
        let temp = tempfile::tempdir().expect("a directory");
        // The special characters in the root's name are not a pattern.
        for name in ["plain", "a[b]c", "[", "two  spaces"] {
            let root = temp.path().join(name);
            for dir in ["9/bin", "16/bin", "16/lib", ".hidden/bin"] {
                fs::create_dir_all(root.join(dir)).expect("create");
            }
            fs::write(root.join("file"), "").expect("write");
            // On Windows, such a root is a path that no pattern can express.
            let canonical = root.canonicalize().expect("canonicalize");
            for root in [root, canonical] {
                let all = [".hidden/bin", "16/bin", "9/bin"].map(PathBuf::from);
                assert_eq!(names(&root, "*/bin"), all, "{root:?}");
                assert_eq!(names(&root, "./[0-9]*//bin/"), all[1..], "{root:?}");
                assert_eq!(
                    names(&root, "1?/*"),
                    ["16/bin", "16/lib"].map(PathBuf::from)
                );
                assert_eq!(names(&root, "16"), [PathBuf::from("16")]);
                let absolute = temp.path().join("pl*").join("9").join("b*");
                let elsewhere = matching_dirs(&root, &absolute.to_string_lossy());
                assert_eq!(elsewhere, Ok(vec![temp.path().join("plain/9/bin")]));
                for nothing in ["file", "fil*", "missing/*", "*/missing", "16/bin/*"] {
                    assert!(names(&root, nothing).is_empty(), "{nothing}");
                }
            }
        }
    }

    #[test]
    fn invalid_pattern_is_an_error_and_never_a_panic() {
        let root = tempfile::tempdir().expect("a directory");
        for (pattern, expected) in [
            ("**/bin", "`**` is not supported"),
            ("a**", "recursive wildcards"),
            ("a/b***", "wildcards"),
            ("[a", "invalid range pattern"),
        ] {
            let error = matching_dirs(root.path(), pattern).expect_err("an error");
            assert!(error.contains(expected), "{pattern}: {error}");
        }
        for pattern in [
            "",
            "/",
            "//",
            "//server:usr/sbin",
            "//server/share/*",
            "\\\\server",
            "\\\\?\\C:\\*",
            "\\\\.\\COM1",
            "C:",
            "C:*",
            "C:\\*\\",
            "Z:/",
            "Z:/*",
            "..",
            "../*/../*",
            ".",
            "a\0b/*",
            "\u{e9}/*",
            "*/",
            "/*//",
        ] {
            matching_dirs(root.path(), pattern).expect("a pattern that finds some or none");
        }
    }
}

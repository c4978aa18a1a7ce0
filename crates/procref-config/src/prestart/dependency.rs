//! The data about a dependency that the service's process needs.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A service that another service depends on: where it runs, and which variables it exports.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Dependency {
    pub name: String,
    /// An absolute path. The dependent may have its own working directory and its own environment.
    #[serde(with = "path_text")]
    pub runtime_dir: PathBuf,
    /// `None` unless services of this name run once for each fingerprint.
    pub fingerprint: Option<String>,
    pub export: Vec<(String, String)>,
    pub depends_on: Vec<String>,
}

/// Writes a path to JSON as text, or as the list of its bytes if it is not Unicode.
mod path_text {
    use std::ffi::OsString;
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum PathText {
        Text(PathBuf),
        Other(OsString),
    }

    pub(super) fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
        match path.to_str() {
            Some(text) => to.serialize_str(text),
            None => path.as_os_str().serialize(to),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
        Ok(match PathText::deserialize(from)? {
            PathText::Text(path) => path,
            PathText::Other(path) => path.into(),
        })
    }
}

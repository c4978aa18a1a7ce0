//! The services of a runtime directory.

use std::path::Path;

use procref::Services;

/// Returns the services of this directory, or of the default one. A missing directory is not an error. An
/// existing directory is checked.
pub(crate) fn services(dir: Option<&Path>) -> procref::Result<Services> {
    match dir {
        Some(dir) => Services::in_dir(dir),
        None => Services::open(),
    }
}

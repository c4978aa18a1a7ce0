//! The program that does the work before a service's program: this program.

use std::env;
use std::path::PathBuf;

use procref::SharedService;
use procref_config::spec::ServiceSpec;

/// Returns the path of this program. If the file was replaced, the path leads to the new file.
pub(crate) fn path() -> PathBuf {
    let fallback = if cfg!(target_os = "linux") {
        "/proc/self/exe"
    } else {
        "procref"
    };
    env::current_exe().unwrap_or_else(|_| fallback.into())
}

/// Builds the service for the library.
pub(crate) fn build(spec: &ServiceSpec) -> procref::Result<SharedService> {
    spec.build(&path())
}

//! The files of a counted object.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::state::MAX_SOCKET;
use crate::key::ServiceKey;
use crate::name::Digest;
use crate::namespace::{self, Namespace};
use crate::process;

const STATE: &str = ".state";

/// The paths of an object's files.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The text for `ps`: `procref: NAME`.
    pub(crate) title: String,
    pub(crate) state: PathBuf,
    /// The directory of the socket, if it is not that of the state file.
    pub(crate) socket_dir: Option<PathBuf>,
    pub(crate) socket: PathBuf,
}

impl Place {
    /// The names contain only digests, because a service with an unknown name has the same files.
    pub(crate) fn of(key: &ServiceKey) -> crate::Result<Self> {
        let dir = key.namespace.dir();
        let (space, name) = key.digests();
        let stem = format!("{name}.{space}");
        let state = dir.join(format!("{stem}{STATE}"));
        let title = process::supervisor_title(key.name());
        let file = format!("{stem}.s");
        let near = dir.join(&file);
        if near.as_os_str().as_bytes().len() <= MAX_SOCKET {
            let (socket_dir, socket) = (None, near);
            return Ok(Self {
                title,
                state,
                socket_dir,
                socket,
            });
        }
        // The path of a socket has at most 107 bytes, on macOS 103.
        let socket_dir = namespace::default_dir()?.join("s");
        Ok(Self {
            title,
            state,
            socket: socket_dir.join(file),
            socket_dir: Some(socket_dir),
        })
    }
}

/// Returns the digest of the service's name, if a file of this name is a state file of this namespace.
pub(crate) fn digest_of(file: &Path, namespace: &Namespace) -> Option<Digest> {
    let stem = file.to_str()?.strip_suffix(STATE)?;
    let (name, space) = stem.split_once('.')?;
    let is_ours = Digest::parse(space) == Some(namespace.digest());
    is_ours.then(|| Digest::parse(name))?
}

/// Returns `true` if a file of this name can be a state file.
pub(crate) fn is_state(file: &Path) -> bool {
    file.to_str().is_some_and(|path| path.ends_with(STATE))
}

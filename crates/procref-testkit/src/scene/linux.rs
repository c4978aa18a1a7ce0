//! Where the kernel object is a set of System V semaphores, and a user is a number.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Scene;
use crate::actor::Actor;
pub(crate) use crate::kernel::parse_key;
use crate::observe::supervisors_of;
use crate::{deadline, kernel};

/// What a service's kernel object is known by.
pub type Key = i32;

/// The slots of the set that matter here.
const REFS: usize = 0;
const LOCK: usize = 1;

pub(super) fn create_private(dir: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(dir)
}

/// Nothing does.
pub(super) fn stays(_: &Path) -> bool {
    false
}

/// Writes a file that nobody else may read, as procref's are.
///
/// # Panics
///
/// When it cannot be written.
#[track_caller]
pub fn write_private(path: &Path, content: impl AsRef<[u8]>) {
    write_with(path, content, 0o600);
}

#[track_caller]
fn write_with(path: &Path, content: impl AsRef<[u8]>, mode: u32) {
    fs::write(path, content).expect("write");
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
}

/// Kills the supervisors of these services that are suspended, and tells of them. All others see for themselves that
/// their set is gone. Only where a name is this scene's alone its supervisors are.
pub(super) fn sweep_supervisors<'a>(
    root: &Path,
    names: impl Iterator<Item = &'a String>,
) -> Vec<String> {
    let tail = root.file_name().unwrap_or_default().to_string_lossy();
    let supervisors = names
        .filter(|name| name.ends_with(&*tail))
        .flat_map(|name| supervisors_of(name));
    let suspended = supervisors.filter(|supervisor| supervisor.is_suspended());
    suspended
        .map(|supervisor| {
            supervisor.kill();
            supervisor.wait_exit();
            format!("suspended supervisor {supervisor}")
        })
        .collect()
}

/// Removes the objects that there are, and tells of them.
pub(super) fn sweep_objects(keys: &[Key]) -> Vec<String> {
    let sets = kernel::sets().into_iter();
    let left = sets.filter(|set| keys.contains(&set.key));
    left.map(|set| {
        let _ = set.remove();
        format!("semaphore set {set:?}")
    })
    .collect()
}

impl Scene {
    /// A file that may be executed, and cannot be.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    #[must_use]
    pub fn unexecutable_file(&self) -> PathBuf {
        let path = self.root().join("no program");
        write_with(&path, "\0\0\0", 0o755);
        path
    }

    /// Whether a service has a kernel object.
    #[must_use]
    pub fn exists(&self, key: Key) -> bool {
        kernel::find(key).is_some()
    }

    /// How many clients the kernel counts.
    ///
    /// # Panics
    ///
    /// When the set is removed at this moment.
    #[must_use]
    pub fn references(&self, key: Key) -> u32 {
        kernel::find(key).map_or(0, |set| set.value(REFS).expect("read the set"))
    }

    /// Whether somebody has the transition lock.
    ///
    /// # Panics
    ///
    /// When there is no set.
    #[must_use]
    pub fn is_locked(&self, key: Key) -> bool {
        let set = kernel::find(key).expect("a set");
        set.value(LOCK).expect("read the set") > 0
    }

    /// Waits until `count` processes sleep until the lock of the set of `key` is free. A supervisor,
    /// which sleeps until nobody holds a reference, is none of them.
    #[track_caller]
    pub fn wait_sleepers(&self, key: Key, count: u32) {
        deadline::until_true("processes sleeping on the set", || {
            kernel::find(key).is_some_and(|set| set.sleepers(LOCK).unwrap_or(0) >= count)
        });
    }

    /// A client with this file mode creation mask.
    #[must_use]
    #[track_caller]
    pub fn actor_with_umask(&self, mask: u32) -> Actor {
        self.spawn(&self.shared.programs.actor, |command| {
            command.arg("--umask").arg(mask.to_string());
        })
    }

    /// A client that runs as another user. Only root can do this.
    ///
    /// The programs are copied into the scene, because the other user may be
    /// kept out of the directory they were built in.
    ///
    /// # Panics
    ///
    /// When the copies cannot be made.
    #[must_use]
    #[track_caller]
    pub fn actor_of_user(&self, uid: u32) -> Actor {
        let everybody = |path: &Path, mode| {
            fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
        };
        everybody(self.root(), 0o755);
        for path in [self.log_path(), self.root().join("witness")] {
            File::options()
                .append(true)
                .create(true)
                .open(&path)
                .expect("create a shared file");
            everybody(&path, 0o666);
        }
        let actor = self.root().join("actor");
        if !actor.exists() {
            copy_program(&self.shared.programs.actor, &actor);
            copy_program(&self.shared.programs.service, &self.service_copy());
        }
        self.spawn(&actor, |command| {
            command.uid(uid).gid(uid);
        })
    }

    /// The copy of the fake service that [`Scene::actor_of_user`] makes.
    #[must_use]
    pub fn service_copy(&self) -> PathBuf {
        self.root().join("service")
    }
}

/// Not by this process: what another of its threads forks just then would have the copy open for writing, and
/// for as long as it does nobody can execute it (`ETXTBSY`).
fn copy_program(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg(from).arg(to).status();
    assert!(
        copied.is_ok_and(|it| it.success()),
        "copy {}",
        from.display()
    );
}

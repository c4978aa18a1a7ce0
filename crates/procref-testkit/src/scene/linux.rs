//! Scenes on Linux: kernel objects are System V semaphore sets or the state files of keepers, and users are numbers.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::Scene;
use crate::actor::Actor;
use crate::key::Key;
use crate::observe::{Identity, supervisors_of};
use crate::{deadline, kernel};

/// The slots of the set that matter here.
const REFS: usize = 0;
const LOCK: usize = 1;

/// The time within which a keeper exits after its last client.
const KEEPER_LIMIT: Duration = Duration::from_secs(20);

pub(super) fn create_private(dir: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(dir)
}

/// Returns `true` for the files of keepers, if the scene has keepers. [`wait_keepers`] checks those that must not stay.
pub(super) fn is_permanent(path: &Path) -> bool {
    kernel::is_keeper() && kernel::is_object_file(path)
}

/// Waits until the keepers of the scene have removed their state files and sockets, and exited. Returns descriptions of
/// those that stay.
///
/// A keeper that has no connection exits after 50 ms, and a keeper of a removed object after at most 5 s.
pub(super) fn wait_keepers(scene: &Scene) -> Vec<String> {
    if !kernel::is_keeper() {
        return Vec::new();
    }
    let left = || {
        let entries = fs::read_dir(scene.runtime_dir()).into_iter().flatten();
        let paths = entries.flatten().map(|entry| entry.path());
        let files = paths.filter(|path| kernel::is_object_file(path) && !path.ends_with("kernel"));
        let mut left: Vec<_> = files
            .map(|path| format!("file {}", path.display()))
            .collect();
        left.extend(keepers_in(&scene.runtime_dir()).map(|keeper| format!("keeper {keeper}")));
        left
    };
    let begun = Instant::now();
    loop {
        let found = left();
        if found.is_empty() || begun.elapsed() > KEEPER_LIMIT {
            keepers_in(&scene.runtime_dir()).for_each(|keeper| keeper.kill());
            return found;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Returns the keepers of a runtime directory.
fn keepers_in(dir: &Path) -> impl Iterator<Item = Identity> {
    let start = format!("PROCREF_KEEPER={}/", dir.display()).into_bytes();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(move |entry| {
        let environ = fs::read(entry.path().join("environ")).ok()?;
        let is_keeper = environ
            .split(|&byte| byte == 0)
            .any(|it| it.starts_with(&start));
        let pid = entry.file_name().to_str()?.parse().ok()?;
        Identity::of(pid).filter(|keeper| is_keeper && keeper.is_live())
    })
}

/// Writes a file that only its owner can read, like procref's files.
///
/// # Panics
///
/// Panics if the file cannot be written.
#[track_caller]
pub fn write_private(path: &Path, content: impl AsRef<[u8]>) {
    write_with(path, content, 0o600);
}

#[track_caller]
fn write_with(path: &Path, content: impl AsRef<[u8]>, mode: u32) {
    fs::write(path, content).expect("write");
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
}

/// Kills the suspended supervisors of these services, and returns their descriptions. A running supervisor exits when
/// its set is removed. Supervisors of a name that other scenes use are ignored.
pub(super) fn remove_supervisors<'a>(
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

/// Removes the existing objects, and returns their descriptions.
pub(super) fn remove_objects(keys: &[Key]) -> Vec<String> {
    let sets = kernel::sets().into_iter();
    let existing = sets.filter(|set| keys.contains(&set.key));
    existing
        .map(|set| {
            let _ = set.remove();
            format!("semaphore set {set:?}")
        })
        .collect()
}

impl Scene {
    /// Writes a file with execute permission that is not a program.
    ///
    /// # Panics
    ///
    /// Panics if the file cannot be written.
    #[must_use]
    pub fn unexecutable_file(&self) -> PathBuf {
        let path = self.root().join("no program");
        write_with(&path, "\0\0\0", 0o755);
        path
    }

    /// Returns `true` if the service has a kernel object.
    #[must_use]
    pub fn exists(&self, key: Key) -> bool {
        kernel::find(key).is_some()
    }

    /// Returns the kernel's count of clients, or 0 if there is no set.
    ///
    /// # Panics
    ///
    /// Panics if the set is removed during the call.
    #[must_use]
    pub fn references(&self, key: Key) -> u32 {
        let Some(set) = kernel::find(key) else {
            return 0;
        };
        // A keeper handles the deaths of clients before it answers, and not before this process reads its file.
        let _ = set.sleepers(REFS);
        set.value(REFS).expect("read the set")
    }

    /// Returns `true` if a process holds the transition lock.
    ///
    /// # Panics
    ///
    /// Panics if there is no set.
    #[must_use]
    pub fn is_locked(&self, key: Key) -> bool {
        let set = kernel::find(key).expect("a set");
        set.value(LOCK).expect("read the set") > 0
    }

    /// Waits until `count` processes wait for the transition lock. A supervisor is not one of them, because it waits for
    /// the count of references.
    #[track_caller]
    pub fn wait_sleepers(&self, key: Key, count: u32) {
        deadline::until_true("processes that wait for the lock", || {
            kernel::find(key).is_some_and(|set| set.sleepers(LOCK).unwrap_or(0) >= count)
        });
    }

    /// Starts a client process with this file mode creation mask.
    #[must_use]
    #[track_caller]
    pub fn actor_with_umask(&self, mask: u32) -> Actor {
        self.spawn(&self.shared.programs.actor, |command| {
            command.arg("--umask").arg(mask.to_string());
        })
    }

    /// Starts a client process as another user. This works only as root.
    ///
    /// The programs are copied to the scene, because the other user may have no access to the build directory.
    ///
    /// # Panics
    ///
    /// Panics if the programs cannot be copied.
    #[must_use]
    #[track_caller]
    pub fn actor_of_user(&self, uid: u32) -> Actor {
        let set_mode = |path: &Path, mode| {
            fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
        };
        set_mode(self.root(), 0o755);
        for path in [self.log_path(), self.root().join("witness")] {
            File::options()
                .append(true)
                .create(true)
                .open(&path)
                .expect("create a shared file");
            set_mode(&path, 0o666);
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

    /// Returns the path of the fake service's copy, which [`Scene::actor_of_user`] makes.
    #[must_use]
    pub fn service_copy(&self) -> PathBuf {
        self.root().join("service")
    }
}

/// Copies a program in a separate process. If this process copied it, a child that another thread forks at that moment
/// would have the copy open for writing, and the kernel would refuse to execute the copy (`ETXTBSY`).
fn copy_program(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg(from).arg(to).status();
    assert!(
        copied.is_ok_and(|status| status.success()),
        "copy {}",
        from.display()
    );
}

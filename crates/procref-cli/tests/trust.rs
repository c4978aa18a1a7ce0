//! G7: what another user can change is not executed, and root leaves nothing of its own with a user.

mod project;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use project::{Corner, PROCREF, texts};

/// A user who is not root and owns nothing.
const NOBODY: u32 = 65534;

/// A corner that every user can enter, with a copy of the program in it.
struct Open {
    corner: Corner,
}

impl Open {
    /// `None` if this user is not root, and cannot run a process as another user.
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: only root can run a process as another user");
            return None;
        }
        let corner = Corner::new();
        let root = corner.path("");
        fs::set_permissions(&root, Permissions::from_mode(0o755)).expect("chmod");
        fs::copy(PROCREF, corner.path("procref")).expect("copy");
        Some(Self { corner })
    }

    fn dir(&self, name: &str, owner: u32, mode: u32) -> PathBuf {
        let dir = self.corner.path(name);
        fs::create_dir_all(&dir).expect("a directory");
        fs::set_permissions(&dir, Permissions::from_mode(mode)).expect("chmod");
        chown(&dir, Some(owner), Some(owner)).expect("chown");
        dir
    }

    fn file(&self, name: &str, text: &str, owner: u32, mode: u32) -> PathBuf {
        let file = self.corner.path(name);
        fs::write(&file, text).expect("a file");
        fs::set_permissions(&file, Permissions::from_mode(mode)).expect("chmod");
        chown(&file, Some(owner), Some(owner)).expect("chown");
        file
    }

    /// Runs a script as root with a `/tmp` of its own, in which the corner is the only thing. In it, `$as` runs
    /// a program as the other user.
    fn script(&self, script: &str, variables: &[(&str, &Path)]) -> (Option<i32>, String) {
        let begin = r#"
            set -e
            corner=$PWD
            exec 9<.
            mount -t tmpfs -o mode=1777 tmpfs /tmp
            mkdir -p "$corner"
            mount --no-canonicalize --bind /proc/self/fd/9 "$corner"
            exec 9<&-
            cd "$corner"
            as='setpriv --reuid=65534 --regid=65534 --clear-groups'
            set +e
        "#;
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-c"])
            .arg(format!("{begin}\n{script}"))
            .current_dir(self.corner.path(""))
            .env_remove("PROCREF_RUNTIME_DIR")
            .env_remove("PROCREF_CONFIG")
            .env_remove("XDG_RUNTIME_DIR")
            .env_remove("XDG_CONFIG_HOME")
            .env("HOME", self.corner.path("home"))
            .envs(variables.iter().copied());
        let output = command.output().expect("run unshare");
        let (out, err) = texts(&output);
        (output.status.code(), out + &err)
    }
}

/// A client of a service, which waits until the service is gone.
const USE: &str = "run s --ready started --start 'sleep 60' -- true";

#[test]
fn g7_root_leaves_nothing_in_the_runtime_directory_of_a_user() {
    let Some(open) = Open::new() else { return };
    let xdg = open.dir("xdg", NOBODY, 0o700);
    let script = format!(
        "./procref {USE} || exit 10
         $as ./procref {USE} || exit 11
         ./procref doctor
         stat -c '%u %a' /tmp/procref-0
         ./procref gc"
    );
    let (code, said) = open.script(&script, &[("XDG_RUNTIME_DIR", &xdg)]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("0 700"),
        "root has a directory of its own: {said}"
    );
    assert!(
        said.contains("is not used: it belongs to uid 65534, and this process is uid 0"),
        "doctor tells why: {said}"
    );
    let made = fs::metadata(xdg.join("procref")).expect("the user's directory");
    assert_eq!(made.uid(), NOBODY);
}

#[test]
fn g7_runtime_directory_of_a_session_is_used_only_if_it_exists() {
    let Some(open) = Open::new() else { return };
    let file = open.file("file", "", 0, 0o600);
    let link = open.corner.path("link");
    symlink(open.dir("mine", 0, 0o700), &link).expect("a link");
    let fallback = format!(
        "./procref {USE} || exit 10
         ls -d /tmp/procref-0 && ./procref gc"
    );
    for missing in [&open.corner.path("no/where"), &file, Path::new("relative")] {
        let (code, said) = open.script(&fallback, &[("XDG_RUNTIME_DIR", missing)]);
        assert_eq!(code, Some(0), "{}: {said}", missing.display());
        assert!(!open.corner.path("no").exists(), "no parents are created");
        assert!(!open.corner.path("relative").exists());
    }
    let (code, said) = open.script(
        &format!("./procref {USE} && [ ! -e /tmp/procref-0 ]"),
        &[("XDG_RUNTIME_DIR", &link)],
    );
    assert_eq!(code, Some(0), "a link to this user's directory: {said}");
    assert!(open.corner.path("mine/procref").is_dir());
}

#[test]
fn g7_root_creates_no_runtime_directory_in_the_directory_of_a_user() {
    let Some(open) = Open::new() else { return };
    let home = open.dir("user", NOBODY, 0o755);
    let variable = home.join("cache/run");
    let script = format!(
        "./procref {USE}; echo $?; mkdir config && cd config && ../procref init && ../procref {USE}"
    );
    let (_, said) = open.script(&script, &[("PROCREF_RUNTIME_DIR", &variable)]);
    assert!(said.contains("125"), "{said}");
    for part in [
        "belongs to uid 65534",
        "this process is uid 0",
        "unset PROCREF_RUNTIME_DIR",
    ] {
        assert!(said.contains(part), "{part:?} in {said}");
    }
    assert_eq!(fs::read_dir(&home).expect("list").count(), 0);
    // The user's own processes create it.
    let script = format!("$as ./procref {USE}");
    let (code, said) = open.script(&script, &[("PROCREF_RUNTIME_DIR", &variable)]);
    assert_eq!(code, Some(0), "{said}");
    let (_, said) = open.script(
        &format!("./procref {USE}"),
        &[("PROCREF_RUNTIME_DIR", &variable)],
    );
    assert!(said.contains("belongs to uid 65534"), "{said}");
}

#[test]
fn g7_last_resort_that_another_user_occupies_is_an_error_that_tells_what_to_do() {
    let Some(open) = Open::new() else { return };
    for occupied in [
        "$as mkdir /tmp/procref-0",
        "$as ln -s /etc /tmp/procref-0",
        "$as touch /tmp/procref-0",
    ] {
        let (code, said) = open.script(&format!("{occupied}; ./procref {USE}"), &[]);
        assert_eq!(code, Some(125), "{occupied}: {said}");
        for part in ["/tmp/procref-0", "set PROCREF_RUNTIME_DIR", "removed by"] {
            assert!(said.contains(part), "{occupied}: {part:?} in {said}");
        }
    }
}

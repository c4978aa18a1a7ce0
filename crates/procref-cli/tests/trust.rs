//! G7: procref executes no configuration that another user can change, and root creates no files in users' directories.

#![cfg(target_os = "linux")]

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{NOBODY, PROCREF, output_text, workspace::Workspace};

/// A workspace that every user can enter, with a copy of `procref`.
struct OpenWorkspace {
    workspace: Workspace,
}

impl OpenWorkspace {
    /// Returns `None` if this user is not root, and therefore cannot run a process as another user.
    #[expect(clippy::print_stderr, reason = "a skipped test reports itself")]
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: only root can run a process as another user");
            return None;
        }
        let workspace = Workspace::new();
        let root = workspace.path("");
        fs::set_permissions(&root, Permissions::from_mode(0o755)).expect("chmod");
        fs::copy(PROCREF, workspace.path("procref")).expect("copy a file");
        Some(Self { workspace })
    }

    fn dir(&self, name: &str, owner: u32, mode: u32) -> PathBuf {
        let dir = self.workspace.path(name);
        fs::create_dir_all(&dir).expect("create a directory");
        fs::set_permissions(&dir, Permissions::from_mode(mode)).expect("chmod");
        chown(&dir, Some(owner), Some(owner)).expect("chown");
        dir
    }

    fn file(&self, name: &str, text: &str, owner: u32, mode: u32) -> PathBuf {
        let file = self.workspace.path(name);
        fs::write(&file, text).expect("write a file");
        fs::set_permissions(&file, Permissions::from_mode(mode)).expect("chmod");
        chown(&file, Some(owner), Some(owner)).expect("chown");
        file
    }

    /// Runs `procref` as root, and returns its exit code, its standard output and its standard error.
    fn run(&self, dir: &Path, args: &[&str]) -> (Option<i32>, String, String) {
        let output = self.workspace.procref(dir).args(args).output();
        let output = output.expect("run procref");
        let (out, err) = output_text(&output);
        (output.status.code(), out, err)
    }

    /// Runs a script as root with a new `/tmp`, which contains only the workspace.
    ///
    /// In the script, `$as` runs a program as the other user.
    fn script(&self, script: &str, variables: &[(&str, &Path)]) -> (Option<i32>, String) {
        let prologue = r#"
            set -e
            workspace=$PWD
            exec 9<.
            mount -t tmpfs -o mode=1777 tmpfs /tmp
            mkdir -p "$workspace"
            mount --no-canonicalize --bind /proc/self/fd/9 "$workspace"
            exec 9<&-
            cd "$workspace"
            as='setpriv --reuid=65534 --regid=65534 --clear-groups'
            set +e
        "#;
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-c"])
            .arg(format!("{prologue}\n{script}"))
            .current_dir(self.workspace.path(""))
            .env_remove("PROCREF_RUNTIME_DIR")
            .env_remove("PROCREF_CONFIG")
            .env_remove("XDG_RUNTIME_DIR")
            .env_remove("XDG_CONFIG_HOME")
            .env("HOME", self.workspace.path("home"))
            .envs(variables.iter().copied());
        let output = command.output().expect("run unshare");
        let (out, err) = output_text(&output);
        (output.status.code(), out + &err)
    }
}

/// The arguments of a client that starts a service.
const USE: &str = "run s --ready started --start 'sleep 60' -- true";

#[test]
fn g7_root_leaves_nothing_in_the_runtime_directory_of_a_user() {
    let Some(open) = OpenWorkspace::new() else {
        return;
    };
    let xdg = open.dir("xdg", NOBODY, 0o700);
    let script = format!(
        "./procref {USE} || exit 10
         $as ./procref {USE} || exit 11
         ./procref doctor
         stat -c '%u %a' /tmp/procref-0
         ./procref gc"
    );
    let (code, stderr) = open.script(&script, &[("XDG_RUNTIME_DIR", &xdg)]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(
        stderr.contains("0 700"),
        "root has no separate directory: {stderr}"
    );
    assert!(
        stderr.contains("is not used: it belongs to uid 65534, and this process runs as uid 0"),
        "doctor does not report the reason: {stderr}"
    );
    let created = fs::metadata(xdg.join("procref")).expect("the directory of the user");
    assert_eq!(created.uid(), NOBODY);
}

#[test]
fn g7_session_runtime_directory_is_used_only_if_it_exists() {
    let Some(open) = OpenWorkspace::new() else {
        return;
    };
    let file = open.file("file", "", 0, 0o600);
    let link = open.workspace.path("link");
    symlink(open.dir("mine", 0, 0o700), &link).expect("create a link");
    let fallback = format!(
        "./procref {USE} || exit 10
         ls -d /tmp/procref-0 && ./procref gc"
    );
    for missing in [
        &open.workspace.path("no/where"),
        &file,
        Path::new("relative"),
    ] {
        let (code, stderr) = open.script(&fallback, &[("XDG_RUNTIME_DIR", missing)]);
        assert_eq!(code, Some(0), "{}: {stderr}", missing.display());
        assert!(
            !open.workspace.path("no").exists(),
            "procref created a parent directory"
        );
        assert!(!open.workspace.path("relative").exists());
    }
    let (code, stderr) = open.script(
        &format!("./procref {USE} && [ ! -e /tmp/procref-0 ]"),
        &[("XDG_RUNTIME_DIR", &link)],
    );
    assert_eq!(code, Some(0), "a link to this user's directory: {stderr}");
    assert!(open.workspace.path("mine/procref").is_dir());
}

#[test]
fn g7_root_creates_no_runtime_directory_in_a_users_directory() {
    let Some(open) = OpenWorkspace::new() else {
        return;
    };
    let home = open.dir("user", NOBODY, 0o755);
    let variable = home.join("cache/run");
    let script = format!(
        "./procref {USE}; echo $?; mkdir config && cd config && ../procref init && ../procref {USE}"
    );
    let (_, stderr) = open.script(&script, &[("PROCREF_RUNTIME_DIR", &variable)]);
    assert!(stderr.contains("125"), "{stderr}");
    for part in [
        "belongs to uid 65534",
        "this process is uid 0",
        "unset PROCREF_RUNTIME_DIR",
    ] {
        assert!(stderr.contains(part), "{part:?} in {stderr}");
    }
    assert_eq!(fs::read_dir(&home).expect("list the directory").count(), 0);
    // The processes of the user create the directory.
    let script = format!("$as ./procref {USE}");
    let (code, stderr) = open.script(&script, &[("PROCREF_RUNTIME_DIR", &variable)]);
    assert_eq!(code, Some(0), "{stderr}");
    let (_, stderr) = open.script(
        &format!("./procref {USE}"),
        &[("PROCREF_RUNTIME_DIR", &variable)],
    );
    assert!(stderr.contains("belongs to uid 65534"), "{stderr}");
}

#[test]
fn g7_occupied_fallback_directory_is_refused_with_advice() {
    let Some(open) = OpenWorkspace::new() else {
        return;
    };
    for occupied in [
        "$as mkdir /tmp/procref-0",
        "$as ln -s /etc /tmp/procref-0",
        "$as touch /tmp/procref-0",
    ] {
        let (code, stderr) = open.script(&format!("{occupied}; ./procref {USE}"), &[]);
        assert_eq!(code, Some(125), "{occupied}: {stderr}");
        for part in ["/tmp/procref-0", "set PROCREF_RUNTIME_DIR", "removed by"] {
            assert!(stderr.contains(part), "{occupied}: {part:?} in {stderr}");
        }
    }
}

/// A service whose program records its runs in the directory of the program.
const RELATIVE: &str = "[services.s]\nstart = './server.sh'\nready = 'started'\nlog = 'log'\n";

const SERVER: &str = "#!/bin/sh\necho ran >>\"${0%/*}/ran\"; exec sleep 60\n";

#[test]
fn g7_configuration_placed_by_another_user_is_not_executed() {
    let Some(open) = OpenWorkspace::new() else {
        return;
    };
    open.dir("ours", 0, 0o755);
    let ours = open.file("ours/procref.toml", RELATIVE, 0, 0o644);
    open.file("ours/server.sh", SERVER, 0, 0o755);
    let place = |name: &str, owner: u32, mode: u32| {
        let dir = open.dir(name, owner, mode);
        fs::create_dir_all(dir.join("sub")).expect("create a directory");
        open.file(&format!("{name}/server.sh"), SERVER, 0, 0o755);
        dir
    };
    // `all`, `directory` and `link`: another user owns the directory, the link, or both. `hard` and `sticky`: a hard
    // link has the owner of the file. `sticky`, `world` and `group`: another user can replace the file.
    let all = place("all", NOBODY, 0o755);
    symlink(&ours, all.join("procref.toml")).expect("create a link");
    std::os::unix::fs::lchown(all.join("procref.toml"), Some(NOBODY), None).expect("chown");
    let directory = place("directory", NOBODY, 0o755);
    symlink(&ours, directory.join("procref.toml")).expect("create a link");
    let link = place("link", 0, 0o755);
    symlink(&ours, link.join("procref.toml")).expect("create a link");
    std::os::unix::fs::lchown(link.join("procref.toml"), Some(NOBODY), None).expect("chown");
    let hard = place("hard", NOBODY, 0o755);
    fs::hard_link(&ours, hard.join("procref.toml")).expect("create a link");
    let sticky = place("sticky", 0, 0o1777);
    chown(&sticky, Some(0), Some(NOBODY)).expect("chown");
    fs::hard_link(&ours, sticky.join("procref.toml")).expect("create a link");
    let world = place("world", 0, 0o757);
    fs::copy(&ours, world.join("procref.toml")).expect("copy a file");
    let group = place("group", 0, 0o775);
    chown(&group, Some(0), Some(NOBODY)).expect("chown");
    fs::copy(&ours, group.join("procref.toml")).expect("copy a file");
    let theirs = place("theirs", 0, 0o755);
    open.file("theirs/procref.toml", RELATIVE, NOBODY, 0o644);
    let target = place("target", 0, 0o755);
    symlink(theirs.join("procref.toml"), target.join("procref.toml")).expect("create a link");
    let writable = place("writable", 0, 0o755);
    open.file("writable/procref.toml", RELATIVE, 0, 0o646);
    let by_group = place("by-group", 0, 0o755);
    let file = open.file("by-group/procref.toml", RELATIVE, 0, 0o664);
    chown(&file, Some(0), Some(NOBODY)).expect("chown");
    for (dir, parts) in [
        (&all, &["its directory", "all belongs to uid 65534"][..]),
        (
            &directory,
            &["its directory", "directory belongs to uid 65534"],
        ),
        (&link, &["the link belongs to uid 65534"]),
        (&hard, &["its directory", "hard belongs to uid 65534"]),
        (
            &sticky,
            &[
                "all users can write to its directory",
                "mode 1777",
                "chmod go-w",
            ],
        ),
        (
            &world,
            &[
                "all users can write to its directory",
                "mode 0757",
                "chmod o-w",
            ],
        ),
        (
            &group,
            &[
                "its group can write to its directory",
                "mode 0775",
                "chmod g-w",
            ],
        ),
        (&theirs, &["it belongs to uid 65534"]),
        (&target, &["it belongs to uid 65534"]),
        (
            &writable,
            &["all users can write to it (mode 0646", "chmod o-w"],
        ),
        (
            &by_group,
            &["its group can write to it (mode 0664", "chmod g-w"],
        ),
    ] {
        for from in [dir.clone(), dir.join("sub")] {
            let (code, _, stderr) = open.run(&from, &["run", "s", "--", "true"]);
            assert_eq!(code, Some(125), "{}: {stderr}", dir.display());
            for part in parts
                .iter()
                .chain(&["procref.toml", "--config", "--no-config"])
            {
                assert!(
                    stderr.contains(part),
                    "{}: {part:?} in {stderr}",
                    dir.display()
                );
            }
        }
        assert!(!dir.join("ran").exists(), "{} was executed", dir.display());
        let (_, findings, _) = open.run(dir, &["doctor"]);
        assert!(findings.contains(parts[0]), "doctor: {findings}");
        // A user who names the file takes the responsibility. `doctor` still warns.
        let named = ["--config", "procref.toml", "run", "s", "--", "true"];
        let (code, _, stderr) = open.run(dir, &named);
        assert_eq!(code, Some(0), "{}: {stderr}", dir.display());
        let named = ["--config", "procref.toml", "doctor"];
        let (code, findings, _) = open.run(dir, &named);
        assert!(
            findings.contains("which was named") && findings.contains(parts[0]),
            "{findings}"
        );
        assert_eq!(code, Some(0), "a warning is not an error");
    }
}

#[test]
fn g7_links_between_own_directories_are_followed() {
    let workspace = Workspace::new();
    let dotfiles = workspace.project(
        "dotfiles",
        "[services.s]\nstart = 'sleep 60'\nready = 'started'\n",
    );
    let other = workspace.path("other");
    let home = workspace.path("home/.config/procref");
    for dir in [&other, &home] {
        fs::create_dir_all(dir).expect("create a directory");
    }
    let target = dotfiles.dir.join("procref.toml");
    let chain = workspace.path("chain.toml");
    symlink(&target, &chain).expect("create a link");
    for (link, target) in [
        (other.join("procref.toml"), target.as_path()),
        (home.join("config.toml"), target.as_path()),
        (workspace.path("other/chain/procref.toml"), chain.as_path()),
        (
            workspace.path("other/relative/procref.toml"),
            Path::new("../../dotfiles/procref.toml"),
        ),
    ] {
        let dir = link.parent().expect("create a directory");
        fs::create_dir_all(dir).expect("create a directory");
        symlink(target, &link).expect("create a link");
        let output = workspace
            .procref(dir)
            .args(["run", "s", "--", "true"])
            .output();
        let output = output.expect("run procref");
        assert!(
            output.status.success(),
            "{}: {}",
            link.display(),
            output_text(&output).1
        );
        fs::remove_file(&link).expect("remove the link");
    }
    // procref resolves a link to the working directory before it searches for the file.
    symlink(&dotfiles.dir, workspace.path("other/dir")).expect("create a link");
    let output = workspace
        .procref(&workspace.path("other/dir"))
        .args(["run", "s", "--", "true"])
        .output();
    assert!(output.expect("run procref").status.success());
}

#[test]
fn g7_private_group_of_the_user_may_write_configuration() {
    const SCRIPT: &str = "
        mount --bind passwd /etc/passwd && mount --bind group /etc/group && cd app || exit 9
        setpriv --reuid=65534 --regid=4000 --clear-groups ../procref run s -- true";
    let Some(open) = OpenWorkspace::new() else {
        return;
    };
    let dir = open.dir("app", NOBODY, 0o775);
    let file = open.file(
        "app/procref.toml",
        "[services.s]\nstart = 'sleep 60'\nready = 'started'\n",
        NOBODY,
        0o664,
    );
    chown(&dir, Some(NOBODY), Some(4000)).expect("chown");
    chown(&file, Some(NOBODY), Some(4000)).expect("chown");
    open.file(
        "passwd",
        "me:x:65534:4000::/:/bin/sh\nother:x:4001:4001::/:/bin/sh\n",
        0,
        0o644,
    );
    for (group, allowed) in [
        ("me:x:4000:", true),
        ("me:x:4000:me", true),
        ("me:x:4000:me,other", false),
        ("me:x:4001:", false),
    ] {
        open.file("group", group, 0, 0o644);
        let (code, stderr) = open.script(SCRIPT, &[]);
        assert_eq!(
            code,
            Some(if allowed { 0 } else { 125 }),
            "{group}: {stderr}"
        );
        assert!(allowed || stderr.contains("chmod g-w"), "{stderr}");
    }
    // An access control list that lets uid 4001 write changes the permission bits of the group.
    let mut list = 2_u32.to_le_bytes().to_vec();
    let none = u32::MAX;
    for (tag, permissions, id) in [
        (1_u16, 6_u16, none),
        (2, 6, 4001),
        (4, 6, none),
        (16, 6, none),
        (32, 4, none),
    ] {
        list.extend(tag.to_le_bytes());
        list.extend(permissions.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&file, "system.posix_acl_access", &list, flags)
        .expect("a file system with access control lists");
    open.file("group", "me:x:4000:", 0, 0o644);
    let (code, stderr) = open.script(SCRIPT, &[]);
    assert_eq!(code, Some(125), "{stderr}");
    assert!(stderr.contains("its group can write to it"), "{stderr}");
}

#[test]
fn g7_root_does_not_execute_a_users_configuration() {
    let Some(open) = OpenWorkspace::new() else {
        return;
    };
    open.dir("home/.config/procref", NOBODY, 0o755);
    let text = "[services.s]\nstart = 'sleep 60'\nready = 'started'\n";
    open.file("home/.config/procref/config.toml", text, NOBODY, 0o644);
    // `sudo -E` keeps HOME.
    let dir = open.workspace.path("run");
    let (code, _, stderr) = open.run(&dir, &["run", "s", "--", "true"]);
    assert_eq!(code, Some(125), "{stderr}");
    for part in [
        "config.toml",
        "belongs to uid 65534",
        "sudo -H",
        "--no-config",
    ] {
        assert!(stderr.contains(part), "{part:?} in {stderr}");
    }
    // The user may use the configuration, even if root owns the file.
    let (code, stderr) = open.script("$as ./procref run s -- true", &[]);
    assert_eq!(code, Some(0), "{stderr}");
    open.dir("system", 0, 0o755);
    open.file("system/procref.toml", text, 0, 0o644);
    let (code, stderr) = open.script(
        "rm -r home/.config; cd system && $as ../procref run s -- true",
        &[],
    );
    assert_eq!(code, Some(0), "{stderr}");
}

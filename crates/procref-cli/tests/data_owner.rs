//! What is found in the place of a data directory, its note, its marker or its lock file.

#![cfg(unix)]

mod support;

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use support::workspace::{Project, Workspace};

const USE: [&str; 4] = ["run", "db", "--", "true"];
const NOBODY: u32 = 65534;

fn project(workspace: &Workspace) -> Project<'_> {
    workspace.project(
        "app",
        "[services.db]\nstart = 'sleep 600'\ndata = 'data'\nready = 'started'\n\
         init = ['sh', '-c', 'echo made >>made; touch \"$0/file\"', '{data}']\n",
    )
}

fn marker(project: &Project<'_>) -> PathBuf {
    project.dir.join("data/.procref-initialised")
}

fn note(project: &Project<'_>) -> PathBuf {
    project.dir.join(".data.procref-begun")
}

fn lock_file(project: &Project<'_>) -> PathBuf {
    project.dir.join(".data.procref-lock")
}

fn made(project: &Project<'_>) -> String {
    fs::read_to_string(project.dir.join("made")).unwrap_or_default()
}

#[track_caller]
fn is_refused(project: &Project<'_>, path: &Path, reason: &str) {
    let (code, stderr) = project.failure(&USE);
    let first = stderr.lines().next().unwrap_or_default();
    for part in ["\"db\"", reason, &path.display().to_string()] {
        assert!(first.contains(part), "{part:?} is not in: {stderr}");
    }
    assert_eq!(code, 125);
    assert_eq!(made(project), "", "init was run");
}

#[test]
fn g7_symlink_in_place_of_a_state_file_is_refused() {
    for place in [marker, note, lock_file] {
        for target in ["victim", "missing"] {
            let workspace = Workspace::new();
            let project = project(&workspace);
            fs::create_dir(project.dir.join("data")).expect("a directory");
            let victim = workspace.path("victim");
            fs::write(&victim, "content").expect("a file");
            symlink(workspace.path(target), place(&project)).expect("a link");
            is_refused(&project, &place(&project), "symbolic link");
            assert_eq!(fs::read_to_string(&victim).expect("the file"), "content");
            assert!(!workspace.path("missing").exists());
        }
    }
}

#[test]
fn g7_symlink_in_place_of_the_data_directory_is_refused() {
    for target in ["victim", "missing"] {
        let workspace = Workspace::new();
        let project = project(&workspace);
        fs::create_dir(workspace.path("victim")).expect("a directory");
        symlink(workspace.path(target), project.dir.join("data")).expect("a link");
        is_refused(&project, &project.dir.join("data"), "symbolic link");
        assert_eq!(
            fs::read_dir(workspace.path("victim"))
                .expect("read")
                .count(),
            0
        );
    }
    // A link above it is the user's own.
    let workspace = Workspace::new();
    let project = project(&workspace);
    project.configure(
        "[services.db]\nstart = 'sleep 600'\ndata = 'link/data'\ninit = ['touch', '{data}/file']\n",
    );
    fs::create_dir(workspace.path("elsewhere")).expect("a directory");
    symlink(workspace.path("elsewhere"), project.dir.join("link")).expect("a link");
    project.output(&USE);
    assert!(workspace.path("elsewhere/data/file").exists());
}

#[test]
fn g7_wrong_file_type_in_place_of_a_state_file_is_refused() {
    for place in [marker, note, lock_file] {
        let workspace = Workspace::new();
        let project = project(&workspace);
        fs::create_dir_all(place(&project)).expect("a directory");
        is_refused(&project, &place(&project), "not a regular file");
        // To open a named pipe would wait for another process.
        fs::remove_dir(place(&project)).expect("remove");
        let made = Command::new("mkfifo").arg(place(&project)).status();
        assert!(made.expect("run mkfifo").success());
        is_refused(&project, &place(&project), "not a regular file");
    }
    let workspace = Workspace::new();
    let project = project(&workspace);
    fs::write(project.dir.join("data"), "").expect("a file");
    is_refused(&project, &project.dir.join("data"), "not a directory");
}

#[test]
fn g7_file_of_another_user_is_refused() {
    if !rustix::process::geteuid().is_root() {
        // Only root can give a file away.
        return;
    }
    let data: fn(&Project<'_>) -> PathBuf = |project| project.dir.join("data");
    for place in [data, marker, note, lock_file] {
        let workspace = Workspace::new();
        let project = project(&workspace);
        fs::create_dir(data(&project)).expect("a directory");
        if !place(&project).exists() {
            fs::write(place(&project), "").expect("a file");
        }
        chown(place(&project), Some(NOBODY), None).expect("chown");
        is_refused(&project, &place(&project), "belongs to uid 65534");
        chown(place(&project), Some(0), None).expect("chown");
        project.output(&USE);
    }
}

/// The files of 0.2: an empty marker, an empty note, and no lock file.
#[test]
fn data_directory_of_procref_0_2_is_recognized() {
    let workspace = Workspace::new();
    let project = project(&workspace);
    fs::create_dir(project.dir.join("data")).expect("a directory");
    fs::write(project.dir.join("data/precious"), "content").expect("a file");
    fs::write(marker(&project), "").expect("a file");
    project.output(&USE);
    assert_eq!(made(&project), "");
    // With both, the machine went down before the note was removed.
    fs::write(note(&project), "").expect("a file");
    project.output(&USE);
    assert_eq!(made(&project), "");
    let precious = || fs::read_to_string(project.dir.join("data/precious"));
    assert_eq!(precious().expect("the file"), "content");

    fs::remove_file(marker(&project)).expect("remove");
    project.output(&USE);
    assert_eq!(made(&project), "made\n");
    assert!(precious().is_err(), "what was half made is gone");
    assert!(!note(&project).exists());
}

/// A backup by `cp -al` gives the lock file a second name.
#[test]
fn lock_file_with_a_second_hard_link_is_replaced() {
    let workspace = Workspace::new();
    let project = project(&workspace);
    project.output(&USE);
    let other = project.dir.join("backup");
    fs::write(lock_file(&project), "other content").expect("write");
    fs::hard_link(lock_file(&project), &other).expect("a link");
    project.output(&USE);
    assert_eq!(fs::read_to_string(&other).expect("read"), "other content");
    let content = fs::read_to_string(lock_file(&project)).expect("read");
    assert!(content.contains("\"service\":\"db\""), "{content}");
}

#[test]
fn marker_link_created_by_init_is_replaced_by_a_file() {
    let workspace = Workspace::new();
    let project = project(&workspace);
    project.configure(
        "[services.db]\nstart = 'sleep 600'\ndata = 'data'\nready = 'started'\n\
         init = ['sh', '-c', 'ln -s /dev/null \"$0/.procref-initialised\"', '{data}']\n",
    );
    project.output(&USE);
    assert!(
        fs::symlink_metadata(marker(&project))
            .expect("look")
            .is_file()
    );
}

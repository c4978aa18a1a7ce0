//! Files that take the place of a data directory or of the state files of `init`.
//!
//! The state files are the marker of a finished `init`, the note of a begun `init`, and the lock file.

#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{
    NOBODY, assert_first_line,
    workspace::{Project, Workspace},
};

const USE: [&str; 4] = ["run", "db", "--", "true"];

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

fn init_log(project: &Project<'_>) -> String {
    fs::read_to_string(project.dir.join("made")).unwrap_or_default()
}

#[track_caller]
fn assert_refused(project: &Project<'_>, path: &Path, reason: &str) {
    let (code, stderr) = project.failure(&USE);
    assert_first_line(&stderr, &["`db`", reason, &path.display().to_string()]);
    assert_eq!(code, 125);
    assert_eq!(init_log(project), "", "`init` was run");
}

#[test]
fn g7_symlink_in_place_of_a_state_file_is_refused() {
    for place in [marker, note, lock_file] {
        for target in ["victim", "missing"] {
            let workspace = Workspace::new();
            let project = project(&workspace);
            fs::create_dir(project.dir.join("data")).expect("create a directory");
            let victim = workspace.path("victim");
            fs::write(&victim, "content").expect("write a file");
            symlink(workspace.path(target), place(&project)).expect("create a link");
            assert_refused(&project, &place(&project), "symbolic link");
            assert_eq!(
                fs::read_to_string(&victim).expect("read the file"),
                "content"
            );
            assert!(!workspace.path("missing").exists());
        }
    }
}

#[test]
fn g7_symlink_in_place_of_the_data_directory_is_refused() {
    for target in ["victim", "missing"] {
        let workspace = Workspace::new();
        let project = project(&workspace);
        fs::create_dir(workspace.path("victim")).expect("create a directory");
        symlink(workspace.path(target), project.dir.join("data")).expect("create a link");
        assert_refused(&project, &project.dir.join("data"), "symbolic link");
        assert_eq!(
            fs::read_dir(workspace.path("victim"))
                .expect("read a file")
                .count(),
            0
        );
    }
    // procref follows a link above the directory, which the user has created.
    let workspace = Workspace::new();
    let project = project(&workspace);
    project.configure(
        "[services.db]\nstart = 'sleep 600'\ndata = 'link/data'\ninit = ['touch', '{data}/file']\n",
    );
    fs::create_dir(workspace.path("elsewhere")).expect("create a directory");
    symlink(workspace.path("elsewhere"), project.dir.join("link")).expect("create a link");
    project.output(&USE);
    assert!(workspace.path("elsewhere/data/file").exists());
}

#[test]
fn g7_wrong_file_type_in_place_of_a_state_file_is_refused() {
    for place in [marker, note, lock_file] {
        let workspace = Workspace::new();
        let project = project(&workspace);
        fs::create_dir_all(place(&project)).expect("create a directory");
        assert_refused(&project, &place(&project), "not a regular file");
        // Opening a named pipe would block until another process opens it, too.
        fs::remove_dir(place(&project)).expect("remove the file");
        let status = Command::new("mkfifo").arg(place(&project)).status();
        assert!(status.expect("run mkfifo").success());
        assert_refused(&project, &place(&project), "not a regular file");
    }
    let workspace = Workspace::new();
    let project = project(&workspace);
    fs::write(project.dir.join("data"), "").expect("write a file");
    assert_refused(&project, &project.dir.join("data"), "not a directory");
}

#[test]
fn g7_file_of_another_user_is_refused() {
    if !rustix::process::geteuid().is_root() {
        // Only root can change the owner of a file.
        return;
    }
    let data: fn(&Project<'_>) -> PathBuf = |project| project.dir.join("data");
    for place in [data, marker, note, lock_file] {
        let workspace = Workspace::new();
        let project = project(&workspace);
        fs::create_dir(data(&project)).expect("create a directory");
        if !place(&project).exists() {
            fs::write(place(&project), "").expect("write a file");
        }
        chown(place(&project), Some(NOBODY), None).expect("chown");
        assert_refused(&project, &place(&project), "belongs to uid 65534");
        chown(place(&project), Some(0), None).expect("chown");
        project.output(&USE);
    }
}

/// procref 0.2 had an empty marker, an empty note, and no lock file.
#[test]
fn data_directory_of_procref_0_2_is_recognized() {
    let workspace = Workspace::new();
    let project = project(&workspace);
    fs::create_dir(project.dir.join("data")).expect("create a directory");
    fs::write(project.dir.join("data/precious"), "content").expect("write a file");
    fs::write(marker(&project), "").expect("write a file");
    project.output(&USE);
    assert_eq!(init_log(&project), "");
    // Both files exist if the machine stopped before procref removed the note.
    fs::write(note(&project), "").expect("write a file");
    project.output(&USE);
    assert_eq!(init_log(&project), "");
    let precious = || fs::read_to_string(project.dir.join("data/precious"));
    assert_eq!(precious().expect("read the file"), "content");

    // A client that joins the last instance would not run `init`.
    workspace.wait_no_leftovers();
    fs::remove_file(marker(&project)).expect("remove the file");
    project.output(&USE);
    assert_eq!(init_log(&project), "made\n");
    assert!(
        precious().is_err(),
        "the incomplete directory was not removed"
    );
    assert!(!note(&project).exists());
}

/// A backup with `cp -al` adds a second hard link to the lock file.
#[test]
fn lock_file_with_a_second_hard_link_is_replaced() {
    let workspace = Workspace::new();
    let project = project(&workspace);
    project.output(&USE);
    // A client that joins the first instance would leave the lock file unchanged.
    workspace.wait_no_leftovers();
    let other = project.dir.join("backup");
    fs::write(lock_file(&project), "other content").expect("write the lock file");
    fs::hard_link(lock_file(&project), &other).expect("create a link");
    project.output(&USE);
    assert_eq!(
        fs::read_to_string(&other).expect("read a file"),
        "other content"
    );
    let content = fs::read_to_string(lock_file(&project)).expect("read a file");
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
            .expect("read the metadata")
            .is_file()
    );
}

//! G8: services can be started from host programs that make it hard for a library.

#![cfg(target_os = "linux")]

use std::fs;
use std::process::{Command, Output};

use procref_testkit::observe::supervisors_of;
use procref_testkit::{Scene, deadline, scene};

const HOST: &str = env!("CARGO_BIN_EXE_procref-host");
const THREAD_DATA_HOST: &str = env!("CARGO_BIN_EXE_procref-host-thread-data");

/// A host's mode, and what it printed.
struct Run {
    /// What the names of its services begin with.
    name: String,
    output: Output,
}

impl Run {
    fn new(scene: &Scene, program: &str, mode: &str) -> Self {
        Self::with(scene, program, mode, |_| {})
    }

    fn with(scene: &Scene, program: &str, mode: &str, prepare: impl FnOnce(&mut Command)) -> Self {
        let name = format!("host-{}-{mode}", std::process::id());
        let mut command = Command::new(program);
        command.arg(mode).arg(scene.runtime_dir()).arg(&name);
        prepare(&mut command);
        let output = command.output().expect("run the host");
        Self { name, output }
    }

    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.output.stdout);
        text.lines().map(str::to_owned).collect()
    }

    /// The one line that begins so.
    #[track_caller]
    fn line(&self, beginning: &str) -> String {
        let lines = self.lines();
        let mut found = lines.iter().filter(|line| line.starts_with(beginning));
        match (found.next(), found.next()) {
            (Some(line), None) => line.clone(),
            _ => panic!("one line with {beginning:?}: {:?}", self.output),
        }
    }

    /// Both services were started and released, and nothing is left of them.
    #[track_caller]
    fn assert_started(&self) {
        for kind in ["command", "callback"] {
            self.line(&format!("{kind} started alive=true"));
            self.line(&format!("{kind} released true"));
        }
        self.assert_nothing_left();
    }

    #[track_caller]
    fn assert_nothing_left(&self) {
        assert!(self.output.status.success(), "{:?}", self.output);
        for kind in ["command", "callback"] {
            let name = format!("{}-{kind}", self.name);
            deadline::until_true("the supervisor ends", || supervisors_of(&name).is_empty());
        }
    }
}

/// The records that are left in the scene's runtime directory.
fn records(scene: &Scene) -> Vec<String> {
    let entries = fs::read_dir(scene.runtime_dir()).expect("list the runtime directory");
    let names = entries.flatten().map(|entry| entry.file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| name.ends_with(".json")).collect()
}

#[test]
fn g8_ordinary_host_starts_services() {
    let scene = scene!();
    Run::new(&scene, HOST, "start").assert_started();
    assert_eq!(records(&scene), [String::new(); 0]);
}

#[test]
fn g8_host_with_large_thread_local_data_starts_services() {
    let scene = scene!();
    Run::new(&scene, THREAD_DATA_HOST, "start").assert_started();
}

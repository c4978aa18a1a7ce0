//! Checks that the testkit itself detects what its tests rely on.

use std::io::{BufRead, BufReader};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, Command, Stdio};

use procref_testkit::observe::Identity;
use procref_testkit::{Scene, scene};

/// Starts the fake service outside of any callback and waits until it is ready.
fn serve(scene: &Scene) -> Child {
    // The compiler may have run on another system, where this path was absolute.
    let program = std::path::absolute(env!("CARGO_BIN_EXE_procref-fake-service"));
    let mut child = Command::new(program.expect("make the path absolute"))
        .arg("--log")
        .arg(scene.log_path())
        .arg("--witness")
        .arg(scene.root().join("witness"))
        .arg("--guardian")
        .arg(Identity::own().to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("spawn");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("stdout is a pipe"))
        .read_line(&mut line)
        .expect("read");
    assert_eq!(line, format!("ready {} 0\n", child.id()));
    child
}

fn panic_text(body: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(body)).expect_err("the code panics");
    panic.downcast_ref::<String>().cloned().unwrap_or_else(|| {
        (*panic.downcast_ref::<&str>().expect("the panic has a text")).to_owned()
    })
}

#[test]
fn scene_reports_two_live_instances() {
    let scene = scene!();
    let mut one = serve(&scene);
    scene.assert_single_instance();
    let mut two = serve(&scene);
    assert!(panic_text(|| scene.assert_single_instance()).contains("two instances at once"));
    assert_eq!(scene.living().len(), 2);
    for child in [&mut one, &mut two] {
        child.kill().expect("kill");
        child.wait().expect("wait");
    }
}

#[test]
fn scene_reports_and_removes_leftovers() {
    let scene = scene!();
    let mut service = serve(&scene);
    let actor = scene.actor();
    let file = scene.runtime_dir().join("file");
    std::fs::write(&file, "").expect("write");

    let text = panic_text(|| drop(scene));
    for part in ["service process", "file "] {
        assert!(text.contains(part), "{text}");
    }
    assert!(service.try_wait().expect("try_wait").is_some());
    assert!(!file.exists());
    actor.wait_end();
}

/// A supervisor that a failed test has left suspended cannot notice that its set was removed, and
/// would stay indefinitely.
#[test]
#[cfg(target_os = "linux")]
fn scene_reports_and_kills_a_suspended_supervisor() {
    let scene = scene!();
    let spec = scene.unique(scene.command("suspended"));
    let (holder, _) = scene.holder(&spec);
    let supervisor = scene.only_supervisor(&spec);
    supervisor.signal(rustix::process::Signal::STOP);
    procref_testkit::deadline::until_true("the supervisor is suspended", || {
        supervisor.is_suspended()
    });
    let left = scene.sweep();
    let expected = format!("suspended supervisor {supervisor}");
    assert!(left.contains(&expected), "{left:?}");
    assert!(!supervisor.is_live());
    holder.wait_end();
}

//! Tests of the behavior that only this kernel has, and of each error that it can return, on the real system.
//! The tests that every kernel must pass are in `kernel/conformance.rs`.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use super::*;
use crate::kernel::semset::Op;
use crate::kernel::{Instance, Lock, Object as _, Supervised};
use crate::name::Name;
use crate::namespace::Namespace;
use crate::process::{self, Identity};

mod holders;
mod supervised;

/// A service with a unique name, whose set is removed when this is dropped.
struct Scratch {
    key: ServiceKey,
}

impl Scratch {
    fn new(name: &str) -> Self {
        // Two tests may choose the same name, and run at the same time.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = PathBuf::from(format!("/nowhere/{}/{count}", std::process::id()));
        let namespace = Namespace::new(
            dir,
            (0, 0),
            process::view().expect("this process can share services"),
        );
        Self {
            key: ServiceKey::new(namespace, Name::new(name).unwrap()),
        }
    }

    fn open(&self) -> Set<SysvArray> {
        self.try_open(Missing::Create).unwrap().unwrap()
    }

    fn try_open(&self, missing: Missing) -> Result<Option<Set<SysvArray>>> {
        run(SystemV.open(&self.key, missing))
    }

    /// Returns the set as another program would access it.
    fn raw(&self) -> SysvArray {
        SysvArray::open(&self.key, Missing::Create)
            .unwrap()
            .unwrap()
    }

    /// Creates a set with this key and another size.
    fn make(&self, slots: u16) -> sys::SetId {
        sys::get(self.key.short(), slots, true).unwrap()
    }

    fn exists(&self) -> bool {
        sys::get(self.key.short(), 0, false).is_ok()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Ok(id) = sys::get(self.key.short(), 0, false) {
            sys::remove(id).unwrap();
        }
    }
}

fn run<F: std::future::Future>(future: F) -> F::Output {
    pollster::block_on(future)
}

fn instance(pid: u32) -> Instance {
    let start = 1 << 40;
    Instance {
        has_metadata: true,
        ..Instance::plain(Identity { pid, start }, 65_535)
    }
}

fn text(error: &Error) -> String {
    error.to_string()
}

#[test]
fn open_with_ignore_creates_no_set() {
    let scratch = Scratch::new("looking");
    assert!(scratch.try_open(Missing::Ignore).unwrap().is_none());
    assert!(!scratch.exists());
}

#[test]
fn new_set_is_blank_and_can_only_be_entered() {
    let scratch = Scratch::new("blank");
    let set = scratch.open();
    let blank = run(set.snapshot()).unwrap();
    assert!(!blank.claimed && !blank.locked && blank.clients == 0 && blank.instance.is_none());
    assert!(!run(set.join(Supervised::No)).unwrap());
    assert!(run(set.try_enter()).unwrap());
    assert!(!run(set.try_enter()).unwrap(), "the lock is held");
    assert!(!run(set.try_lock()).unwrap());
    assert_eq!(run(set.lock_holder()).unwrap(), Some(std::process::id()));
    run(set.claim()).unwrap();
    run(set.publish(Some(&instance(7)), 1, Lock::Release)).unwrap();
    assert_eq!(run(set.lock_holder()).unwrap(), None);
    let ready = run(set.snapshot()).unwrap();
    assert_eq!(
        (ready.clients, ready.locked, ready.generation),
        (1, false, 1)
    );
    assert_eq!(ready.instance, Some(instance(7)));
    assert!(run(set.join(Supervised::No)).unwrap());
    assert_eq!(run(set.snapshot()).unwrap().clients, 2);
}

#[test]
fn wait_removed_sleeps_until_the_removal() {
    let scratch = Scratch::new("removal");
    let set = Arc::new(scratch.open());
    let waiter = {
        let set = Arc::clone(&set);
        thread::spawn(move || run(set.wait_removed()))
    };
    // A start, a pin and a stop do not wake the sleeper.
    assert!(run(set.try_enter()).unwrap());
    run(set.claim()).unwrap();
    run(set.publish(Some(&instance(7)), 1, Lock::Release)).unwrap();
    run(set.pin()).unwrap();
    assert!(run(set.unpin()).unwrap());
    run(set.publish(None, 1, Lock::Keep)).unwrap();
    assert!(run(set.leave_last()).unwrap());
    assert!(!waiter.is_finished());
    run(set.remove()).unwrap();
    assert!(matches!(waiter.join().unwrap(), Err(Fault::Removed)));
    assert!(matches!(run(set.wait_removed()), Err(Fault::Removed)));
}

#[test]
fn wait_unlocked_ends_when_lock_is_free_or_set_is_removed() {
    for removed in [false, true] {
        let scratch = Scratch::new(if removed {
            "wake-assert_removed"
        } else {
            "wake-free"
        });
        let set = scratch.open();
        assert!(run(set.try_enter()).unwrap());
        thread::scope(|scope| {
            let waiters: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| run(set.wait_unlocked())))
                .collect();
            if removed {
                run(set.remove()).unwrap();
            } else {
                run(set.unlock()).unwrap();
            }
            for waiter in waiters {
                match waiter.join().unwrap() {
                    Ok(()) => assert!(!removed),
                    Err(fault) => assert!(removed && matches!(fault, Fault::Removed)),
                }
            }
        });
    }
}

#[test]
fn steps_on_a_removed_set_fail_as_removed() {
    let scratch = Scratch::new("removed");
    let set = scratch.open();
    run(set.remove()).unwrap();
    let removed = |step: Step<()>| assert!(matches!(step, Err(Fault::Removed)));
    removed(run(set.snapshot()).map(drop));
    removed(run(set.join(Supervised::No)).map(drop));
    removed(run(set.wait_unlocked()));
    removed(run(set.try_enter()).map(drop));
    removed(run(set.try_lock()).map(drop));
    removed(run(set.claim()));
    removed(run(set.publish(None, 1, Lock::Release)));
    removed(run(set.unlock()));
    removed(run(set.abandon()).map(drop));
    removed(run(set.leave()).map(drop));
    removed(run(set.leave_last()).map(drop));
    removed(run(set.drop_reference()));
    removed(run(set.recount(0, 1, true)).map(drop));
    removed(run(set.remove()));
    removed(run(set.lock_holder()).map(drop));
    removed(run(set.inspect()).map(drop));
    let again = scratch.open();
    assert!(!run(again.snapshot()).unwrap().claimed);
}

#[test]
fn g7_set_of_another_size_is_foreign() {
    for (slots, reason) in [
        (slot::COUNT - 1, "fewer"),
        (slot::COUNT + 1, "more"),
        (4000, "more"),
    ] {
        let scratch = Scratch::new(reason);
        scratch.make(slots);
        // A client that only reads gets the error, too.
        for missing in [Missing::Create, Missing::Ignore] {
            let error = scratch.try_open(missing).err().expect("it is not ours");
            assert!(matches!(error, Error::Foreign { .. }), "{error:?}");
            assert!(text(&error).contains(reason), "{error}");
            assert!(text(&error).contains(&SystemV::object_name(&scratch.key)));
        }
    }
}

#[test]
fn set_is_too_large_only_when_it_hits_the_guard() {
    let error = |number| Err(io::Error::from_raw_os_error(number));
    assert!(matches!(too_large(error(libc::EFAULT)), Ok(None)));
    // If the set is removed between opening and reading it, it is opened again.
    let removed = too_large(error(libc::EIDRM)).unwrap_err();
    assert_eq!(removed.raw_os_error(), Some(libc::EIDRM));
    assert!(matches!(
        too_large(Ok([0; slot::COUNT as usize])),
        Ok(Some(_))
    ));
}

#[test]
fn larger_set_under_a_reused_id_does_not_overflow_the_buffer() {
    // The result of a reused id: the values of 4,000 semaphores do not fit.
    let scratch = Scratch::new("recycled");
    let id = scratch.make(4000);
    let error = sys::values(id).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EFAULT));
    let set = Set::new(
        SysvArray {
            id,
            key: scratch.key.short(),
            service: "recycled".into(),
        },
        &scratch.key,
    );
    assert!(matches!(run(set.snapshot()), Err(Fault::Removed)));
}

/// The buffer for values belongs to the thread, and is used again for the next set.
#[test]
fn smaller_set_leaves_the_rest_of_the_buffer_blank() {
    let last = Op {
        slot: slot::COUNT - 1,
        delta: 7,
        undo: false,
        nowait: false,
    };
    let (full, smaller) = (Scratch::new("full"), Scratch::new("smaller"));
    let full = full.make(slot::COUNT);
    sys::operate(full, &[last], Wait::No).unwrap();
    assert_eq!(sys::values(full).unwrap().last(), Some(&7));
    let values = sys::values(smaller.make(slot::COUNT - 1)).unwrap();
    assert_eq!(values.last(), Some(&0));
}

#[test]
fn buffer_of_an_exited_thread_is_unmapped() {
    fn mappings() -> usize {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().count()
    }
    let scratch = Scratch::new("room");
    let id = scratch.make(slot::COUNT);
    let before = mappings();
    for _ in 0..2000 {
        procref_supervisor::raw_calls::values_in_new_room(id).unwrap();
    }
    // Threads of other tests start and exit at the same time.
    assert!(mappings() < before + 1000);
}

#[test]
fn g7_set_with_other_digests_is_foreign() {
    let scratch = Scratch::new("collision");
    let other = Op {
        slot: slot::NAME.start,
        delta: 1,
        undo: false,
        nowait: false,
    };
    assert!(run(scratch.raw().operate("collide", &[other], Wait::No)).unwrap());
    let error = scratch
        .try_open(Missing::Create)
        .err()
        .expect("it is not ours");
    assert!(matches!(error, Error::Foreign { .. }), "{error:?}");
    assert!(text(&error).contains("32-bit key"), "{error}");
}

#[test]
fn full_count_returns_too_many_clients() {
    let scratch = Scratch::new("full");
    let set = scratch.open();
    let all = Op {
        slot: slot::REFS,
        delta: i16::MAX,
        undo: false,
        nowait: false,
    };
    assert!(run(scratch.raw().operate("fill", &[all], Wait::No)).unwrap());
    for step in [run(set.join(Supervised::No)), run(set.try_enter())] {
        match step {
            Err(Fault::Refused(error @ Error::TooManyClients { limit: 32_767, .. })) => {
                assert!(text(&error).contains("32767"), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(
        !run(set.snapshot()).unwrap().locked,
        "half of `enter` happened"
    );
}

#[test]
fn exhausted_undo_value_names_the_limit() {
    let scratch = Scratch::new("undo");
    let set = scratch.open();
    let raw = scratch.raw();
    // The kernel stores this process's undo value in 15 bits. Adding with undo and subtracting without undo
    // increases it, while the count stays low.
    let up = Op {
        slot: slot::REFS,
        delta: i16::MAX,
        undo: true,
        nowait: false,
    };
    let down = Op {
        slot: slot::REFS,
        delta: -i16::MAX,
        undo: false,
        nowait: false,
    };
    assert!(run(raw.operate("fill", &[up], Wait::No)).unwrap());
    assert!(run(raw.operate("empty", &[down], Wait::No)).unwrap());
    let one = Op {
        slot: slot::REFS,
        delta: 1,
        undo: true,
        nowait: false,
    };
    let refused = (0..3).find_map(|_| run(raw.operate("count", &[one], Wait::No)).err());
    match refused {
        Some(Fault::Refused(error @ Error::Kernel { .. })) => {
            assert!(text(&error).contains("this process alone"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    assert!(run(set.snapshot()).unwrap().clients < 3);
}

#[test]
fn corrupted_values_return_an_error_without_hanging() {
    let scratch = Scratch::new("corrupted");
    let set = scratch.open();
    match run(set.unlock()) {
        Err(Fault::Refused(error @ Error::Kernel { .. })) => {
            assert!(text(&error).contains("another program wrote"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

/// The limits belong to the IPC namespace. So this test runs itself again in a new namespace, and lowers them
/// there.
#[test]
fn machine_limits_return_errors_that_name_them() {
    const INSIDE: &str = "PROCREF_TEST_LIMITS";
    if std::env::var_os(INSIDE).is_some() {
        return inside_small_limits();
    }
    let run_inside = |mapping: &[&str]| {
        Command::new("unshare")
            .args(mapping)
            .args(["--ipc", "--fork"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("kernel::sysv::tests::machine_limits_return_errors_that_name_them")
            .env(INSIDE, "1")
            .output()
            .expect("unshare(1) of util-linux is installed")
    };
    let mapping: &[&str] = if rustix::process::geteuid().is_root() {
        &[]
    } else {
        &["--map-root-user"]
    };
    let output = run_inside(mapping);
    assert!(
        output.status.success() && String::from_utf8_lossy(&output.stdout).contains("1 passed"),
        "needs root or user namespaces\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Each IPC namespace assigns ids from the beginning, so the same id names another set in another namespace.
/// This test runs itself again in a new namespace, and one of its threads moves to a third one.
#[test]
fn g1_set_of_another_ipc_namespace_is_not_touched() {
    const INSIDE: &str = "PROCREF_TEST_TWO_NAMESPACES";
    if std::env::var_os(INSIDE).is_some() {
        return run_in_two_namespaces();
    }
    let root = rustix::process::geteuid().is_root();
    let output = Command::new("unshare")
        .args(if root { &[][..] } else { &["--map-root-user"] })
        .args(["--ipc", "--fork"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("kernel::sysv::tests::g1_set_of_another_ipc_namespace_is_not_touched")
        .env(INSIDE, "1")
        .output()
        .expect("unshare(1) of util-linux is installed");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && printed.contains("1 passed"),
        "needs root or user namespaces\n{printed}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn run_in_two_namespaces() {
    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
    use std::io::{BufRead as _, BufReader};

    let scratch = Scratch::new("here");
    let set = scratch.open();
    assert!(run(set.try_enter()).unwrap());
    run(set.claim()).unwrap();
    run(set.unlock()).unwrap();
    // This client has opened a claimed set, so its arrays check the owner themselves.
    let second = scratch.open();
    assert!(run(second.join(Supervised::No)).unwrap());

    let mut other = Command::new("unshare")
        .args(["--ipc", "sh", "-c", "echo there; read line"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(other.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let elsewhere = std::fs::File::open(format!("/proc/{}/ns/ipc", other.id())).unwrap();
    thread::scope(|scope| {
        let moved = scope.spawn(|| {
            use std::os::fd::AsFd as _;

            let kind = LinkNameSpaceType::InterProcessCommunication;
            move_into_link_name_space(elsewhere.as_fd(), Some(kind)).unwrap();
            let error = scratch.try_open(Missing::Create).err().expect("refused");
            assert!(matches!(error, Error::Namespaces { .. }), "{error}");
            // A set of another service with two clients. It has the same id.
            let victim = Scratch::new("there");
            let other = victim.open();
            let id = |set: &Set<SysvArray>| format!("{:?}", set.array().id);
            assert_eq!(id(&other), id(&set));
            assert!(run(other.try_enter()).unwrap());
            run(other.claim()).unwrap();
            run(other.unlock()).unwrap();
            run(other.array().operate("count", &[JOINED], Wait::No)).unwrap();
            let before = sys::values(other.array().id).unwrap();
            let assert_removed =
                |done: Step<bool>| assert!(matches!(done, Err(Fault::Removed)), "{done:?}");
            assert_removed(run(second.leave()));
            assert_removed(run(second.leave_to_supervisor()));
            assert_removed(run(second.join(Supervised::No)));
            assert_removed(run(rejoin(&second)));
            assert_removed(run(set.join(Supervised::No)));
            assert_removed(run(set.try_enter()));
            assert_removed(run(set.try_lock()));
            assert_removed(run(set.leave()));
            assert_removed(run(set.leave_last()));
            assert_removed(run(set.pin()).map(|()| true));
            assert_removed(run(set.remove()).map(|()| true));
            assert_eq!(sys::values(other.array().id).unwrap(), before);
        });
        moved.join().unwrap();
    });
    assert!(run(second.leave()).unwrap());
    assert_eq!(run(set.snapshot()).unwrap().clients, 1);
    drop(other.stdin.take());
    other.wait().unwrap();
}

/// Joins the instance that this test publishes or, if it does not, one that no set has.
async fn rejoin(set: &Set<SysvArray>) -> Step<bool> {
    let instance = Instance::plain(Identity { pid: 7, start: 8 }, 80);
    set.rejoin(&instance, 1, Supervised::No, &OnceLock::new())
        .await
}

#[test]
fn rejoin_reads_nothing_and_takes_no_other_instance() {
    let scratch = Scratch::new("rejoin");
    let set = scratch.open();
    assert!(run(set.try_enter()).unwrap());
    run(set.claim()).unwrap();
    let instance = |start| Instance::plain(Identity { pid: 7, start }, 80);
    run(set.publish(Some(&instance(8)), 1, Lock::Release)).unwrap();
    let second = scratch.open();
    assert!(run(rejoin(&second)).unwrap());
    assert_eq!(run(set.snapshot()).unwrap().clients, 2);
    assert!(run(second.leave()).unwrap());
    for (start, generation) in [(9, 1), (8 + (1 << 15), 1), (8, 2)] {
        assert!(run(set.try_lock()).unwrap());
        run(set.publish(Some(&instance(start)), generation, Lock::Release)).unwrap();
        assert!(!run(rejoin(&second)).unwrap(), "{start}, {generation}");
    }
    run(set.remove()).unwrap();
    assert!(matches!(run(rejoin(&second)), Err(Fault::Removed)));
}

/// Adds one reference.
const JOINED: Op = Op {
    slot: slot::REFS,
    delta: 1,
    undo: true,
    nowait: false,
};

fn inside_small_limits() {
    let set_limits = |per_set: u32, all: u32, ops: u32, sets: u32| {
        let limits = format!("{per_set} {all} {ops} {sets}");
        std::fs::write("/proc/sys/kernel/sem", limits).unwrap();
    };
    let refusal = |name: &str| {
        let scratch = Scratch::new(name);
        let error = scratch
            .try_open(Missing::Create)
            .err()
            .expect("a limit is reached");
        assert!(matches!(error, Error::Kernel { .. }), "{error:?}");
        text(&error)
    };
    set_limits(250, 32_000, 32, 0);
    assert!(refusal("no-set-left").contains("SEMMNI"));
    set_limits(250, u32::from(slot::COUNT) - 1, 32, 128);
    assert!(refusal("no-semaphore-left").contains("SEMMNS"));
    set_limits(u32::from(slot::COUNT) - 1, 32_000, 32, 128);
    assert!(refusal("set-too-large").contains("SEMMSL"));
    set_limits(250, 32_000, 2, 128);
    assert!(refusal("steps-too-long").contains("SEMOPM"));
}

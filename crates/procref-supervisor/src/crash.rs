//! Crash points: the steps after which a test can kill a process, to check what it leaves.
//!
//! There is a point after every step that changes something outside of the process: the kernel object, a
//! file, or another process. A test checks that each changing step of the kernel's contract has one. Some
//! steps that only read have a point, too, so that a test can change the state after a read.
//!
//! Points are chosen with environment variables, which procref reads. Without the feature `crash-points`, which only
//! procref's own tests enable, [`point`] does nothing.

#[cfg(feature = "crash-points")]
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// The kind of process that reaches a point.
#[cfg(feature = "crash-points")]
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashSite {
    Client,
    /// A supervisor or its attendant.
    Supervisor,
    /// The process of a service, before its program is executed.
    Service,
    /// A keeper. No other kernel has these points.
    Keeper,
}

/// A step after which a test can kill the process.
#[cfg(feature = "crash-points")]
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashPoint {
    pub name: &'static str,
    pub site: CrashSite,
}

macro_rules! points {
    ($($(#[$meta:meta])* $site:ident { $($name:ident,)* })*) => {
        /// A step after which a test can kill the process.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Point {
            $($($name,)*)*
        }

        /// All points, roughly in the order in which a service reaches them.
        #[cfg(feature = "crash-points")]
        #[doc(hidden)]
        pub const CRASH_POINTS: &[CrashPoint] = &[
            $($(CrashPoint { name: stringify!($name), site: CrashSite::$site },)*)*
        ];
    };
}

points! {
    // Acquiring.
    Client {
        Joined,
        JoinedUnsupervised,
        TryJoined,
        Entered,
        Locked,
        Announced,
        AdopteeSupervised,
        Adopted,
        LeftoverStopped,
        Reannounced,
    }
    // Starting with a callback.
    Client {
        Supervised,
        CalledBack,
        ReplacedEnded,
        PublishedUnready,
    }
    // Starting a command.
    Client {
        Prepared,
        SupervisorForked,
        Confirmed,
        Launched,
    }
    // Starting either of them.
    Client {
        Drafted,
        Recorded,
        GateOpened,
        Executed,
        RecordedNotified,
        Answering,
        PublishedReady,
    }
    // Starting.
    Supervisor {
        AttendantStarted,
        SupervisorStarted,
        SupervisorRegistered,
        ConfirmReceived,
        SteppedDown,
        CleanedUp,
        ServiceForked,
        ServicePublished,
        SupervisorReported,
    }
    Service {
        AtGate,
        GatePassed,
    }
    Supervisor {
        AboutToSleep,
        ExitReported,
        TreeExitReported,
        StartSeen,
        SharedLockReleased,
        StartCleared,
    }
    // Releasing.
    Client {
        Left,
        LeftToSupervisor,
        LeftPinned,
        LeftLast,
        LookedAsLast,
        UnlockedForOthers,
        Abandoned,
        ReferenceDropped,
        ReferenceDroppedLate,
        UnlockedLast,
    }
    // Stopping.
    Client {
        PublishedStopping,
        StopCalledBack,
        AskedToEnd,
        Killed,
        ServiceEnded,
        SettledNone,
        SettledRecordRemoved,
        PublishedNone,
        RecordRemoved,
        SetRemoved,
    }
    // Stopping on demand.
    Client {
        EnteredToStop,
        UnpinnedToStop,
        ClearedToStop,
    }
    Supervisor {
        FoundIdle,
        Yielded,
        Lingering,
        LingerOver,
        LeftoversStopped,
        Retired,
        FoundIdleAfterExit,
        SupervisorPublishedStopping,
        SupervisorEndedService,
        SupervisorPublishedNone,
        SupervisorRemovedFiles,
        SupervisorRemovedSet,
    }
    // Pinning, and garbage collection.
    Client {
        Pinned,
        UnpinnedByHolder,
        ReferredToUnpin,
        Unpinned,
        GcLocked,
        GcClaimed,
        GcCleared,
        GcRemovedFiles,
    }
    // Serving the clients, the launch of a service, and the deaths of clients.
    Keeper {
        RequestReceived,
        ChangeRecorded,
        ChangeCommitted,
        ChangeApplied,
        AnswerSent,
        ObjectRemoved,
        FilesUnlinked,
        OrderRead,
        LaunchBegun,
        DeathSeen,
        DeathHandled,
        SupervisorEnded,
    }
}

/// The number of the point at which a process dies, plus one. It is a static, because a supervisor unmaps its starter's
/// heap.
#[cfg(feature = "crash-points")]
static DIE: AtomicU8 = AtomicU8::new(0);
/// Number of times that a process passes that point before it dies.
#[cfg(feature = "crash-points")]
static SURVIVED: AtomicU32 = AtomicU32::new(0);
/// The numbers of the points at which a process is suspended once, plus one.
#[cfg(feature = "crash-points")]
static SUSPEND: [AtomicU8; 3] = [const { AtomicU8::new(0) }; 3];

/// The path of a file that gets the pid of the process that died, NUL-terminated.
#[cfg(feature = "crash-points")]
static MARK: [AtomicU8; 256] = [const { AtomicU8::new(0) }; 256];

/// Sets the path of the file that gets the pid of the process that died.
///
/// # Panics
///
/// Panics if the path is too long.
#[cfg(feature = "crash-points")]
pub fn choose_mark(path: &[u8]) {
    assert!(path.len() < MARK.len(), "the path of the mark is short");
    for (place, byte) in MARK.iter().zip(path) {
        place.store(*byte, Ordering::Relaxed);
    }
}

/// Sets the point at which this process, or a process that it forks, dies. It passes the point `survived` times before.
///
/// # Panics
///
/// Panics if there is no such point.
#[cfg(feature = "crash-points")]
pub fn choose_death(name: &str, survived: u32) {
    SURVIVED.store(survived, Ordering::Relaxed);
    DIE.store(code(name), Ordering::Relaxed);
}

/// Sets the points at which this process, or a process that it forks, is suspended once.
///
/// # Panics
///
/// Panics if there are too many points, or if one does not exist.
#[cfg(feature = "crash-points")]
pub fn choose_suspensions<'a>(names: impl Iterator<Item = &'a str>) {
    let mut places = SUSPEND.iter();
    for name in names {
        let place = places.next().expect("the number of points is small");
        place.store(code(name), Ordering::Relaxed);
    }
}

/// The length of a [`choice`].
#[cfg(feature = "crash-points")]
const CHOICE: usize = 8 + MARK.len();

/// Returns the chosen points and the mark for another process, or `None` if no point is chosen.
#[cfg(feature = "crash-points")]
pub fn choice() -> Option<[u8; CHOICE]> {
    let mut bytes = [0; CHOICE];
    let (points, rest) = bytes.split_at_mut(4);
    let (survived, mark) = rest.split_at_mut(4);
    for (byte, place) in points.iter_mut().zip([&DIE].into_iter().chain(&SUSPEND)) {
        *byte = place.load(Ordering::Relaxed);
    }
    survived.copy_from_slice(&SURVIVED.load(Ordering::Relaxed).to_ne_bytes());
    for (byte, place) in mark.iter_mut().zip(&MARK) {
        *byte = place.load(Ordering::Relaxed);
    }
    let is_chosen = points.iter().any(|&point| point != 0);
    is_chosen.then_some(bytes)
}

/// Sets the points and the mark that another process has [chosen](choice).
#[cfg(feature = "crash-points")]
pub fn adopt(choice: &[u8; CHOICE]) {
    let [die, suspend @ .., a, b, c, d] = *choice.first_chunk::<8>().unwrap_or(&[0; 8]);
    for (place, byte) in MARK.iter().zip(&choice[8..]) {
        place.store(*byte, Ordering::Relaxed);
    }
    for (place, byte) in SUSPEND.iter().zip(suspend) {
        place.store(byte, Ordering::Relaxed);
    }
    SURVIVED.store(u32::from_ne_bytes([a, b, c, d]), Ordering::Relaxed);
    DIE.store(die, Ordering::Relaxed);
}

/// The threads that no chosen point of a supervisor or a service affects. A keeper has the supervisors of several
/// clients, and only some of these clients have chosen points.
#[cfg(all(feature = "crash-points", target_os = "linux"))]
static SPARED: [AtomicU32; 64] = [const { AtomicU32::new(0) }; 64];

/// Chooses whether the points of supervisors and services spare the calling thread.
pub fn set_thread_spared(spared: bool) {
    #[cfg(all(feature = "crash-points", target_os = "linux"))]
    {
        let thread = thread_id();
        let change = |from, to| {
            SPARED.iter().any(|place| {
                let changed =
                    place.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
                changed.is_ok()
            })
        };
        match spared {
            true => is_thread_spared() || change(0, thread),
            false => change(thread, 0),
        };
    }
    #[cfg(not(all(feature = "crash-points", target_os = "linux")))]
    let _ = spared;
}

/// Returns `true` if the points of supervisors and services spare the calling thread.
#[must_use]
pub fn is_thread_spared() -> bool {
    #[cfg(all(feature = "crash-points", target_os = "linux"))]
    {
        let thread = thread_id();
        SPARED
            .iter()
            .any(|place| place.load(Ordering::Relaxed) == thread)
    }
    #[cfg(not(all(feature = "crash-points", target_os = "linux")))]
    false
}

#[cfg(all(feature = "crash-points", target_os = "linux"))]
fn thread_id() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get() as u32
}

/// Cancels all points of this process.
pub fn disarm() {
    #[cfg(feature = "crash-points")]
    for place in [&DIE].into_iter().chain(&SUSPEND) {
        place.store(0, Ordering::Relaxed);
    }
}

#[cfg(feature = "crash-points")]
fn code(name: &str) -> u8 {
    let position = CRASH_POINTS.iter().position(|point| point.name == name);
    position.expect("a crash point has this name") as u8 + 1
}

/// The effect of a point.
#[cfg(feature = "crash-points")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Dies,
    IsSuspended,
}

/// Returns the effect of this point on this process, or `None` if it was not chosen.
#[cfg(feature = "crash-points")]
pub fn fate(point: Point) -> Option<Fate> {
    let here = point as u8 + 1;
    let is_keepers = CRASH_POINTS[point as usize].site == CrashSite::Keeper;
    if !is_keepers && is_thread_spared() {
        return None;
    }
    if DIE.load(Ordering::Relaxed) == here {
        let less = |left: u32| left.checked_sub(1);
        let survived = SURVIVED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        if survived.is_err() {
            return Some(Fate::Dies);
        }
    }
    let suspends = |place: &AtomicU8| {
        let chosen = place.compare_exchange(here, 0, Ordering::Relaxed, Ordering::Relaxed);
        chosen.is_ok()
    };
    SUSPEND.iter().any(suspends).then_some(Fate::IsSuspended)
}

/// Kills or suspends this process if this point was chosen.
#[cfg(unix)]
pub fn point(point: Point) {
    #[cfg(feature = "crash-points")]
    match fate(point) {
        Some(Fate::Dies) => {
            leave_mark();
            kill_myself();
        }
        Some(Fate::IsSuspended) => suspend_myself(),
        None => {}
    }
    #[cfg(not(feature = "crash-points"))]
    let _ = point;
}

#[cfg(all(feature = "crash-points", unix))]
fn leave_mark() {
    use rustix::fs::{Mode, OFlags};

    let path = MARK.each_ref().map(|byte| byte.load(Ordering::Relaxed));
    if let Ok(path) = core::ffi::CStr::from_bytes_until_nul(&path) {
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        if let Ok(mark) = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR) {
            let pid = rustix::process::getpid().as_raw_nonzero().get();
            let _ = rustix::io::write(&mark, &pid.to_ne_bytes());
        }
    }
}

/// Kills this process, as the OOM killer does. Makes only system calls.
#[cfg(all(feature = "crash-points", unix))]
fn kill_myself() -> ! {
    loop {
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

/// Suspends this process until another process continues it. Makes only system calls.
///
/// Send the signal to this thread, which receives it immediately. If the signal were sent to the process,
/// another thread might receive it, and this thread would continue to run for a short time.
#[cfg(all(feature = "crash-points", target_os = "linux"))]
#[expect(unsafe_code, reason = "a signal to one thread")]
fn suspend_myself() {
    let process = rustix::process::getpid().as_raw_nonzero().get();
    let thread = rustix::thread::gettid().as_raw_nonzero().get();
    let [process, thread, signal] = [process, thread, libc::SIGSTOP].map(libc::c_long::from);
    // SAFETY: no pointers are passed. This is a raw system call, because libc would use its stored thread id,
    // which in a supervisor is that of the starter.
    unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal) };
}

/// Suspends this process until another process continues it. Makes only system calls.
#[cfg(all(feature = "crash-points", target_os = "macos"))]
fn suspend_myself() {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP);
}

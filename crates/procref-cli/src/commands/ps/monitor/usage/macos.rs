//! Reads what processes use by proc_pid_rusage.

#![expect(unsafe_code, reason = "proc_pid_rusage has no safe wrapper")]

use std::collections::HashSet;
use std::mem;
use std::time::Duration;

use super::TreeUsage;
use crate::process_tree::children;

/// `true` if [`tree_usage`] returns values.
pub(in super::super) const IS_AVAILABLE: bool = true;

unsafe extern "C" {
    // `mach/mach_time.h`. The libc crate deprecates its declaration.
    fn mach_timebase_info(info: *mut Timebase) -> libc::c_int;
}

/// The length of a tick of the processor's clock: `numerator / denominator` nanoseconds.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Timebase {
    numerator: u32,
    denominator: u32,
}

/// Returns what the processes of a service use. Returns `None` if none of them can be read.
///
/// The service consists of the keeper's children, the instance, and all of their descendants. A process that has lost its
/// parent is a child of the first process of the system and is missing. `managed` are the known keepers and instances.
pub(super) fn tree_usage(
    keeper: Option<u32>,
    instance: Option<u32>,
    managed: &HashSet<u32>,
) -> Option<TreeUsage> {
    let mut pending: Vec<u32> = keeper.map(children).unwrap_or_default();
    pending.extend(instance);
    let mut visited = HashSet::new();
    let mut usages = Vec::new();
    while let Some(pid) = pending.pop() {
        let is_foreign = managed.contains(&pid) && Some(pid) != instance;
        if is_foreign || !visited.insert(pid) {
            continue;
        }
        usages.extend(Usage::read(pid));
        pending.extend(children(pid));
    }
    // The time of exited processes counts for the keeper if it was their parent.
    let reaped = keeper.and_then(Usage::read).map_or(0, |it| it.reaped_ticks);
    total(&usages, reaped, timebase())
}

fn total(usages: &[Usage], reaped: u64, timebase: Timebase) -> Option<TreeUsage> {
    if usages.is_empty() {
        return None;
    }
    let ticks: u64 = usages.iter().map(|it| it.ticks + it.reaped_ticks).sum();
    let scaled = u128::from(ticks + reaped) * u128::from(timebase.numerator);
    let nanoseconds = scaled / u128::from(timebase.denominator.max(1));
    Some(TreeUsage {
        memory: usages.iter().map(|it| it.memory).sum(),
        time: Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX)),
    })
}

fn timebase() -> Timebase {
    let mut timebase = Timebase {
        numerator: 1,
        denominator: 1,
    };
    // SAFETY: the call writes two integers to `timebase`, which has the layout of its structure. It always succeeds.
    unsafe { mach_timebase_info(&raw mut timebase) };
    timebase
}

/// What one process uses.
#[derive(Clone, Copy, Debug)]
struct Usage {
    /// Processor time of the process, in ticks of the processor's clock.
    ticks: u64,
    /// Processor time of the children that the process has waited for, and of their children.
    reaped_ticks: u64,
    /// The footprint in bytes: the memory that exists because of this process. Shared files do not count.
    memory: u64,
}

impl Usage {
    /// Returns `None` if the process has exited or is hidden from this user.
    fn read(pid: u32) -> Option<Self> {
        let pid = libc::c_int::try_from(pid).ok()?;
        // SAFETY: all fields are integers, for which zeros are valid values.
        let mut info: libc::rusage_info_v2 = unsafe { mem::zeroed() };
        // SAFETY: with this flavor, the call writes a structure of this type to `info`, which is borrowed by nothing else.
        let result =
            unsafe { libc::proc_pid_rusage(pid, libc::RUSAGE_INFO_V2, (&raw mut info).cast()) };
        (result == 0).then(|| Self {
            ticks: info.ri_user_time + info.ri_system_time,
            reaped_ticks: info.ri_child_user_time + info.ri_child_system_time,
            memory: info.ri_phys_footprint,
        })
    }
}

// The numbers in Apple's headers: see `scripts/macos/abi.c`.
const _: () = {
    assert!(libc::RUSAGE_INFO_V2 == 2);
    assert!(mem::size_of::<libc::rusage_info_v2>() == 160);
    assert!(mem::offset_of!(libc::rusage_info_v2, ri_user_time) == 16);
    assert!(mem::offset_of!(libc::rusage_info_v2, ri_phys_footprint) == 72);
    assert!(mem::offset_of!(libc::rusage_info_v2, ri_child_user_time) == 96);
    assert!(mem::size_of::<Timebase>() == 8);
};

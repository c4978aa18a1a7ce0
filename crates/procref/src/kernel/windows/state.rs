//! The contents of a service's section.
//!
//! ```text
//! word 0          magic number: a section of procref, in this layout
//!      1          lowest bit: the state that is valid
//!      16 .. 48   first state
//!      48 .. 80   second state
//!      128 .. 384 clients: a pid and a creation time each
//! ```
//!
//! A new state is written over the invalid one. Then one store to word 1 makes it valid. So a process that
//! dies while it writes leaves the previous state valid. All words are read and written with the step lock
//! held. They are atomics only because other processes write to the same memory.

use std::sync::atomic::{AtomicU64, Ordering};

use procref_winsys::section::{Section, WORDS};

use crate::kernel::Instance;
use crate::process::{self, Identity, Process};

/// "procref" in ASCII, and the version of the layout.
const MAGIC: u64 = 0x7072_6f63_7265_6601;

const CHOICE: usize = 1;
const STATES: [usize; 2] = [16, 48];
const LENGTH: usize = 16;
const HOLDERS: usize = 128;
/// The number of clients whose identity can be stored.
const MAX_HOLDERS: usize = 128;

const _: () = assert!(HOLDERS + 2 * MAX_HOLDERS <= WORDS);

/// The state of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ObjectState {
    /// The number of the incarnation that the state belongs to.
    pub(super) incarnation: u64,
    /// The digests of namespace and name; 0 until the object is claimed.
    pub(super) digests: (u64, u64),
    pub(super) generation: u16,
    pub(super) pinned: bool,
    /// The pid of the process that took the lock last.
    pub(super) lock_holder: u32,
    /// Time of the last change, in seconds since 1970.
    pub(super) changed_at: u64,
    pub(super) instance: Option<Instance>,
    /// The handles on section and job that procref gave to the instance's process, as numbers in that
    /// process. 0 if there is none.
    pub(super) given: (u64, u64),
    /// The announced limit of the transition, encoded. 0 if none was announced.
    pub(super) limit_ms: u32,
}

impl ObjectState {
    pub(super) fn blank(incarnation: u64) -> Self {
        Self {
            incarnation,
            digests: (0, 0),
            generation: 0,
            pinned: false,
            lock_holder: 0,
            changed_at: 0,
            instance: None,
            given: (0, 0),
            limit_ms: 0,
        }
    }

    pub(super) fn is_claimed(&self) -> bool {
        self.digests != (0, 0)
    }

    fn encode(&self) -> [u64; LENGTH] {
        let mut words = [0; LENGTH];
        words[0] = self.incarnation;
        (words[1], words[2]) = self.digests;
        words[3] = self.generation.into();
        words[4] = self.pinned.into();
        words[5] = self.lock_holder.into();
        words[6] = self.changed_at;
        (words[12], words[13]) = self.given;
        words[14] = self.limit_ms.into();
        if let Some(instance) = &self.instance {
            let flags = [
                true,
                instance.ready,
                instance.stopping,
                instance.hosted,
                instance.has_metadata,
                instance.command,
                instance.keep_orphan,
            ];
            words[7] = (0..).zip(flags).map(|(bit, on)| u64::from(on) << bit).sum();
            words[8] = instance.identity.pid.into();
            words[9] = instance.identity.start;
            words[10] = instance.port.into();
            words[11] = instance.linger_ms.into();
        }
        words
    }

    fn decode(words: [u64; LENGTH]) -> Self {
        let flag = |bit: u32| words[7] >> bit & 1 != 0;
        // procref never writes values that these types truncate. A truncated value would be the identity of
        // no process, and the instance would count as dead.
        Self {
            incarnation: words[0],
            digests: (words[1], words[2]),
            generation: words[3] as u16,
            pinned: words[4] != 0,
            lock_holder: words[5] as u32,
            changed_at: words[6],
            given: (words[12], words[13]),
            limit_ms: words[14] as u32,
            instance: flag(0).then(|| Instance {
                identity: Identity {
                    pid: words[8] as u32,
                    start: words[9],
                },
                port: words[10] as u16,
                ready: flag(1),
                stopping: flag(2),
                hosted: flag(3),
                has_metadata: flag(4),
                command: flag(5),
                keep_orphan: flag(6),
                linger_ms: words[11] as u32,
            }),
        }
    }
}

fn choice(words: &[AtomicU64; WORDS]) -> usize {
    (words[CHOICE].load(Ordering::Acquire) & 1) as usize
}

/// Returns the valid state, or `None` if no process has written one completely.
pub(super) fn read(section: &Section) -> Option<ObjectState> {
    let words = section.words();
    if words[0].load(Ordering::Acquire) != MAGIC {
        return None;
    }
    let from = STATES[choice(words)];
    let mut state = [0; LENGTH];
    for (to, from) in state.iter_mut().zip(&words[from..]) {
        *to = from.load(Ordering::Relaxed);
    }
    Some(ObjectState::decode(state))
}

pub(super) fn write(section: &Section, state: &ObjectState) {
    let words = section.words();
    let other = 1 - choice(words);
    for (from, to) in state.encode().into_iter().zip(&words[STATES[other]..]) {
        to.store(from, Ordering::Relaxed);
    }
    words[CHOICE].store(other as u64, Ordering::Release);
    words[0].store(MAGIC, Ordering::Release);
}

// The identities of clients are for people. If a process dies while it writes its identity, or finds no room, the identity
// is missing, and the count is still right. The creation time shows that an entry belongs to a process that has exited.

fn entries(section: &Section) -> impl Iterator<Item = (&AtomicU64, &AtomicU64)> {
    let words = &section.words()[HOLDERS..HOLDERS + 2 * MAX_HOLDERS];
    words.chunks_exact(2).map(|pair| (&pair[0], &pair[1]))
}

/// Stores the identity of a client, if there is room.
pub(super) fn add_holder(section: &Section, pid: u32) {
    let Ok(Some(own)) = Process::find(pid) else {
        return;
    };
    let is_free = |(pid, start): &(&AtomicU64, &AtomicU64)| {
        let pid = pid.load(Ordering::Relaxed) as u32;
        let start = start.load(Ordering::Relaxed);
        pid == 0 || pid == own.pid() || !process::is_identity_alive(Identity { pid, start })
    };
    if let Some((slot, start)) = entries(section).find(is_free) {
        slot.store(0, Ordering::Relaxed);
        start.store(own.identity().start, Ordering::Relaxed);
        slot.store(pid.into(), Ordering::Release);
    }
}

/// Removes the identity of a client.
pub(super) fn remove_holder(section: &Section, pid: u32) {
    for (slot, _) in entries(section) {
        if slot.load(Ordering::Relaxed) == u64::from(pid) {
            slot.store(0, Ordering::Relaxed);
        }
    }
}

/// Returns the stored pids and creation times. Some of the processes may have exited.
pub(super) fn holders(section: &Section) -> Vec<(u32, u64)> {
    entries(section)
        .map(|(pid, start)| {
            (
                pid.load(Ordering::Acquire) as u32,
                start.load(Ordering::Relaxed),
            )
        })
        .filter(|(pid, _)| *pid != 0)
        .collect()
}

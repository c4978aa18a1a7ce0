//! What stands in a service's section.
//!
//! ```text
//! word 0          a number that says: a section of procref's, of this layout
//!      1          which of the two states counts: the lowest bit
//!      16 .. 48   one state
//!      48 .. 80   the other
//!      128 .. 384 the clients: a pid and a creation time each
//! ```
//!
//! A state is written where the other one stands, and then the one word says that it counts. So whoever
//! dies while writing leaves what was there before. Everything is read and written under the gate; the words
//! are atomics because other processes write them, not to be without the gate.

use std::sync::atomic::{AtomicU64, Ordering};

use super::sys::{Section, WORDS};
use crate::kernel::Instance;
use crate::process::{self, Identity};

/// "procref", and the layout.
const MAGIC: u64 = 0x7072_6f63_7265_6601;

const CHOICE: usize = 1;
const STATES: [usize; 2] = [16, 48];
const LENGTH: usize = 16;
const NAMES: usize = 128;
/// How many clients have room for their names.
const NAMED: usize = 128;

const _: () = assert!(NAMES + 2 * NAMED <= WORDS);

/// All that is written of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    /// Which life of the object this is of.
    pub(super) life: u64,
    /// Of namespace and name; 0 until it is claimed.
    pub(super) digests: (u64, u64),
    pub(super) generation: u16,
    pub(super) pinned: bool,
    /// Who took the lock last.
    pub(super) lock_holder: u32,
    /// Seconds since 1970.
    pub(super) changed_at: u64,
    pub(super) instance: Option<Instance>,
    /// What the instance's process calls the handles, on section and job, that it was given; 0: none.
    pub(super) kept: (u64, u64),
    /// How long the transition takes at most, as it is written; 0: nothing was announced.
    pub(super) limit_ms: u32,
}

impl State {
    pub(super) fn blank(life: u64) -> Self {
        Self {
            life,
            digests: (0, 0),
            generation: 0,
            pinned: false,
            lock_holder: 0,
            changed_at: 0,
            instance: None,
            kept: (0, 0),
            limit_ms: 0,
        }
    }

    pub(super) fn is_claimed(&self) -> bool {
        self.digests != (0, 0)
    }

    fn encode(&self) -> [u64; LENGTH] {
        let mut words = [0; LENGTH];
        words[0] = self.life;
        (words[1], words[2]) = self.digests;
        words[3] = self.generation.into();
        words[4] = self.pinned.into();
        words[5] = self.lock_holder.into();
        words[6] = self.changed_at;
        (words[12], words[13]) = self.kept;
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
        // What is cut off here nobody writes; and an identity that is nobody's is dead.
        Self {
            life: words[0],
            digests: (words[1], words[2]),
            generation: words[3] as u16,
            pinned: words[4] != 0,
            lock_holder: words[5] as u32,
            changed_at: words[6],
            kept: (words[12], words[13]),
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

/// `None`: nobody has written anything yet, or who wanted to died before he was done.
pub(super) fn read(section: &Section) -> Option<State> {
    let words = section.words();
    if words[0].load(Ordering::Acquire) != MAGIC {
        return None;
    }
    let from = STATES[choice(words)];
    let mut state = [0; LENGTH];
    for (to, from) in state.iter_mut().zip(&words[from..]) {
        *to = from.load(Ordering::Relaxed);
    }
    Some(State::decode(state))
}

pub(super) fn write(section: &Section, state: &State) {
    let words = section.words();
    let other = 1 - choice(words);
    for (from, to) in state.encode().into_iter().zip(&words[STATES[other]..]) {
        to.store(from, Ordering::Relaxed);
    }
    words[CHOICE].store(other as u64, Ordering::Release);
    words[0].store(MAGIC, Ordering::Release);
}

// Names are for people: of a process that dies while it writes one, or has no room, there is none, and the
// count is right all the same. A name that a dead process has left is told by its creation time.

fn names(section: &Section) -> impl Iterator<Item = (&AtomicU64, &AtomicU64)> {
    let words = &section.words()[NAMES..NAMES + 2 * NAMED];
    words.chunks_exact(2).map(|pair| (&pair[0], &pair[1]))
}

pub(super) fn name(section: &Section, pid: u32) {
    let Ok(Some(own)) = process::Process::find(pid) else {
        return;
    };
    let is_free = |(pid, start): &(&AtomicU64, &AtomicU64)| {
        let pid = pid.load(Ordering::Relaxed) as u32;
        let start = start.load(Ordering::Relaxed);
        pid == 0 || pid == own.pid() || !Identity { pid, start }.is_alive()
    };
    if let Some((slot, start)) = names(section).find(is_free) {
        slot.store(0, Ordering::Relaxed);
        start.store(own.identity().start, Ordering::Relaxed);
        slot.store(pid.into(), Ordering::Release);
    }
}

pub(super) fn unname(section: &Section, pid: u32) {
    for (slot, _) in names(section) {
        if slot.load(Ordering::Relaxed) == u64::from(pid) {
            slot.store(0, Ordering::Relaxed);
        }
    }
}

/// Pids and creation times. Some may be dead.
pub(super) fn named(section: &Section) -> Vec<(u32, u64)> {
    names(section)
        .map(|(pid, start)| {
            (
                pid.load(Ordering::Acquire) as u32,
                start.load(Ordering::Relaxed),
            )
        })
        .filter(|(pid, _)| *pid != 0)
        .collect()
}

//! The slots of a set, and how an instance is encoded in them.

use core::ops::Range;
use core::time::Duration;

use crate::state::Identity;
use crate::state::{Ended, Instance, MAX_GENERATION, Snapshot, decode_limit, encode_limit};

/// The highest value of a slot: 15 bits (`SEMVMX`).
pub const MAX_VALUE: u16 = 0x7fff;
const BITS: u32 = 15;

/// The number of each slot.
pub mod slot {
    use core::ops::Range;

    pub const REFS: u16 = 0;
    pub const LOCK: u16 = 1;
    pub const SUPERVISOR: u16 = 2;
    pub const TREE: u16 = 3;
    pub const PIN: u16 = 4;
    pub const GENERATION: u16 = 5;
    pub const NAMESPACE: Range<u16> = 6..10;
    pub const NAME: Range<u16> = 10..14;
    pub const PID: Range<u16> = 14..16;
    pub const START: Range<u16> = 16..21;
    pub const PORT: Range<u16> = 21..23;
    pub const FLAGS: u16 = 23;
    pub const LINGER: Range<u16> = 24..26;
    pub const EXIT: u16 = 26;
    /// Always 0. The last process that operated on it is the supervisor.
    pub const SUPERVISOR_PID: u16 = 27;
    /// The longest duration of the transition, in milliseconds.
    pub const LIMIT: Range<u16> = 28..30;
    /// Each is 1 while a client has it: see `holders`.
    pub const HOLDERS: Range<u16> = 30..130;
    pub const COUNT: u16 = 130;
}

pub mod flag {
    pub const READY: u16 = 1;
    pub const STOPPING: u16 = 1 << 1;
    pub const COMMAND: u16 = 1 << 2;
    pub const KEEP_ORPHAN: u16 = 1 << 3;
    pub const HOSTED: u16 = 1 << 4;
    pub const HAS_METADATA: u16 = 1 << 5;

    pub const ALL: u16 = (1 << 6) - 1;
}

/// The values of all slots of a set.
pub type Values = [u16; slot::COUNT as usize];

/// Returns the digests of namespace and name that a set contains. They are 0 in a blank set.
pub fn digests_in(values: &Values) -> (u128, u128) {
    (unpack(values, slot::NAMESPACE), unpack(values, slot::NAME))
}

/// The slots that distinguish the set of one service from those of others: 30 bits of the digests, almost as many as the
/// key has.
pub const OWNER_SLOTS: [u16; 2] = [slot::NAMESPACE.start, slot::NAME.start];

/// The slots that distinguish an instance and its state from all others of its set. Port and linger do not change after
/// READY. The other slots of PID and START would only matter if two instances had the same generation, started at the
/// same moment of a cycle of 124 days, and had pids that differ by a multiple of 32,768. Generations repeat after 32,767
/// instances of one set.
pub const INSTANCE_SLOTS: [u16; 5] = [
    slot::GENERATION,
    slot::FLAGS,
    slot::PID.start,
    slot::START.start,
    slot::START.start + 1,
];

/// Writes a number into slots of 15 bits, lowest bits first.
pub fn pack(values: &mut Values, slots: Range<u16>, number: u128) {
    for (index, slot) in slots.enumerate() {
        let bits = number >> (index as u32 * BITS) & u128::from(MAX_VALUE);
        values[slot as usize] = bits as u16;
    }
}

fn unpack(values: &Values, slots: Range<u16>) -> u128 {
    slots.enumerate().fold(0, |number, (index, slot)| {
        number | u128::from(values[slot as usize]) << (index as u32 * BITS)
    })
}

pub fn pack_limit(values: &mut Values, limit: Duration) {
    pack(values, slot::LIMIT, encode_limit(limit).into());
}

/// Encodes an instance that is being stopped, and the longest duration of that.
pub fn encode_stopping(values: &mut Values, instance: &Instance, generation: u16, limit: Duration) {
    let stopping = Instance {
        stopping: true,
        ..*instance
    };
    encode(values, Some(&stopping), generation);
    pack_limit(values, limit);
}

pub fn encode(values: &mut Values, instance: Option<&Instance>, generation: u16) {
    debug_assert!(generation <= MAX_GENERATION);
    values[slot::GENERATION as usize] = generation;
    let flags = instance.map_or(0, |instance| {
        let set = |on: bool, flag: u16| if on { flag } else { 0 };
        set(instance.ready, flag::READY)
            | set(instance.stopping, flag::STOPPING)
            | set(instance.hosted, flag::HOSTED)
            | set(instance.has_metadata, flag::HAS_METADATA)
            | set(instance.keep_orphan, flag::KEEP_ORPHAN)
            | set(instance.command, flag::COMMAND)
    });
    values[slot::FLAGS as usize] = flags;
    if instance.is_some_and(|instance| !instance.ready && !instance.stopping) {
        // The instance is new.
        values[slot::EXIT as usize] = 0;
    }
    let identity = instance.map_or(Identity { pid: 0, start: 0 }, |instance| instance.identity);
    pack(values, slot::PID, identity.pid.into());
    pack(values, slot::START, identity.start.into());
    pack(values, slot::PORT, instance.map_or(0, |it| it.port).into());
    pack(
        values,
        slot::LINGER,
        instance.map_or(0, |it| it.linger_ms).into(),
    );
}

pub fn decode(values: &Values, claimed: bool) -> Snapshot {
    // No process of this layout sets other flags. Unknown flags alone do not count as an instance.
    let flags = values[slot::FLAGS as usize] & flag::ALL;
    let has = |flag: u16| flags & flag != 0;
    // procref never writes values that these types truncate. A truncated value would be the identity of no
    // process, and the instance would count as dead.
    let pid = unpack(values, slot::PID) as u32;
    let instance = (pid != 0 || flags != 0).then(|| Instance {
        identity: Identity {
            pid,
            start: unpack(values, slot::START) as u64,
        },
        port: unpack(values, slot::PORT) as u16,
        ready: has(flag::READY),
        stopping: has(flag::STOPPING),
        hosted: has(flag::HOSTED),
        has_metadata: has(flag::HAS_METADATA),
        keep_orphan: has(flag::KEEP_ORPHAN),
        command: has(flag::COMMAND),
        linger_ms: unpack(values, slot::LINGER) as u32,
    });
    Snapshot {
        clients: values[slot::REFS as usize].into(),
        locked: values[slot::LOCK as usize] > 0,
        supervised: values[slot::SUPERVISOR as usize] > 0,
        tree: values[slot::TREE as usize] > 0,
        pinned: values[slot::PIN as usize] > 0,
        generation: values[slot::GENERATION as usize],
        claimed,
        instance,
        ended: Ended::decode(values[slot::EXIT as usize]),
        announced: decode_limit(unpack(values, slot::LIMIT) as u32),
    }
}

impl Ended {
    /// Encodes the exit status of the service. 0 is reserved for "not known".
    pub fn encode(self) -> u16 {
        match self {
            Self::Exited(code) => 1 + u16::from(code),
            Self::Killed(signal) => SIGNALLED + u16::from(signal),
        }
    }

    pub fn decode(value: u16) -> Option<Self> {
        match value {
            0 => None,
            1..SIGNALLED => Some(Self::Exited((value - 1) as u8)),
            _ => Some(Self::Killed((value - SIGNALLED) as u8)),
        }
    }
}

/// The value of EXIT for signal 0. Lower values are exit codes.
const SIGNALLED: u16 = 512;

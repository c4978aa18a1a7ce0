//! The messages between a client and the keeper.
//!
//! A request has 112 bytes, whatever it asks. An answer has 16 bytes, and a payload whose length depends only on the
//! request. All numbers are little endian. So both sides know how many bytes to read, and a message never has a
//! length field that could lie.
//!
//! ```text
//! request   version u32, kind u32, nonce u64, seq u64, count u32, arg u32, ops [u32; 18], number u64
//! operation slot 0..8, undo 8, nowait 9, zeros 10..16, delta 16..32
//! answer    seq u64, reply u32, arg u32
//! payload   HELLO: the keeper's start time u64, 24 zeros. VALUES: [u16; 130]. INSPECT: [u32; 130], time u64
//! ```

use crate::kernel::semset::{MAX_OPS, Op, Values, slot};

/// The version of the messages. A keeper refuses every other version.
pub(crate) const VERSION: u32 = 1;

pub(crate) const REQUEST_LENGTH: usize = 40 + 4 * MAX_OPS;
pub(crate) const ANSWER_LENGTH: usize = 16;

const SLOTS: usize = slot::COUNT as usize;
const HELLO_PAYLOAD: usize = 32;
const VALUES_PAYLOAD: usize = 2 * SLOTS;
const INSPECT_PAYLOAD: usize = 4 * SLOTS + 8;

/// The message of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// The number of the client's session. It distinguishes several copies of procref in one process.
    pub(crate) nonce: u64,
    /// The number of a change, which is higher than that of every earlier change of the session. 0 for other calls.
    pub(crate) seq: u64,
    pub(crate) call: Call,
}

/// The call of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// The first call on a connection. The keeper compares the start time with that of the process that connected.
    Hello {
        start: u64,
    },
    /// Performs an array, or refuses it.
    Operate(Vec<Op>),
    /// Sleeps until an array that changes nothing can be performed.
    Wait(Vec<Op>),
    Values,
    /// Asks for the last pids, and for the number of arrays that sleep on this slot.
    Inspect {
        slot: u16,
    },
    Remove,
    /// Starts a supervisor, and answers when it is counted.
    Supervise {
        /// The number of the stop signal.
        signal: u32,
        /// The grace, in milliseconds.
        grace_ms: u64,
    },
    /// Starts a supervisor that launches a service, and answers when its thread runs. The descriptors come with the
    /// request: see [`descriptors`](Self::descriptors).
    Launch {
        /// `true` if the program gets a listening socket.
        has_listener: bool,
        /// `true` if the client has a pidfd of its own process.
        has_starter: bool,
    },
    /// Chooses the crash points of this keeper. The descriptor is a file with the choice.
    #[cfg(feature = "crash-points")]
    Arm,
}

/// The reason why a request cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// The request has another version.
    OtherVersion,
    /// No client of this version sends such bytes.
    Malformed,
}

/// The keeper's reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Done = 1,
    NotNow = 2,
    Gone = 3,
    OutOfRange = 4,
    /// The client must send HELLO first.
    HelloFirst = 5,
    OtherVersion = 6,
    /// The keeper could not identify the client's process.
    Unidentified = 7,
}

/// The fixed part of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The number of the request.
    pub(crate) seq: u64,
    pub(crate) reply: Reply,
    /// HELLO and SUPERVISE: the keeper's pid. INSPECT: the number of sleepers. `OtherVersion`: the keeper's version.
    pub(crate) arg: u32,
}

/// Data that INSPECT returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LastPids {
    /// The last pid of each slot, or 0.
    pub(crate) pids: [u32; SLOTS],
    /// Time of the last change, in seconds since the Unix epoch.
    pub(crate) changed_at: u64,
}

impl Call {
    fn kind(&self) -> u32 {
        match self {
            Self::Hello { .. } => 1,
            Self::Operate(_) => 2,
            Self::Wait(_) => 3,
            Self::Values => 4,
            Self::Inspect { .. } => 5,
            Self::Remove => 6,
            Self::Supervise { .. } => 7,
            Self::Launch { .. } => 8,
            #[cfg(feature = "crash-points")]
            Self::Arm => 9,
        }
    }

    /// Returns the length of the payload after the answer, if the call was performed.
    pub(crate) fn payload_length(&self) -> usize {
        match self {
            Self::Hello { .. } => HELLO_PAYLOAD,
            Self::Values => VALUES_PAYLOAD,
            Self::Inspect { .. } => INSPECT_PAYLOAD,
            _ => 0,
        }
    }

    /// Returns the number of descriptors that come with the request.
    ///
    /// LAUNCH: the order ([`LaunchOrder`](super::order::LaunchOrder)), then the ends of the pipes `report`, `gate`,
    /// `exec_status` and `confirm`, then standard input, the log, and the two that the request announces.
    pub(crate) fn descriptors(&self) -> usize {
        match *self {
            Self::Launch {
                has_listener,
                has_starter,
            } => 7 + usize::from(has_listener) + usize::from(has_starter),
            #[cfg(feature = "crash-points")]
            Self::Arm => 1,
            _ => 0,
        }
    }
}

impl Request {
    pub(crate) fn encode(&self) -> [u8; REQUEST_LENGTH] {
        let (ops, arg, number): (&[Op], u32, u64) = match &self.call {
            Call::Hello { start } => (&[], 0, *start),
            Call::Operate(ops) | Call::Wait(ops) => (ops, 0, 0),
            Call::Inspect { slot } => (&[], (*slot).into(), 0),
            Call::Values | Call::Remove => (&[], 0, 0),
            Call::Supervise { signal, grace_ms } => (&[], *signal, *grace_ms),
            Call::Launch {
                has_listener,
                has_starter,
            } => {
                let flag = |on: &bool, flag| if *on { flag } else { 0 };
                let flags = flag(has_listener, LISTENER) | flag(has_starter, STARTER);
                (&[], flags, 0)
            }
            #[cfg(feature = "crash-points")]
            Call::Arm => (&[], 0, 0),
        };
        let mut writer = Writer::default();
        writer.u32(VERSION);
        writer.u32(self.call.kind());
        writer.u64(self.nonce);
        writer.u64(self.seq);
        writer.u32(ops.len() as u32);
        writer.u32(arg);
        for index in 0..MAX_OPS {
            writer.u32(ops.get(index).map_or(0, encode_op));
        }
        writer.u64(number);
        writer.0.try_into().unwrap_or([0; REQUEST_LENGTH])
    }

    /// Refuses every request that [`encode`](Self::encode) does not produce.
    pub(crate) fn decode(bytes: &[u8; REQUEST_LENGTH]) -> Result<Self, Unreadable> {
        let mut reader = Reader(bytes);
        if reader.u32() != VERSION {
            return Err(Unreadable::OtherVersion);
        }
        let (kind, nonce, seq) = (reader.u32(), reader.u64(), reader.u64());
        let (count, arg) = (reader.u32() as usize, reader.u32());
        let all: [u32; MAX_OPS] = std::array::from_fn(|_| reader.u32());
        let number = reader.u64();
        if count > MAX_OPS {
            return Err(Unreadable::Malformed);
        }
        let (used, unused) = all.split_at(count);
        let ops = || -> Option<Vec<Op>> { used.iter().map(|&word| decode_op(word)).collect() };
        let call = match kind {
            1 if count == 0 => Some(Call::Hello { start: number }),
            2 if count > 0 => ops().map(Call::Operate),
            3 if count > 0 => ops().map(Call::Wait),
            4 if count == 0 => Some(Call::Values),
            5 if count == 0 => u16::try_from(arg)
                .ok()
                .filter(|&slot| slot < slot::COUNT)
                .map(|slot| Call::Inspect { slot }),
            6 if count == 0 => Some(Call::Remove),
            7 if count == 0 => Some(Call::Supervise {
                signal: arg,
                grace_ms: number,
            }),
            8 if count == 0 && arg & !(LISTENER | STARTER) == 0 => Some(Call::Launch {
                has_listener: arg & LISTENER != 0,
                has_starter: arg & STARTER != 0,
            }),
            #[cfg(feature = "crash-points")]
            9 if count == 0 => Some(Call::Arm),
            _ => None,
        };
        let call = call.ok_or(Unreadable::Malformed)?;
        let is_change = matches!(call, Call::Operate(_) | Call::Remove);
        let (has_arg, has_number) = match call {
            Call::Inspect { .. } | Call::Launch { .. } => (true, false),
            Call::Hello { .. } => (false, true),
            Call::Supervise { .. } => (true, true),
            _ => (false, false),
        };
        let is_plain = (arg == 0 || has_arg)
            && (number == 0 || has_number)
            && unused.iter().all(|&word| word == 0)
            && nonce != 0
            && (seq != 0) == is_change;
        match is_plain {
            true => Ok(Self { nonce, seq, call }),
            false => Err(Unreadable::Malformed),
        }
    }
}

// The flags of LAUNCH.
const LISTENER: u32 = 1;
const STARTER: u32 = 2;

const UNDO: u32 = 1 << 8;
const NOWAIT: u32 = 1 << 9;

fn encode_op(op: &Op) -> u32 {
    let flag = |on: bool, flag: u32| if on { flag } else { 0 };
    u32::from(op.slot)
        | flag(op.undo, UNDO)
        | flag(op.nowait, NOWAIT)
        | u32::from(op.delta as u16) << 16
}

fn decode_op(word: u32) -> Option<Op> {
    let slot = (word & 0xff) as u16;
    let is_known = slot < slot::COUNT && word & 0xfc00 == 0;
    is_known.then_some(Op {
        slot,
        delta: (word >> 16) as u16 as i16,
        undo: word & UNDO != 0,
        nowait: word & NOWAIT != 0,
    })
}

/// Returns `true` if a client may sleep on this array: it changes nothing when it is performed.
///
/// The array that waits for the removal of a set is the exception. It can never be performed.
pub(crate) fn may_sleep(ops: &[Op]) -> bool {
    let changes_nothing = |op: &Op| {
        let same_slot = ops.iter().filter(|other| other.slot == op.slot);
        same_slot.map(|it| i32::from(it.delta)).sum::<i32>() == 0
    };
    let is_plain = ops.iter().all(|op| !op.undo && changes_nothing(op));
    is_plain || ops == crate::kernel::semset::steps::WAIT_REMOVED
}

impl Answer {
    pub(crate) fn encode(&self) -> [u8; ANSWER_LENGTH] {
        let mut writer = Writer::default();
        writer.u64(self.seq);
        writer.u32(self.reply as u32);
        writer.u32(self.arg);
        writer.0.try_into().unwrap_or([0; ANSWER_LENGTH])
    }

    /// Returns `None` if no keeper of this version sends such bytes.
    pub(crate) fn decode(bytes: &[u8; ANSWER_LENGTH]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let (seq, reply, arg) = (reader.u64(), reader.u32(), reader.u32());
        let reply = [
            Reply::Done,
            Reply::NotNow,
            Reply::Gone,
            Reply::OutOfRange,
            Reply::HelloFirst,
            Reply::OtherVersion,
            Reply::Unidentified,
        ]
        .into_iter()
        .find(|known| *known as u32 == reply)?;
        Some(Self { seq, reply, arg })
    }
}

/// Returns the payload of HELLO. The name of a Mach port has room after the start time.
pub(crate) fn encode_hello(start: u64) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.u64(start);
    writer.0.resize(HELLO_PAYLOAD, 0);
    writer.0
}

/// Returns the keeper's start time.
#[cfg(test)]
pub(crate) fn decode_hello(payload: &[u8]) -> u64 {
    Reader(payload).u64()
}

pub(crate) fn encode_values(values: &Values) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

pub(crate) fn decode_values(payload: &[u8]) -> Values {
    let mut reader = Reader(payload);
    std::array::from_fn(|_| reader.u16())
}

impl LastPids {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        self.pids.iter().for_each(|&pid| writer.u32(pid));
        writer.u64(self.changed_at);
        writer.0
    }

    pub(crate) fn decode(payload: &[u8]) -> Self {
        let mut reader = Reader(payload);
        Self {
            pids: std::array::from_fn(|_| reader.u32()),
            changed_at: reader.u64(),
        }
    }
}

#[derive(Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn u32(&mut self, number: u32) {
        self.0.extend(number.to_le_bytes());
    }

    pub(super) fn u64(&mut self, number: u64) {
        self.0.extend(number.to_le_bytes());
    }
}

/// Reads numbers. Missing bytes at the end are zeros.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl Reader<'_> {
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let (taken, rest) = self.0.split_at(N.min(self.0.len()));
        bytes[..taken.len()].copy_from_slice(taken);
        self.0 = rest;
        bytes
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.bytes())
    }

    pub(super) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes())
    }

    pub(super) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::semset::steps::{
        ENTER, JOIN, SUPERVISE_TREE, WAIT_CLIENT, WAIT_IDLE, WAIT_REMOVED, WAIT_UNLOCKED, op,
    };

    fn request(call: Call) -> Request {
        let is_change = matches!(call, Call::Operate(_) | Call::Remove);
        Request {
            nonce: u64::MAX,
            seq: if is_change { 7 } else { 0 },
            call,
        }
    }

    #[test]
    fn request_is_read_back() {
        for call in [
            Call::Hello { start: u64::MAX },
            Call::Operate(vec![op(slot::COUNT - 1, i16::MIN); MAX_OPS]),
            Call::Operate(SUPERVISE_TREE.to_vec()),
            Call::Wait(WAIT_CLIENT.to_vec()),
            Call::Values,
            Call::Inspect { slot: 129 },
            Call::Remove,
            Call::Supervise {
                signal: 15,
                grace_ms: u64::MAX,
            },
            Call::Launch {
                has_listener: true,
                has_starter: false,
            },
            Call::Launch {
                has_listener: false,
                has_starter: true,
            },
        ] {
            let request = request(call);
            assert_eq!(Request::decode(&request.encode()), Ok(request));
        }
    }

    #[test]
    fn request_with_any_other_bytes_is_refused() {
        let good = request(Call::Operate(JOIN.to_vec())).encode();
        // The position and value of a byte that makes the request wrong.
        for (at, byte) in [
            (4, 9),                  // an unknown kind
            (4, 4),                  // VALUES with operations
            (8, 0),                  // no nonce (together with the seven bytes after it)
            (16, 0),                 // no number
            (24, 0),                 // no operations
            (24, 19),                // too many operations
            (27, 1),                 // far too many
            (28, 1),                 // an argument without meaning
            (32, slot::COUNT as u8), // no such slot
            (33, 4),                 // an unknown flag
            (44, 1),                 // an operation after the last one
            (104, 1),                // a start time without HELLO
        ] {
            let mut bytes = good;
            bytes[at] = byte;
            if at == 8 {
                bytes[8..16].fill(0);
            }
            let read = Request::decode(&bytes);
            assert_eq!(read, Err(Unreadable::Malformed), "byte {at} = {byte}");
        }
        let mut other = good;
        other[0] = 2;
        assert_eq!(Request::decode(&other), Err(Unreadable::OtherVersion));
        let mut inspect = request(Call::Inspect { slot: 3 }).encode();
        inspect[30] = 1;
        assert_eq!(Request::decode(&inspect), Err(Unreadable::Malformed));
        let mut launch = request(Call::Launch {
            has_listener: true,
            has_starter: true,
        })
        .encode();
        launch[28] = 4;
        assert_eq!(Request::decode(&launch), Err(Unreadable::Malformed));
        let mut read = request(Call::Values);
        read.seq = 1;
        assert_eq!(Request::decode(&read.encode()), Err(Unreadable::Malformed));
    }

    #[test]
    fn answer_and_payloads_are_read_back() {
        let answer = Answer {
            seq: u64::MAX - 1,
            reply: Reply::Unidentified,
            arg: 5,
        };
        assert_eq!(Answer::decode(&answer.encode()), Some(answer));
        for reply in [0, 8, 255] {
            let mut bytes = answer.encode();
            bytes[8] = reply;
            assert_eq!(Answer::decode(&bytes), None);
        }
        let values: Values = std::array::from_fn(|slot| 3 * slot as u16);
        let last = LastPids {
            pids: std::array::from_fn(|slot| slot as u32),
            changed_at: 9,
        };
        let length = |call: Call| call.payload_length();
        assert_eq!(encode_values(&values).len(), length(Call::Values));
        assert_eq!(last.encode().len(), length(Call::Inspect { slot: 0 }));
        assert_eq!(encode_hello(5).len(), length(Call::Hello { start: 0 }));
        assert_eq!(decode_values(&encode_values(&values)), values);
        assert_eq!(LastPids::decode(&last.encode()), last);
        assert_eq!(decode_hello(&encode_hello(5)), 5);
    }

    #[test]
    fn client_sleeps_only_on_arrays_that_change_nothing() {
        for ops in [&WAIT_UNLOCKED[..], &WAIT_CLIENT, &WAIT_REMOVED] {
            assert!(may_sleep(ops), "{ops:?}");
        }
        for ops in [
            &WAIT_IDLE[..],
            &ENTER,
            &[op(slot::REFS, -1)],
            &[op(slot::REFS, -1), op(slot::PIN, 1)],
            &[op(slot::PIN, -2), op(slot::LOCK, 0)],
        ] {
            assert!(!may_sleep(ops), "{ops:?}");
        }
    }
}

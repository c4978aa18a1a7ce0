//! What a supervisor and its child report to the starter, and the bytes of it.

use crate::kernel::Ended;
use crate::process::Identity;

/// What a supervisor says on its pipe: one message at a time, whole or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// An older service's processes are still there, or the starter has let go.
    NotInPlace,
    /// It is counted, is this process, and waits for its starter's word if a service is to be executed.
    Counted(Identity),
    /// With this error.
    NotForked(i32),
    /// The child waits at the gate, and is published.
    InPlace(Identity),
    /// The child has ended before it was ready.
    Ended(Ended),
    /// No process of a service that could not be used is left.
    Gone,
    /// The supervisor was killed by this signal before it was in place.
    Killed(i32),
    /// The supervisor has given up before it was in place.
    Quit,
}

impl Message {
    pub(crate) const SIZE: usize = 16;

    pub(crate) fn encode(self) -> [u8; Self::SIZE] {
        let (kind, value, start) = match self {
            Self::NotInPlace => (1_u32, 0, 0),
            Self::NotForked(errno) => (2, errno as u32, 0),
            Self::InPlace(Identity { pid, start }) => (3, pid, start),
            Self::Ended(Ended::Exited(code)) => (4, code.into(), 0),
            Self::Ended(Ended::Killed(signal)) => (5, signal.into(), 0),
            Self::Counted(Identity { pid, start }) => (6, pid, start),
            Self::Gone => (7, 0, 0),
            Self::Killed(signal) => (8, signal as u32, 0),
            Self::Quit => (9, 0, 0),
        };
        let mut bytes = [0; Self::SIZE];
        bytes[..4].copy_from_slice(&kind.to_ne_bytes());
        bytes[4..8].copy_from_slice(&value.to_ne_bytes());
        bytes[8..].copy_from_slice(&start.to_ne_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: [u8; Self::SIZE]) -> Option<Self> {
        let [a, b, c, d, e, f, g, h, start @ ..] = bytes;
        let (kind, value) = (
            u32::from_ne_bytes([a, b, c, d]),
            u32::from_ne_bytes([e, f, g, h]),
        );
        let start = u64::from_ne_bytes(start);
        match kind {
            1 => Some(Self::NotInPlace),
            2 => Some(Self::NotForked(value as i32)),
            3 => Some(Self::InPlace(Identity { pid: value, start })),
            4 => Some(Self::Ended(Ended::Exited(value as u8))),
            5 => Some(Self::Ended(Ended::Killed(value as u8))),
            6 => Some(Self::Counted(Identity { pid: value, start })),
            7 => Some(Self::Gone),
            8 => Some(Self::Killed(value as i32)),
            9 => Some(Self::Quit),
            _ => None,
        }
    }
}

/// Where the child was when something went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Descriptors,
    Directory,
    Execute,
}

/// Why the program was not executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) stage: Stage,
    pub(crate) errno: i32,
}

impl Refusal {
    pub(crate) fn new(stage: Stage, errno: i32) -> Self {
        Self { stage, errno }
    }

    pub(crate) fn encode(self) -> [u8; 5] {
        let [a, b, c, d] = self.errno.to_ne_bytes();
        [self.stage as u8, a, b, c, d]
    }

    pub(crate) fn decode([stage, a, b, c, d]: [u8; 5]) -> Self {
        let stage = match stage {
            0 => Stage::Descriptors,
            1 => Stage::Directory,
            _ => Stage::Execute,
        };
        Self {
            stage,
            errno: i32::from_ne_bytes([a, b, c, d]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_heard() {
        let identity = Identity {
            pid: 4_194_303,
            start: u64::MAX,
        };
        for message in [
            Message::NotInPlace,
            Message::Counted(identity),
            Message::Gone,
            Message::Killed(31),
            Message::Quit,
            Message::NotForked(11),
            Message::InPlace(identity),
            Message::Ended(Ended::Exited(255)),
            Message::Ended(Ended::Killed(9)),
        ] {
            assert_eq!(Message::decode(message.encode()), Some(message));
        }
        assert_eq!(Message::decode([0; Message::SIZE]), None);
        for stage in [Stage::Descriptors, Stage::Directory, Stage::Execute] {
            let refusal = Refusal::new(stage, 13);
            assert_eq!(Refusal::decode(refusal.encode()), refusal);
        }
    }
}

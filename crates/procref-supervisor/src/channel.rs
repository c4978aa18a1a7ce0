//! What a supervisor and its child report to the starter, and the bytes of it.

use crate::state::Ended;
use crate::state::Identity;

/// What a supervisor says on its pipe: one message at a time, whole or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// An older service's processes are still there, or the starter has let go.
    Blocked,
    /// It is counted, is this process, and waits for its starter's confirm if a service is to be executed.
    Registered(Identity),
    /// With this error.
    ForkFailed(i32),
    /// The child waits at the gate, and is published.
    Launched { identity: Identity, port: u16 },
    /// The child has ended before it was ready.
    Exited(Ended),
    /// No process of a service that could not be used is left.
    TreeExited,
    /// The supervisor was killed by this signal before it was in place.
    SupervisorKilled(i32),
    /// The supervisor has given up before it was in place.
    SupervisorExited,
}

impl Message {
    pub const SIZE: usize = 16;

    pub fn encode(self) -> [u8; Self::SIZE] {
        let (kind, port, value, start) = match self {
            Self::Blocked => (1_u16, 0, 0, 0),
            Self::ForkFailed(errno) => (2, 0, errno as u32, 0),
            Self::Launched {
                identity: Identity { pid, start },
                port,
            } => (3, port, pid, start),
            Self::Exited(Ended::Exited(code)) => (4, 0, code.into(), 0),
            Self::Exited(Ended::Killed(signal)) => (5, 0, signal.into(), 0),
            Self::Registered(Identity { pid, start }) => (6, 0, pid, start),
            Self::TreeExited => (7, 0, 0, 0),
            Self::SupervisorKilled(signal) => (8, 0, signal as u32, 0),
            Self::SupervisorExited => (9, 0, 0, 0),
        };
        let mut bytes = [0; Self::SIZE];
        bytes[..2].copy_from_slice(&kind.to_ne_bytes());
        bytes[2..4].copy_from_slice(&port.to_ne_bytes());
        bytes[4..8].copy_from_slice(&value.to_ne_bytes());
        bytes[8..].copy_from_slice(&start.to_ne_bytes());
        bytes
    }

    /// Returns `None` if these are not the bytes of a message.
    pub fn decode(bytes: [u8; Self::SIZE]) -> Option<Self> {
        let [a, b, c, d, e, f, g, h, start @ ..] = bytes;
        let (kind, port, value) = (
            u16::from_ne_bytes([a, b]),
            u16::from_ne_bytes([c, d]),
            u32::from_ne_bytes([e, f, g, h]),
        );
        let start = u64::from_ne_bytes(start);
        let identity = Identity { pid: value, start };
        match kind {
            3 => Some(Self::Launched { identity, port }),
            // Only that message has a port.
            _ if port != 0 => None,
            1 => Some(Self::Blocked),
            2 => Some(Self::ForkFailed(value as i32)),
            4 => Some(Self::Exited(Ended::Exited(value as u8))),
            5 => Some(Self::Exited(Ended::Killed(value as u8))),
            6 => Some(Self::Registered(identity)),
            7 => Some(Self::TreeExited),
            8 => Some(Self::SupervisorKilled(value as i32)),
            9 => Some(Self::SupervisorExited),
            _ => None,
        }
    }
}

/// Where the child was when something went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Descriptors,
    Directory,
    Execute,
}

/// Why the program was not executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub stage: Stage,
    pub errno: i32,
}

impl Refusal {
    pub fn new(stage: Stage, errno: i32) -> Self {
        Self { stage, errno }
    }

    pub fn encode(self) -> [u8; 5] {
        let [a, b, c, d] = self.errno.to_ne_bytes();
        [self.stage as u8, a, b, c, d]
    }

    pub fn decode([stage, a, b, c, d]: [u8; 5]) -> Self {
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
            Message::Blocked,
            Message::Registered(identity),
            Message::TreeExited,
            Message::SupervisorKilled(31),
            Message::SupervisorExited,
            Message::ForkFailed(11),
            Message::Launched {
                identity,
                port: u16::MAX,
            },
            Message::Exited(Ended::Exited(255)),
            Message::Exited(Ended::Killed(9)),
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

//! The messages from a supervisor and its child to the starter, and their wire format.
//!
//! Both sides are the same program, so numbers are in native byte order. Writes of a message are atomic,
//! because each message is shorter than PIPE_BUF.

use crate::state::{Ended, Identity};

/// A message from a supervisor, or from its attendant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Processes of an older instance are still alive, or the starter no longer holds the lock.
    Blocked,
    /// This process is registered as the supervisor. If it launches a service, it now waits for the confirmation.
    Registered(Identity),
    /// The process of the service, or the supervisor itself, could not be forked. Carries the error number.
    ForkFailed(i32),
    /// The instance is published with this identity and port, and its process waits at the gate.
    Launched { identity: Identity, port: u16 },
    /// The service exited before it was ready.
    Exited(Ended),
    /// All processes of a service that was not ready have exited.
    TreeExited,
    /// The supervisor was killed by this signal before it was registered.
    SupervisorKilled(i32),
    /// The supervisor exited before it was registered.
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
            // Other messages have no port.
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

/// The step between fork and exec that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecStage {
    Descriptors,
    Directory,
    Execute,
}

/// The reason why a program was not executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecFailure {
    pub stage: ExecStage,
    pub errno: i32,
}

impl ExecFailure {
    pub const SIZE: usize = 5;

    pub fn new(stage: ExecStage, errno: i32) -> Self {
        Self { stage, errno }
    }

    pub fn encode(self) -> [u8; Self::SIZE] {
        let [a, b, c, d] = self.errno.to_ne_bytes();
        [self.stage as u8, a, b, c, d]
    }

    pub fn decode([stage, a, b, c, d]: [u8; Self::SIZE]) -> Self {
        let stage = match stage {
            0 => ExecStage::Descriptors,
            1 => ExecStage::Directory,
            _ => ExecStage::Execute,
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
    fn messages_and_failures_survive_encoding() {
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
        for stage in [
            ExecStage::Descriptors,
            ExecStage::Directory,
            ExecStage::Execute,
        ] {
            let failure = ExecFailure::new(stage, 13);
            assert_eq!(ExecFailure::decode(failure.encode()), failure);
        }
    }
}

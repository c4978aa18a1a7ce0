//! The order of a client that a keeper launches a service: the program, its surroundings, and its log.
//!
//! The order is too long for a message, and contains no descriptors. The client writes it to a file in memory, and sends
//! that file with the other descriptors of the launch.
//!
//! ```text
//! order     values of the instance [u16; 130], signal u32, grace u64, patience u64, port u32, umask u32, log limit u64,
//!           position of LISTEN_PID u32, resource limits [(u64, u64); 16] (9 on macOS), texts
//! texts     program, directory, six of the log, number of arguments u32, arguments, variables until the end
//! text      length u32, bytes without NUL
//! ```

use std::ffi::CString;
use std::time::Duration;

use procref_supervisor::prepared::PID_DIGITS;
use procref_supervisor::spec::{LaunchSpec, StopSpec};
use rustix::process::{Resource, Rlimit, setrlimit};

use super::wire::{Reader, Writer, decode_values, encode_values};
use crate::kernel::semset::layout::{MAX_VALUE, encode};
use crate::kernel::semset::{decode, slot};
use crate::process::Identity;

/// The resources whose limits a service inherits from its starter.
#[cfg(target_os = "linux")]
pub(crate) const RESOURCES: [Resource; 16] = [
    Resource::Cpu,
    Resource::Fsize,
    Resource::Data,
    Resource::Stack,
    Resource::Core,
    Resource::Rss,
    Resource::Nproc,
    Resource::Nofile,
    Resource::Memlock,
    Resource::As,
    Resource::Locks,
    Resource::Sigpending,
    Resource::Msgqueue,
    Resource::Nice,
    Resource::Rtprio,
    Resource::Rttime,
];
#[cfg(target_os = "macos")]
pub(crate) const RESOURCES: [Resource; 9] = [
    Resource::Cpu,
    Resource::Fsize,
    Resource::Data,
    Resource::Stack,
    Resource::Core,
    Resource::Nproc,
    Resource::Nofile,
    Resource::Memlock,
    Resource::As,
];

/// The greatest length of an order. The kernel limits arguments and environment together to 6 MiB.
pub(crate) const MAX_LENGTH: u64 = 16 << 20;

/// No position of a variable, and no mask.
const NONE: u32 = u32::MAX;
/// No limit.
const UNLIMITED: u64 = u64::MAX;

/// The order to launch a service.
#[derive(Clone, Debug)]
pub(crate) struct LaunchOrder {
    pub(crate) spec: LaunchSpec,
    /// The port that was chosen for the service, or 0.
    pub(crate) port: u16,
    /// The absolute path of the program.
    pub(crate) program: CString,
    pub(crate) args: Vec<CString>,
    /// The environment, as `NAME=VALUE`.
    pub(crate) env: Vec<CString>,
    /// The index of LISTEN_PID in the environment.
    pub(crate) listen_pid: Option<usize>,
    /// The absolute path of the working directory.
    pub(crate) dir: CString,
    /// The paths of the log, and the parts of its note: see `SupervisedLog`.
    pub(crate) log_texts: [CString; 6],
    pub(crate) log_limit: u64,
    /// The file mode creation mask of the client, if it is known.
    pub(crate) umask: Option<u32>,
    /// The limits of the client, in the order of [`RESOURCES`].
    pub(crate) limits: [Rlimit; RESOURCES.len()],
}

impl LaunchOrder {
    /// Gives this process the limits of the client, because a keeper has those of another client.
    pub(crate) fn set_limits(&self) {
        for (resource, limit) in RESOURCES.into_iter().zip(self.limits) {
            // A limit that this user cannot raise stays as it is.
            let _ = setrlimit(resource, limit);
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut values = [0; slot::COUNT as usize];
        // An instance without flags and pid would not be read back.
        let identity = Identity { pid: 1, start: 1 };
        let instance = self.spec.launched(identity, self.port);
        encode(&mut values, Some(&instance), self.spec.generation);
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let mut writer = Writer(encode_values(&values));
        writer.u32(self.spec.stop.signal as u32);
        writer.u64(milliseconds(self.spec.stop.grace));
        writer.u64(milliseconds(self.spec.patience));
        writer.u32(self.port.into());
        writer.u32(self.umask.unwrap_or(NONE));
        writer.u64(self.log_limit);
        let index = self.listen_pid.and_then(|index| u32::try_from(index).ok());
        writer.u32(index.unwrap_or(NONE));
        for Rlimit { current, maximum } in self.limits {
            writer.u64(current.unwrap_or(UNLIMITED));
            writer.u64(maximum.unwrap_or(UNLIMITED));
        }
        let mut text = |text: &CString| {
            let bytes = text.as_bytes();
            writer.u32(bytes.len() as u32);
            writer.0.extend(bytes);
        };
        text(&self.program);
        text(&self.dir);
        self.log_texts.iter().for_each(&mut text);
        writer.u32(self.args.len() as u32);
        for text in self.args.iter().chain(&self.env) {
            writer.u32(text.as_bytes().len() as u32);
            writer.0.extend(text.as_bytes());
        }
        writer.0
    }

    /// Returns `None` if no client of this version sends such bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (values, rest) = bytes.split_at_checked(2 * usize::from(slot::COUNT))?;
        let values = decode_values(values);
        // No slot has such a value, so no client sends it.
        if values.iter().any(|&value| value > MAX_VALUE) {
            return None;
        }
        // Missing numbers would be read as zeros, and missing texts as the end.
        let snapshot = decode(&values, true);
        let mut reader = Reader(rest);
        let stop = StopSpec {
            signal: reader.u32() as i32,
            grace: Duration::from_millis(reader.u64()),
        };
        let spec = LaunchSpec {
            instance: snapshot.instance?,
            generation: snapshot.generation,
            stop,
            patience: Duration::from_millis(reader.u64()),
        };
        let port = u16::try_from(reader.u32()).ok()?;
        let umask = Some(reader.u32()).filter(|&mask| mask != NONE);
        let log_limit = reader.u64();
        let listen_pid = Some(reader.u32()).filter(|&index| index != NONE);
        let limits = std::array::from_fn(|_| {
            let mut limit = || Some(reader.u64()).filter(|&limit| limit != UNLIMITED);
            let (current, maximum) = (limit(), limit());
            Rlimit { current, maximum }
        });
        let (program, dir) = (text(&mut reader)?, text(&mut reader)?);
        let log: Vec<CString> = (0..6).map(|_| text(&mut reader)).collect::<Option<_>>()?;
        let args = (0..reader.u32())
            .map(|_| text(&mut reader))
            .collect::<Option<Vec<_>>>()?;
        let mut env = Vec::new();
        while !reader.0.is_empty() {
            env.push(text(&mut reader)?);
        }
        let listen_pid = match listen_pid {
            None => None,
            Some(index) => Some(
                usize::try_from(index)
                    .ok()
                    .filter(|&it| has_digits(&env, it))?,
            ),
        };
        Some(Self {
            spec,
            port,
            program,
            args,
            env,
            listen_pid,
            dir,
            log_texts: log.try_into().ok()?,
            log_limit,
            umask,
            limits,
        })
    }
}

/// Reads a text. Returns `None` if its bytes are missing or contain a NUL.
fn text(reader: &mut Reader) -> Option<CString> {
    if reader.0.len() < 4 {
        return None;
    }
    let length = usize::try_from(reader.u32()).ok()?;
    let (text, rest) = reader.0.split_at_checked(length)?;
    reader.0 = rest;
    CString::new(text).ok()
}

/// Returns `true` if the value of this variable has room for the digits of any pid.
fn has_digits(env: &[CString], index: usize) -> bool {
    let value = env.get(index).map(|text| text.as_bytes());
    let value = value.and_then(|text| text.strip_prefix(b"LISTEN_PID="));
    value.is_some_and(|digits| digits.len() == PID_DIGITS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Instance;

    fn order() -> LaunchOrder {
        let text = |text: &str| CString::new(text).unwrap();
        LaunchOrder {
            spec: LaunchSpec {
                instance: Instance {
                    ready: false,
                    command: true,
                    linger_ms: 1234,
                    ..Instance::plain(Identity { pid: 1, start: 1 }, 4000)
                },
                generation: 7,
                stop: StopSpec {
                    signal: 2,
                    grace: Duration::from_millis(9),
                },
                patience: Duration::from_secs(3),
            },
            port: 4000,
            program: text("/bin/true"),
            args: vec![text("true"), text("")],
            env: vec![text("A=1"), text("LISTEN_PID=0000000000")],
            listen_pid: Some(1),
            dir: text("/"),
            log_texts: ["a", "b", "c", "d", "e", "f"].map(text),
            log_limit: 10,
            umask: Some(0o22),
            limits: [Rlimit {
                current: Some(1),
                maximum: None,
            }; RESOURCES.len()],
        }
    }

    #[test]
    fn order_is_read_back() {
        let order = order();
        let read = LaunchOrder::decode(&order.encode()).unwrap();
        assert_eq!(format!("{read:?}"), format!("{order:?}"));
        let plain = LaunchOrder {
            args: Vec::new(),
            env: Vec::new(),
            listen_pid: None,
            umask: None,
            ..order
        };
        let read = LaunchOrder::decode(&plain.encode()).unwrap();
        assert_eq!(format!("{read:?}"), format!("{plain:?}"));
    }

    #[test]
    fn order_that_is_cut_or_has_no_room_for_the_pid_is_refused() {
        let good = order().encode();
        // Without the variables an order is complete, but LISTEN_PID is one of them.
        for length in 0..good.len() {
            assert!(LaunchOrder::decode(&good[..length]).is_none(), "{length}");
        }
        let mut short = order();
        short.env[1] = CString::new("LISTEN_PID=000").unwrap();
        assert!(LaunchOrder::decode(&short.encode()).is_none());
        let mut other = order();
        other.listen_pid = Some(0);
        assert!(LaunchOrder::decode(&other.encode()).is_none());
    }
}

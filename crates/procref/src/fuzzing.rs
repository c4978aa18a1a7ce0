//! Properties of the parsers, for fuzzing.
//!
//! Each target takes any bytes and panics if its property does not hold. The programs in `fuzz/` search for
//! such bytes, and its corpus keeps interesting inputs. The properties are in the modules that they test,
//! like unit tests.

pub use crate::command::fuzz::{http_path, log_tail, pattern, stop_signal, template};
pub use crate::kernel::counted::fuzz::{keeper_message, keeper_order, keeper_state};
pub use crate::kernel::fuzz::{proc_sysvipc_sem, semaphores};
pub use crate::process::fuzz::{proc_cmdline, proc_stat};
pub use crate::ready::fuzz::{ready_http, ready_lines, ready_notify};
pub use crate::record::fuzz::{file_name, record, record_written};
pub use crate::supervisor::fuzz::{proc_maps, supervisor_message};

macro_rules! targets {
    ($($name:ident,)*) => {
        /// Every target, with the name of its corpus directory.
        pub const TARGETS: &[(&str, fn(&[u8]))] = &[$((stringify!($name), $name),)*];
    };
}

targets! {
    file_name,
    http_path,
    keeper_message,
    keeper_order,
    keeper_state,
    log_tail,
    pattern,
    proc_cmdline,
    proc_maps,
    proc_stat,
    proc_sysvipc_sem,
    ready_http,
    ready_lines,
    ready_notify,
    record,
    record_written,
    semaphores,
    stop_signal,
    supervisor_message,
    template,
}

/// An input that is read from its beginning. The format is mostly text, so that inputs can be read and
/// written in an editor.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Reads a byte. Missing bytes at the end are zero.
    pub(crate) fn byte(&mut self) -> u8 {
        let [byte] = self.bytes();
        byte
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let (taken, rest) = self.0.split_at(N.min(self.0.len()));
        bytes[..taken.len()].copy_from_slice(taken);
        self.0 = rest;
        bytes
    }

    /// Reads up to the next line break, or to the end.
    pub(crate) fn line(&mut self) -> &'a [u8] {
        let end = self.0.iter().position(|&byte| byte == b'\n');
        let (line, rest) = self.0.split_at(end.unwrap_or(self.0.len()));
        self.0 = rest.get(1..).unwrap_or_default();
        line
    }

    pub(crate) fn text_line(&mut self) -> String {
        String::from_utf8_lossy(self.line()).into_owned()
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

//! The program of a service, as the code between fork and exec needs it.

use std::ffi::CString;
use std::os::fd::AsRawFd as _;
use std::ptr;

use procref_supervisor::prepared::{LogSpec, Program, Text};

use super::launch::Ends;
use crate::kernel::counted::order::LaunchOrder;

/// The arrays of pointers that `execve` takes. The pointers lead to the texts of the order.
pub(super) struct ProgramMemory {
    args: Vec<Text>,
    env: Vec<Text>,
    /// The variable LISTEN_PID, in whose value the child writes its pid.
    listen_pid: Vec<u8>,
}

impl ProgramMemory {
    pub(super) fn new(order: &LaunchOrder) -> Self {
        let end = || Text(ptr::null());
        let texts =
            |texts: &[CString]| -> Vec<Text> { texts.iter().map(text).chain([end()]).collect() };
        let mut env = texts(&order.env);
        let mut listen_pid = Vec::new();
        if let Some(index) = order.listen_pid {
            listen_pid = order.env[index].to_bytes_with_nul().to_vec();
            env[index] = Text(listen_pid.as_ptr().cast());
        }
        Self {
            args: texts(&order.args),
            env,
            listen_pid,
        }
    }

    /// The result is valid as long as this value, the order and the descriptors.
    pub(super) fn program(&mut self, order: &LaunchOrder, ends: &Ends) -> Program {
        let name = self.listen_pid.iter().position(|&byte| byte == b'=');
        let digits = name.and_then(|name| self.listen_pid.get_mut(name + 1));
        Program {
            path: text(&order.program),
            args: self.args.as_ptr(),
            env: self.env.as_ptr(),
            listen_pid: digits.map_or(ptr::null_mut(), ptr::from_mut),
            dir: text(&order.dir),
            null: ends.null.as_raw_fd(),
            log: ends.log.as_raw_fd(),
            listener: ends.listener.as_ref().map_or(-1, |fd| fd.as_raw_fd()),
            gate: ends.gate.as_raw_fd(),
            exec_status: ends.exec_status.as_raw_fd(),
        }
    }
}

/// Returns the data of the log. It is valid as long as the order.
pub(super) fn log_spec(order: &LaunchOrder) -> LogSpec {
    let [path, rotated, dir, note @ ..] = order.log_texts.each_ref().map(text);
    LogSpec {
        path,
        rotated,
        dir,
        limit: order.log_limit,
        note,
    }
}

fn text(text: &CString) -> Text {
    Text(text.as_ptr())
}

//! Puts the data of a program and of its log into the arena.

use std::ffi::CString;
use std::os::fd::AsRawFd as _;
use std::ptr;

use procref_supervisor::prepared::{LogSpec, Program, Text};

use super::ServiceLaunch;
use crate::command::{Prepared, SupervisedLog};
use crate::supervisor::arena::Arena;

/// Returns the number of bytes that a [`Program`] needs in an arena.
pub(super) fn program_size(prepared: &Prepared) -> usize {
    let Prepared {
        program,
        args,
        env,
        dir,
        ..
    } = prepared;
    let texts = args.iter().chain(env).chain([program, dir]);
    texts
        .map(|text| text.as_bytes_with_nul().len() + size_of::<Text>())
        .sum::<usize>()
        + 2 * size_of::<Text>()
}

/// Puts the data of a program into the arena.
pub(super) fn program(arena: &mut Arena, launch: &ServiceLaunch) -> Program {
    let prepared = launch.program;
    let args = texts(arena, &prepared.args);
    let env = texts(arena, &prepared.env);
    let digits = prepared.listen_pid.and_then(|index| {
        let name = name_length(&prepared.env, index);
        Some(
            env.get(index)?
                .as_ptr()
                .cast_mut()
                .cast::<u8>()
                .wrapping_add(name),
        )
    });
    Program {
        path: arena.text(&prepared.program),
        args: arena.array(args),
        env: arena.array(env),
        listen_pid: digits.unwrap_or(ptr::null_mut()),
        dir: arena.text(&prepared.dir),
        null: prepared.null.as_raw_fd(),
        log: prepared.log.file.as_raw_fd(),
        listener: prepared.listeners.first().map_or(-1, |fd| fd.as_raw_fd()),
        gate: launch.gate.as_raw_fd(),
        exec_status: launch.exec_status.as_raw_fd(),
    }
}

fn texts(arena: &mut Arena, texts: &[CString]) -> Vec<Text> {
    texts.iter().map(|text| arena.text(text)).collect()
}

/// Returns the length of a variable's name and its `=`.
fn name_length(env: &[CString], index: usize) -> usize {
    let bytes = env.get(index).map_or(&[][..], |text| text.as_bytes());
    bytes.iter().take_while(|&&byte| byte != b'=').count() + 1
}

/// Returns the number of bytes that a [`LogSpec`] needs in an arena.
pub(super) fn log_size(log: &SupervisedLog) -> usize {
    let texts = log.texts.iter();
    texts.map(|text| text.as_bytes_with_nul().len()).sum()
}

/// Puts the data of a log into the arena.
pub(super) fn log(arena: &mut Arena, log: &SupervisedLog) -> LogSpec {
    let [path, rotated, dir, note @ ..] = log.texts.each_ref().map(|text| arena.text(text));
    LogSpec {
        path,
        rotated,
        dir,
        limit: log.limit,
        note,
    }
}

//! By `exec`.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use procref::{Ready, ServiceInfo};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::{Acquired, SUBCOMMAND};

/// The path of this program, which it has not any more if it was replaced since it was started.
pub(super) fn myself() -> OsString {
    let own = env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
    own.into_os_string()
}

/// Ready as soon as the service's program is executed in place of this one.
pub(crate) fn executed() -> Ready {
    Ready::callback(|service: &ServiceInfo| {
        let command_line = fs::read(format!("/proc/{}/cmdline", service.pid()));
        let command_line = command_line.unwrap_or_default();
        // Of one that has ended there is none, and it is not for this to tell.
        let second = command_line.split(|byte| *byte == 0).nth(1);
        let still = command_line.is_empty() || second == Some(SUBCOMMAND.as_bytes());
        std::future::ready(!still)
    })
}

/// Returns only if that cannot be.
pub(super) fn become_program(program: &mut Command, joined: Vec<Acquired>) -> io::Result<ExitCode> {
    for dependency in joined {
        // It is the program's from here on, and ends with it.
        std::mem::forget(dependency.handle);
    }
    Err(program.exec())
}

/// A socket that has the port until the program is executed, and does not listen: whoever connects is
/// refused, as before.
pub(super) fn reserve(port: u16) -> Option<OwnedFd> {
    let (inet, stream) = (AddressFamily::INET, SocketType::STREAM);
    let socket = rustix::net::socket_with(inet, stream, SocketFlags::CLOEXEC, None).ok()?;
    rustix::net::sockopt::set_socket_reuseaddr(&socket, true).ok()?;
    // If somebody else has got it by now, the program will say so.
    rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).ok()?;
    Some(socket)
}

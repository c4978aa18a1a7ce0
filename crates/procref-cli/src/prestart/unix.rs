//! By `exec`.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use procref::{Ready, ServiceCommand};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::{Acquired, SUBCOMMAND};

/// The path of this program, which it has not any more if it was replaced since it was started.
pub(super) fn myself() -> OsString {
    let own = env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
    own.into_os_string()
}

/// What tells that the service's program was executed: the condition that comes before it is enough.
pub(crate) fn started() -> Ready {
    Ready::at_once()
}

/// [`started`] for a service that does not say when it is ready. The library does the same, with a warning.
pub(crate) fn started_unasked(command: ServiceCommand) -> ServiceCommand {
    command
}

/// Until the program is executed, another process may answer in its place: the one that has the data directory now,
/// or one that `init` has started.
pub(crate) fn ready_after_setup(command: ServiceCommand) -> ServiceCommand {
    command.ready_after(|service| is_executed(service.pid()))
}

fn is_executed(pid: u32) -> bool {
    let command_line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    // A process has none for a moment in `exec`, and after its end, which the library notices.
    let second = command_line.split(|byte| *byte == 0).nth(1);
    !command_line.is_empty() && second != Some(SUBCOMMAND.as_bytes())
}

/// Returns only if that cannot be.
pub(super) fn become_program(program: &mut Command, joined: Vec<Acquired>) -> io::Result<ExitCode> {
    for dependency in joined {
        // It is the program's from here on, and ends with it.
        std::mem::forget(dependency.handle);
    }
    Err(program.exec())
}

/// Sockets that have the port, at both loopback addresses, until the program is executed, and do not listen:
/// whoever connects is refused, as before.
pub(super) fn reserve(port: u16) -> Vec<OwnedFd> {
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    let addresses = [(AddressFamily::INET, v4), (AddressFamily::INET6, v6)];
    // If somebody else has got it by now, the program will say so.
    let sockets = addresses.map(|(family, address)| bind(family, address).ok());
    sockets.into_iter().flatten().collect()
}

fn bind(family: AddressFamily, address: SocketAddr) -> rustix::io::Result<OwnedFd> {
    let (stream, flags) = (SocketType::STREAM, SocketFlags::CLOEXEC);
    let socket = rustix::net::socket_with(family, stream, flags, None)?;
    rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    Ok(socket)
}

//! This process executes the program.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use nix::unistd::User;
use procref::ServiceHandle;
use rustix::net::AddressFamily;

use crate::descriptor;
use crate::error::{Error, Result};
use crate::text::shown;
use crate::user;

/// The user that the service's programs run as, if it is not the user of this process.
pub(super) struct OtherUser(Option<User>);

/// Returns the user that the service's programs run as.
///
/// Only root can run a program as another user. For every other user, `user` has no effect, so that one configuration
/// works for a developer and in a container.
pub(super) fn switch_user(service: &str, name: Option<&str>) -> Result<OtherUser> {
    let Some(name) = name.filter(|_| user::is_effective()) else {
        return Ok(OtherUser(None));
    };
    let failed = |reason: String| {
        let service = shown(service);
        Error::Failed(format!(
            "service `{service}`: could not run it as user `{}` (`user`): {reason}",
            shown(name)
        ))
    };
    match User::from_name(name) {
        Ok(Some(user)) => Ok(OtherUser(Some(user))),
        Ok(None) => Err(failed("there is no such user".to_owned())),
        Err(error) => Err(failed(format!("look up the user: {error}"))),
    }
}

impl OtherUser {
    /// Makes a program run as this user, with the user's primary group only. The variables of the service's own
    /// configuration, `own`, replace those of the user.
    pub(super) fn apply(&self, command: &mut Command, own: &[String]) {
        let Some(user) = &self.0 else { return };
        // As the superuser, the standard library also drops the supplementary groups.
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        let name = user.name.as_str().as_ref();
        for (variable, value) in [
            ("HOME", user.dir.as_os_str()),
            ("USER", name),
            ("LOGNAME", name),
        ] {
            if !own.iter().any(|it| it == variable) {
                command.env(variable, value);
            }
        }
    }

    /// Returns uid and gid.
    pub(super) fn ids(&self) -> Option<(u32, u32)> {
        let user = self.0.as_ref()?;
        Some((user.uid.as_raw(), user.gid.as_raw()))
    }
}

/// Executes the program. Returns only if that fails.
pub(super) fn become_program(
    program: &mut Command,
    joined: Vec<ServiceHandle>,
) -> io::Result<ExitCode> {
    for handle in joined {
        // The program keeps the reference until it exits.
        std::mem::forget(handle);
    }
    Err(program.exec())
}

/// Binds sockets to the port at both loopback addresses until the program is executed.
///
/// The sockets do not listen, so connections are still refused.
pub(super) fn reserve(port: u16) -> Vec<OwnedFd> {
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    let addresses = [(AddressFamily::INET, v4), (AddressFamily::INET6, v6)];
    // If another process already has the port, the program reports that.
    let sockets = addresses.map(|(family, address)| bind(family, address).ok());
    sockets.into_iter().flatten().collect()
}

fn bind(family: AddressFamily, address: SocketAddr) -> rustix::io::Result<OwnedFd> {
    let socket = descriptor::stream_socket(family)?;
    rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    Ok(socket)
}

//! The service that is shared: it notes down when it begins, is ready, and is asked to end, and does
//! nothing else. It listens nowhere.

use std::env;
use std::io::Write as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;

use crate::Result;
use crate::site::{Event, Site};

pub fn run(dir: &Path) -> Result<()> {
    let site = Site::new(dir);
    site.note(Event::Begun)?;
    // Asked to end before it is ready, it ends.
    site.wait_at_gate()?;
    let mut signals = Signals::new([SIGTERM])?;
    site.note(Event::Ready)?;
    announce()?;
    signals.forever().next();
    site.note(Event::Asked)
}

fn announce() -> Result<()> {
    let Ok(name) = env::var("NOTIFY_SOCKET") else {
        let mut out = std::io::stdout().lock();
        writeln!(out, "ready")?;
        return Ok(out.flush()?);
    };
    let name = name.strip_prefix('@').ok_or("not an abstract socket")?;
    let address = SocketAddr::from_abstract_name(name)?;
    UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address)?;
    Ok(())
}

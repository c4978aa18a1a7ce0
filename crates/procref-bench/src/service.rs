//! The shared service. It only records the times at which it starts, is ready, and gets the stop signal. It
//! does not listen.

use std::env;
use std::io::Write as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;

use crate::error::Result;
use crate::site::{Event, Site};

pub fn run(dir: &Path) -> Result<()> {
    let site = Site::new(dir);
    site.note(Event::Started)?;
    // A stop signal before this point kills the service.
    site.wait_at_gate()?;
    let mut signals = Signals::new([SIGTERM])?;
    site.note(Event::Ready)?;
    report_ready()?;
    signals.forever().next();
    site.note(Event::StopSignal)
}

fn report_ready() -> Result<()> {
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

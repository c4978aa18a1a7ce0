//! A service that a D-Bus bus starts at the first call. The bus does not count clients. The service counts its callers by
//! their names, and the bus reports when a caller disconnects.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use zbus::blocking::{Connection, connection, fdo::DBusProxy};
use zbus::interface;
use zbus::message::Header;

use super::Client;
use crate::error::Result;
use crate::site::{Event, Site};

const NAME: &str = "org.procref.Bench";
const PATH: &str = "/org/procref/Bench";

/// Starts the bus, which must run before it can start a service.
pub fn start_bus(site: &Site) -> Result<Child> {
    let dir = site.dir().display();
    let program = std::env::current_exe()?;
    let program = program.display();
    std::fs::write(
        site.file(&format!("{NAME}.service")),
        format!("[D-BUS Service]\nName={NAME}\nExec={program} serve-dbus {dir}\n"),
    )?;
    let config = format!(
        "<busconfig>\
         <listen>unix:path={dir}/bus</listen>\
         <auth>EXTERNAL</auth>\
         <servicedir>{dir}</servicedir>\
         <policy context=\"default\"><allow send_destination=\"*\" eavesdrop=\"true\"/>\
         <allow eavesdrop=\"true\"/><allow own=\"*\"/></policy>\
         <limit name=\"max_connections_per_user\">100000</limit>\
         <limit name=\"max_completed_connections\">100000</limit>\
         <limit name=\"max_incomplete_connections\">100000</limit>\
         <limit name=\"max_pending_service_starts\">100000</limit>\
         <limit name=\"max_replies_per_connection\">100000</limit>\
         <limit name=\"service_start_timeout\">300000</limit>\
         </busconfig>"
    );
    let file = site.file("bus.conf");
    std::fs::write(&file, config)?;
    let mut daemon = Command::new("dbus-daemon");
    daemon
        .arg("--config-file")
        .arg(&file)
        .args(["--nofork", "--print-address"]);
    // The bus prints a line for every start.
    daemon
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut bus = daemon.spawn().map_err(|error| {
        format!("could not run dbus-daemon (install Debian's package dbus-daemon): {error}")
    })?;
    let out = bus.stdout.take().ok_or("no pipe")?;
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut String::new())?;
    Ok(bus)
}

fn connect(site: &Site) -> Result<connection::Builder<'static>> {
    let address = format!("unix:path={}", site.file("bus").display());
    Ok(connection::Builder::address(address.as_str())?)
}

/// A client. It connects at its first call.
pub struct Caller {
    site: Site,
    connection: Option<Connection>,
}

impl Caller {
    pub fn new(site: &Site) -> Self {
        Self {
            site: site.clone(),
            connection: None,
        }
    }

    fn call(&mut self, method: &str) -> Result<()> {
        let connection = match &self.connection {
            Some(connection) => connection,
            None => {
                let connection = connect(&self.site)?.build()?;
                self.connection.insert(connection)
            }
        };
        let counted: bool = connection
            .call_method(Some(NAME), PATH, Some(NAME), method, &())?
            .body()
            .deserialize()?;
        if counted {
            Ok(())
        } else {
            Err("the service is stopping".into())
        }
    }
}

impl Client for Caller {
    fn attach(&mut self) -> Result<()> {
        // A service that is stopping refuses the call. The next call starts a new service.
        let mut tries = 100;
        loop {
            match self.call("Attach") {
                Err(_) if tries > 0 => tries -= 1,
                done => return done,
            }
        }
    }

    fn detach(&mut self) -> Result<()> {
        self.call("Detach")
    }
}

#[derive(Default)]
struct Counted {
    counts: HashMap<String, u32>,
    stopping: bool,
}

#[derive(Clone)]
struct Service {
    site: Site,
    counted: Arc<Mutex<Counted>>,
}

impl Service {
    fn change(&self, caller: &str, change: impl FnOnce(&mut u32)) -> bool {
        let mut counted = self.counted.lock().expect("no panic under the lock");
        if counted.stopping {
            return false;
        }
        let count = counted.counts.entry(caller.to_owned()).or_default();
        change(count);
        if *count == 0 {
            counted.counts.remove(caller);
        }
        if counted.counts.is_empty() {
            counted.stopping = true;
            let _ = self.site.note(Event::StopSignal);
        }
        true
    }
}

fn caller(header: &Header<'_>) -> String {
    header.sender().map(ToString::to_string).unwrap_or_default()
}

#[interface(name = "org.procref.Bench")]
impl Service {
    fn attach(&self, #[zbus(header)] header: Header<'_>) -> bool {
        self.change(&caller(&header), |count| *count += 1)
    }

    fn detach(&self, #[zbus(header)] header: Header<'_>) -> bool {
        let done = self.change(&caller(&header), |count| *count = count.saturating_sub(1));
        if self
            .counted
            .lock()
            .expect("no panic under the lock")
            .stopping
        {
            self.exit_soon();
        }
        done
    }
}

impl Service {
    /// Exits after the reply was sent.
    fn exit_soon(&self) {
        std::thread::spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            std::process::exit(0);
        });
    }
}

pub fn serve(dir: &Path) -> Result<()> {
    let site = Site::new(dir);
    site.note(Event::Started)?;
    site.wait_at_gate()?;
    let service = Service {
        site: site.clone(),
        counted: Arc::default(),
    };
    let builder = connect(&site)?.serve_at(PATH, service.clone())?;
    let connection = builder.build()?;
    let changes = DBusProxy::new(&connection)?.receive_name_owner_changed()?;
    site.note(Event::Ready)?;
    connection.request_name(NAME)?;
    for signal in changes {
        let signal = signal.args()?;
        if signal.new_owner().is_none() {
            let name = signal.name().to_string();
            let known = service
                .counted
                .lock()
                .expect("no panic under the lock")
                .counts
                .contains_key(&name);
            if known && service.change(&name, |count| *count = 0) {
                let stopping = service
                    .counted
                    .lock()
                    .expect("no panic under the lock")
                    .stopping;
                if stopping {
                    std::process::exit(0);
                }
            }
        }
    }
    Ok(())
}

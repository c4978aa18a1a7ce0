//! A service that a D-Bus bus starts when somebody calls it. Nothing of that counts clients: the
//! service does it, by the names of its callers and the bus's word that one is gone.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use zbus::blocking::{Connection, connection, fdo::DBusProxy};
use zbus::interface;
use zbus::message::Header;

use crate::Result;
use crate::contender::Client;
use crate::site::{Event, Site};

const NAME: &str = "org.procref.Bench";
const PATH: &str = "/org/procref/Bench";

/// The bus, which has to run before anybody can be started by it.
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
    // It tells of every start.
    daemon
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut bus = daemon.spawn().map_err(|error| {
        format!("dbus-daemon cannot be run (Debian's package dbus-daemon): {error}")
    })?;
    let out = bus.stdout.take().ok_or("no pipe")?;
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut String::new())?;
    Ok(bus)
}

fn connect(site: &Site) -> Result<connection::Builder<'static>> {
    let address = format!("unix:path={}", site.file("bus").display());
    Ok(connection::Builder::address(address.as_str())?)
}

/// A client, connected from its first call on.
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
            Err("it is just stopping".into())
        }
    }
}

impl Client for Caller {
    fn attach(&mut self) -> Result<()> {
        // A call that meets a service that is about to end is refused, and the next one starts it.
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
    of: HashMap<String, u32>,
    over: bool,
}

#[derive(Clone)]
struct Service {
    site: Site,
    counted: Arc<Mutex<Counted>>,
}

impl Service {
    fn change(&self, caller: &str, change: impl FnOnce(&mut u32)) -> bool {
        let mut counted = self.counted.lock().expect("nobody panics with it");
        if counted.over {
            return false;
        }
        let count = counted.of.entry(caller.to_owned()).or_default();
        change(count);
        if *count == 0 {
            counted.of.remove(caller);
        }
        if counted.of.is_empty() {
            counted.over = true;
            let _ = self.site.note(Event::Asked);
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
        if self.counted.lock().expect("nobody panics with it").over {
            self.leave();
        }
        done
    }
}

impl Service {
    /// Ends once the answer is on its way.
    fn leave(&self) {
        std::thread::spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            std::process::exit(0);
        });
    }
}

pub fn serve(dir: &Path) -> Result<()> {
    let site = Site::new(dir);
    site.note(Event::Begun)?;
    site.wait_at_gate()?;
    let service = Service {
        site: site.clone(),
        counted: Arc::default(),
    };
    let builder = connect(&site)?.serve_at(PATH, service.clone())?;
    let connection = builder.build()?;
    let gone = DBusProxy::new(&connection)?.receive_name_owner_changed()?;
    site.note(Event::Ready)?;
    connection.request_name(NAME)?;
    for signal in gone {
        let signal = signal.args()?;
        if signal.new_owner().is_none() {
            let name = signal.name().to_string();
            let known = service
                .counted
                .lock()
                .expect("nobody panics with it")
                .of
                .contains_key(&name);
            if known && service.change(&name, |count| *count = 0) {
                let over = service.counted.lock().expect("nobody panics with it").over;
                if over {
                    std::process::exit(0);
                }
            }
        }
    }
    Ok(())
}

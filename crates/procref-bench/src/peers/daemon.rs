//! A daemon that starts the service, counts the connections to its Unix socket, and stops the service with the last
//! connection. Testcontainers' reaper counts in the same way.
//!
//! The kernel closes the connection of a dead client, so the count is right after a crash. But the daemon is an additional
//! process, and if it dies, no process stops the service.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::epoll;
use rustix::fs::{FlockOperation, flock};

use super::Client;
use super::lockfile::stop;
use crate::error::Result;
use crate::site::Site;
use crate::stdio::print_line;

/// The byte that a client gets when the service is ready.
const READY: u8 = b'r';
/// Number of connections that are accepted before others are handled.
const ACCEPTED_AT_ONCE: usize = 16;
/// Pause of a client if the daemon's queue of connections is full.
const PAUSE: Duration = Duration::from_millis(1);

pub struct Connected {
    site: Site,
    connections: Vec<UnixStream>,
}

impl Connected {
    pub fn new(site: &Site) -> Self {
        Self {
            site: site.clone(),
            connections: Vec::new(),
        }
    }

    /// Returns `None` if no daemon listens.
    fn connect(&self) -> Result<Option<UnixStream>> {
        loop {
            match UnixStream::connect(self.site.file("socket")) {
                Ok(stream) => return Ok(Some(stream)),
                Err(error) => match error.kind() {
                    ErrorKind::NotFound | ErrorKind::ConnectionRefused => return Ok(None),
                    ErrorKind::WouldBlock => std::thread::sleep(PAUSE),
                    _ => return Err(error.into()),
                },
            }
        }
    }

    /// Starts the daemon if necessary. A lock ensures that only one daemon starts.
    fn connect_or_start(&self) -> Result<UnixStream> {
        let lock = File::options()
            .create(true)
            .append(true)
            .open(self.site.file("lock"))?;
        flock(&lock, FlockOperation::LockExclusive)?;
        if let Some(stream) = self.connect()? {
            return Ok(stream);
        }
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("daemon").arg(self.site.dir());
        let mut daemon = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = daemon.stdout.take().ok_or("no pipe")?;
        // The daemon prints a line when it listens.
        BufReader::new(out).read_line(&mut String::new())?;
        Ok(self.connect()?.ok_or("the daemon has exited")?)
    }
}

impl Client for Connected {
    fn attach(&mut self) -> Result<()> {
        loop {
            let mut stream = match self.connect()? {
                Some(stream) => stream,
                None => self.connect_or_start()?,
            };
            match stream.read(&mut [0]) {
                Ok(1) => {
                    self.connections.push(stream);
                    return Ok(());
                }
                // The daemon was stopping, or has died.
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn detach(&mut self) -> Result<()> {
        drop(self.connections.pop());
        Ok(())
    }
}

/// Runs the daemon.
pub fn run(dir: &Path) -> Result<()> {
    let site = Site::new(dir);
    let socket = site.file("socket");
    // A killed daemon leaves its socket.
    let _ = fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket)?;
    print_line("listening")?;
    let pid = site.start()?;
    serve(&listener)?;
    // After this line, a new client starts another daemon. The kernel refuses clients that wait in the queue.
    fs::remove_file(&socket)?;
    drop(listener);
    stop(pid);
    Ok(())
}

/// Accepts and counts connections until the last one is closed.
fn serve(listener: &UnixListener) -> Result<()> {
    const LISTENER: u64 = u64::MAX;
    listener.set_nonblocking(true)?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(
        &poll,
        listener,
        epoll::EventData::new_u64(LISTENER),
        epoll::EventFlags::IN,
    )?;
    let mut clients: Vec<Option<UnixStream>> = Vec::new();
    let mut connected = 0;
    let mut events = Vec::with_capacity(256);
    loop {
        events.clear();
        epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in &events {
            if event.data.u64() != LISTENER {
                // Clients send nothing, so an event means that the connection is closed.
                let slot = usize::try_from(event.data.u64())?;
                connected -= usize::from(clients[slot].take().is_some());
                continue;
            }
            // Only a few are accepted at a time, so that closed connections are handled while new ones arrive.
            for _ in 0..ACCEPTED_AT_ONCE {
                let mut stream = match listener.accept() {
                    Ok((stream, _)) => stream,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                };
                if stream.write_all(&[READY]).is_err() {
                    continue;
                }
                let fd: RawFd = stream.as_raw_fd();
                let slot = usize::try_from(fd)?;
                let data = epoll::EventData::new_u64(slot.try_into()?);
                epoll::add(&poll, &stream, data, epoll::EventFlags::IN)?;
                if clients.len() <= slot {
                    clients.resize_with(slot + 1, || None);
                }
                clients[slot] = Some(stream);
                connected += 1;
            }
        }
        if connected == 0 {
            return Ok(());
        }
    }
}

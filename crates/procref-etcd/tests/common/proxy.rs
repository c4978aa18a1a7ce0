//! A slow line to a member, which loses packets and can be cut. It needs no traffic control of the kernel, which many
//! kernels do not have.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// How long TCP takes to send a lost packet again, if no later packet shows the loss.
const RETRANSMISSION: Duration = Duration::from_millis(300);

/// The time that each packet takes, and how many packets pass for one that is lost.
#[derive(Clone, Copy, Debug)]
pub struct Quality {
    pub delay: Duration,
    pub loss: u32,
}

#[derive(Debug, Default)]
struct State {
    is_cut: bool,
    lost: usize,
    /// Packets that came while the line was cut.
    held: usize,
}

/// A line from a new address on the loopback interface to a member.
pub struct Line {
    pub address: SocketAddr,
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Line {
    /// Connects a new address with the member at `target`, such as `127.0.0.1:2379`. The threads end with the process.
    pub fn start(target: &str, quality: Quality) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let line = Self {
            address,
            state: Arc::default(),
        };
        let (target, state) = (target.to_owned(), line.state.clone());
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                // A member that does not run refuses connections.
                let Ok(far) = TcpStream::connect(&target) else {
                    continue;
                };
                let directions = [(&near, &far), (&far, &near)];
                for (from, to) in directions.map(|(from, to)| (from.try_clone(), to.try_clone())) {
                    let (Ok(from), Ok(to), state) = (from, to, state.clone()) else {
                        continue;
                    };
                    thread::spawn(move || {
                        let _ = copy(&from, &to, quality, &state);
                        let _ = to.shutdown(Shutdown::Both);
                        let _ = from.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        line
    }

    /// Lets no packet pass any more. Connections stay, so that no side gets an error.
    pub fn cut(&self) {
        self.state.0.lock().unwrap().is_cut = true;
    }

    pub fn heal(&self) {
        self.state.0.lock().unwrap().is_cut = false;
        self.state.1.notify_all();
    }

    /// Returns how many packets were lost, and how many came while the line was cut.
    pub fn counts(&self) -> [usize; 2] {
        let state = self.state.0.lock().unwrap();
        [state.lost, state.held]
    }
}

fn copy(
    mut from: &TcpStream,
    mut to: &TcpStream,
    quality: Quality,
    state: &(Mutex<State>, Condvar),
) -> io::Result<()> {
    let mut packet = [0; 1_400];
    loop {
        let length = from.read(&mut packet)?;
        if length == 0 {
            return Ok(());
        }
        let mut time = quality.delay;
        if fastrand::u32(0..quality.loss) == 0 {
            state.0.lock().unwrap().lost += 1;
            time += RETRANSMISSION;
        }
        thread::sleep(time);
        let mut guard = state.0.lock().unwrap();
        guard.held += usize::from(guard.is_cut);
        drop(state.1.wait_while(guard, |state| state.is_cut).unwrap());
        to.write_all(&packet[..length])?;
    }
}

//! A store that refuses writers whose fencing token is older than the greatest one that it has seen, and such a writer.
//!
//! ```sh
//! fenced_store serve 127.0.0.1:7000
//! procref-etcd link --cluster etcd://h1,h2,h3/ci counter -- fenced_store write 127.0.0.1:7000
//! ```
//!
//! The writer is a service of a cluster. It finds its token in `PROCREF_FENCE`, and sends it with each write. If its host
//! is frozen for longer than a reference lasts, another host starts the service. When the first host thaws, the store
//! refuses its writes.
//!
//! A request is one line, `TOKEN VALUE`, and the answer is `ok` or `refused`.

use std::env;
use std::error::Error;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// The data, and the greatest token of a writer. One lock protects both: if the token were compared before the lock, a
/// newer writer could come between the comparison and the write.
#[derive(Default)]
struct Store {
    token: i64,
    value: String,
}

impl Store {
    /// Writes a value. Returns `false` and changes nothing if the token is older than that of another writer.
    fn write(&mut self, token: i64, value: &str) -> bool {
        if token < self.token {
            println!(
                "refused: {value:?} with token {token}, which is older than {}",
                self.token
            );
            return false;
        }
        if token > self.token {
            println!("accepted: token {token} after {:?}", self.value);
        }
        self.token = token;
        value.clone_into(&mut self.value);
        true
    }
}

fn serve(address: &str) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(address)?;
    println!("listening: {}", listener.local_addr()?);
    let store = Mutex::new(Store::default());
    thread::scope(|scope| {
        for stream in listener.incoming() {
            let stream = stream?;
            let store = &store;
            scope.spawn(move || {
                if let Err(error) = answer(&stream, store) {
                    println!("closed: {error}");
                }
            });
        }
        Ok(())
    })
}

fn answer(mut stream: &TcpStream, store: &Mutex<Store>) -> Result<(), Box<dyn Error>> {
    for line in BufReader::new(stream).lines() {
        let line = line?;
        let (token, value) = line.split_once(' ').ok_or("a line without a value")?;
        let token = token.parse()?;
        let done = store
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write(token, value);
        writeln!(stream, "{}", if done { "ok" } else { "refused" })?;
    }
    Ok(())
}

fn write(address: &str) -> Result<(), Box<dyn Error>> {
    let token = env::var("PROCREF_FENCE")?;
    let stream = TcpStream::connect(address)?;
    let mut answers = BufReader::new(&stream).lines();
    for number in 0.. {
        writeln!(&stream, "{token} {number}")?;
        match answers.next().transpose()?.as_deref() {
            Some("ok") => {}
            Some(_) => return Err(format!("the store refused token {token}").into()),
            None => return Err("the store closed the connection".into()),
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", address] => serve(address),
        ["write", address] => write(address),
        _ => Err("usage: fenced_store serve|write ADDRESS".into()),
    }
}

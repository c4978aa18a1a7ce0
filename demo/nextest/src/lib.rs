//! One Redis for all tests, whatever process they run in.
//!
//! The first test that asks for it starts it, on a free port; all others join. `linger` keeps it warm
//! between a test that ends and the next one that begins, and when the last one has gone, or everything
//! was killed, it is stopped. There is nothing to set up before the run, and nothing to tear down.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use procref::{Result, ServiceCommand, ServiceHandle, SharedService};

/// The service that all tests share.
pub fn redis_service() -> Result<SharedService> {
    let mut redis = ServiceCommand::new("redis-server")
        .args(["--bind", "127.0.0.1", "--port", "{port}"])
        .args(["--save", "", "--appendonly", "no"]);
    if let Some(log) = env::var_os("DEMO_REDIS_LOG") {
        redis = redis.log(log);
    }
    SharedService::builder("nextest demo")
        .command(redis)
        .linger(Duration::from_secs(1))
        .build()
}

/// A connection to it, and what keeps it running meanwhile.
pub struct Redis {
    stream: BufReader<TcpStream>,
    handle: ServiceHandle,
}

impl Redis {
    /// Starts it, or joins.
    pub fn shared() -> Result<Self> {
        let handle = redis_service()?.acquire_blocking()?;
        let stream = TcpStream::connect(("127.0.0.1", handle.port()))?;
        Ok(Self {
            stream: BufReader::new(stream),
            handle,
        })
    }

    /// Its pid, the same in all tests.
    pub fn pid(&self) -> u32 {
        self.handle.pid()
    }

    /// Sends a command, and returns its answer's first line without the mark of its type.
    pub fn ask(&mut self, command: &str) -> Result<String> {
        self.stream
            .get_mut()
            .write_all(format!("{command}\r\n").as_bytes())?;
        let mut answer = String::new();
        self.stream.read_line(&mut answer)?;
        match answer.trim_end().split_at_checked(1) {
            Some(("+" | ":" | "$", text)) => Ok(text.to_owned()),
            _ => Err(format!("Redis answered {answer:?}").into()),
        }
    }
}

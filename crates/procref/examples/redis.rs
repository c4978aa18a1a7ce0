//! Any number of copies of this program share one Redis (on Debian, `apt-get install redis-server`).

use std::io::{BufRead, BufReader, Write, stdin, stdout};
use std::net::TcpStream;

use procref::{Result, ServiceCommand, SharedService};

fn main() -> Result<()> {
    let redis = ServiceCommand::new("redis-server")
        .args(["--bind", "127.0.0.1", "--port", "{port}"])
        .args(["--save", ""]);
    let service = SharedService::builder("redis").command(redis).build()?;
    let handle = service.acquire_blocking()?;

    let mut redis = BufReader::new(TcpStream::connect(("127.0.0.1", handle.port()))?);
    redis.get_mut().write_all(b"PING\r\n")?;
    let mut answer = String::new();
    redis.read_line(&mut answer)?;
    let (pid, answer) = (handle.pid(), answer.trim_matches(['+', '\r', '\n']));
    writeln!(stdout(), "{answer} from process {pid}: Enter releases it")?;
    stdin().read_line(&mut String::new())?;
    handle.release_blocking()
}

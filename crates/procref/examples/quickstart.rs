//! Five processes share one HTTP server. The process that started the server is killed, and the server stops after the
//! last process has left.
//!
//! ```sh
//! cargo run --example quickstart
//! ```

use std::env;
use std::io::{self, BufRead, BufReader, Write, stdin, stdout};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use procref::{Ready, Result, ServiceCommand, SharedService};

/// The service. Processes that use the same name and the same runtime directory share it.
fn shared_server() -> Result<SharedService> {
    let server = ServiceCommand::new(env::current_exe()?)
        .args(["server", "{port}"]) // procref chooses a free port.
        .ready(Ready::http("/"));
    SharedService::builder("quickstart").command(server).build()
}

/// Runs a process that needs the server. It sends a request, and holds the server until its input ends.
fn client() -> Result<()> {
    let handle = shared_server()?.acquire_blocking()?; // Starts or joins the server.
    let mut stream = TcpStream::connect(("127.0.0.1", handle.port()))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let answer = io::read_to_string(stream)?;
    writeln!(stdout(), "{}", answer.lines().last().unwrap_or_default())?;
    stdin().read_line(&mut String::new())?;
    handle.release_blocking()
}

/// Runs the server: an ordinary program that does not use procref.
fn server(port: u16) -> Result<()> {
    for mut stream in TcpListener::bind(("127.0.0.1", port))?.incoming().flatten() {
        let request = BufReader::new(stream.try_clone()?)
            .lines()
            .map_while(io::Result::ok);
        request.take_while(|line| !line.is_empty()).for_each(drop);
        let body = format!("served by process {}", std::process::id());
        let _ = write!(
            stream,
            "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
    }
    Ok(())
}

/// Starts five clients at once, kills one, lets the others leave, and checks that one server served them all.
fn run() -> Result<()> {
    let client = || {
        Command::new(env::current_exe()?)
            .arg("client")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
    };
    let mut clients = (0..5)
        .map(|_| client())
        .collect::<io::Result<Vec<Child>>>()?;
    let mut answers = Vec::new();
    for client in &mut clients {
        let mut answer = String::new();
        BufReader::new(client.stdout.take().ok_or("no pipe")?).read_line(&mut answer)?;
        write!(stdout(), "client {}: {answer}", client.id())?;
        answers.push(answer);
    }
    clients[0].kill()?; // The kernel releases the reference of the killed process.
    let server = shared_server()?;
    for client in &mut clients {
        client.wait()?; // Closes the client's input, so that the client leaves.
        writeln!(
            stdout(),
            "client {} has left: {} clients",
            client.id(),
            server.count()?
        )?;
    }
    answers.dedup();
    match answers.len() {
        1 if server.wait_stopped_blocking(Duration::from_secs(60))? => {
            Ok(writeln!(stdout(), "the server has stopped")?)
        }
        1 => Err("the server still runs".into()),
        _ => Err("more than one server".into()),
    }
}

fn main() -> Result<()> {
    match &env::args().skip(1).collect::<Vec<_>>()[..] {
        [] => run(),
        [role] if role == "client" => client(),
        [role, port] if role == "server" => server(port.parse().map_err(|_| "no port")?),
        _ => Err("this example takes no arguments".into()),
    }
}

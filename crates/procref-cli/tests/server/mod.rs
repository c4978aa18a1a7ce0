//! A small server for tests that can use any server.
//!
//! The test binary is its own server: it runs one of its tests with [`SERVE`] among its arguments. A separate program
//! would have to be installed, or built before a single test file can run.

#![allow(dead_code, reason = "each test file uses its part of it")]

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs, process, thread};

/// The argument with which the test [`server_answers`] becomes the server.
///
/// The port follows, and then the directory with the files to serve, if any. libtest takes these arguments for names
/// of tests that do not exist.
const SERVE: &str = "procref-test-server";

/// The variable with further lines that the server sends to `NOTIFY_SOCKET`.
pub const NOTIFY_LINES: &str = "TEST_NOTIFY_LINES";

const TEST: &str = "server::server_answers";

/// Returns the shell command that starts the server. The caller appends the port and, to serve files, a directory.
pub fn command() -> String {
    let program = env::current_exe().expect("the path of this test binary");
    format!("{} {TEST} --exact --nocapture {SERVE}", program.display())
}

/// Returns shell code that sends one line to the server on the port in `$variable`, and prints the answer.
pub fn request(line: &str, variable: &str) -> String {
    format!("bash -c 'exec 3<>/dev/tcp/127.0.0.1/${variable}; echo {line} >&3; cat <&3'")
}

#[test]
fn server_answers() {
    let mut words = env::args().skip_while(|word| word != SERVE).skip(1);
    if let Some(port) = words.next() {
        serve(port.parse().expect("a port"), words.next().map(Into::into));
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::write(dir.path().join("page"), "a page").expect("write a file");
    let program = env::current_exe().expect("the path of this test binary");
    let mut server = Command::new(program)
        .args([TEST, "--exact", "--nocapture", SERVE, "0"])
        .arg(dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start the server");
    let lines = BufReader::new(server.stdout.take().expect("a pipe")).lines();
    let port = lines.map_while(Result::ok).find_map(|line| {
        line.strip_prefix("Ready to accept connections on port ")?
            .parse()
            .ok()
    });
    let ask = |request: &str| {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port.expect("a port")))?;
        stream.write_all(request.as_bytes())?;
        io::read_to_string(stream)
    };
    let answers = [
        "ping\n",
        "pid\n",
        "GET /page HTTP/1.1\r\n\r\n",
        "GET /other HTTP/1.1\r\n\r\n",
    ]
    .map(|request| ask(request).expect("an answer"));
    server.kill().expect("kill the server");
    server.wait().expect("wait for the server");
    assert_eq!(answers[0], "PONG\n");
    assert_eq!(answers[1], format!("{}\n", server.id()));
    assert!(answers[2].starts_with("HTTP/1.1 200") && answers[2].ends_with("\r\n\r\na page"));
    assert!(answers[3].starts_with("HTTP/1.1 404"));
}

fn serve(port: u16, dir: Option<PathBuf>) -> ! {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("listen");
    let port = listener.local_addr().expect("an address").port();
    writeln!(io::stdout(), "Ready to accept connections on port {port}").expect("print the port");
    #[cfg(target_os = "linux")]
    if let Ok(name) = env::var("NOTIFY_SOCKET") {
        notify(&name, port);
    }
    loop {
        let Ok((stream, _)) = listener.accept() else {
            continue;
        };
        let dir = dir.clone();
        // A client that sends nothing must not block the others. A client that closes its connection loses the answer.
        thread::spawn(move || answer(stream, dir.as_deref()));
    }
}

/// Reports readiness as `sd_notify` does, with the port, and with the lines of the variable [`NOTIFY_LINES`].
#[cfg(target_os = "linux")]
fn notify(name: &str, port: u16) {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let name = name.strip_prefix('@').expect("an abstract socket");
    let address = SocketAddr::from_abstract_name(name).expect("an address");
    let lines = env::var(NOTIFY_LINES).unwrap_or_default();
    let message = format!("PROCREF_PORT={port}\n{lines}\nREADY=1");
    let socket = UnixDatagram::unbound().expect("a socket");
    socket
        .send_to_addr(message.as_bytes(), &address)
        .expect("send the message");
}

fn answer(mut stream: TcpStream, dir: Option<&Path>) -> io::Result<()> {
    let mut request = BufReader::new(stream.try_clone()?).lines();
    let line = request.next().transpose()?.unwrap_or_default();
    match line.split_whitespace().collect::<Vec<_>>()[..] {
        ["ping"] => writeln!(stream, "PONG"),
        ["pid"] => writeln!(stream, "{}", process::id()),
        ["GET", path, _] => {
            // Closing a socket with unread input would reset the connection, and the client would lose the answer.
            for header in request {
                if header?.is_empty() {
                    break;
                }
            }
            let file = dir.map(|dir| fs::read(dir.join(path.trim_start_matches('/'))));
            let (status, body) = match (path, file) {
                ("/", _) => ("200 OK", Vec::new()),
                (_, Some(Ok(body))) => ("200 OK", body),
                _ => ("404 Not Found", Vec::new()),
            };
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            )?;
            stream.write_all(&body)
        }
        _ => Ok(()),
    }
}

//! `connect` copies standard input and output to a service and back.

#![cfg(target_os = "linux")]

mod support;

use std::io::{self, Read as _, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};
use std::{env, fs, process, thread};

use support::sandbox::Sandbox;

/// The argument with which the test [`connect_server`] becomes the service. Its mode and its address follow.
const SERVE: &str = "procref-test-connect";

/// Returns the options that start this test binary as the service `db`.
fn service(mode: &str, address: &str, ready: &str) -> Vec<String> {
    let program = env::current_exe().expect("the path of this test binary");
    let program = program.to_str().expect("Unicode");
    let start = format!("{program} connect_server --exact --nocapture {SERVE} {mode} {address}");
    ["--start", &start, "--ready", ready]
        .map(str::to_owned)
        .to_vec()
}

fn by_port(mode: &str) -> Vec<String> {
    service(mode, "{port}", "log:Ready")
}

/// Starts `procref connect db` with pipes.
fn connect(sandbox: &Sandbox, options: &[String]) -> Child {
    let mut command = sandbox.procref("db");
    command.args(["connect", "db"]).args(options);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().expect("run procref")
}

/// Returns what the program prints until it closes its output.
fn output_of(child: &mut Child) -> String {
    let mut text = String::new();
    let output = child.stdout.as_mut().expect("a pipe");
    output.read_to_string(&mut text).expect("read the output");
    text
}

#[test]
fn connect_server() {
    let mut words = env::args().skip_while(|word| word != SERVE).skip(1);
    if let (Some(mode), Some(address)) = (words.next(), words.next()) {
        serve(&mode, &address);
    }
}

fn serve(mode: &str, address: &str) -> ! {
    if mode == "unix" {
        let listener = UnixListener::bind(address).expect("listen");
        writeln!(io::stdout(), "Ready").expect("print a line");
        loop {
            let (mut stream, _) = listener.accept().expect("accept");
            let _ = stream.write_all(b"by socket\n");
        }
    }
    let port = address.parse().expect("a port");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("listen");
    writeln!(io::stdout(), "Ready").expect("print a line");
    loop {
        let (stream, _) = listener.accept().expect("accept");
        let mode = mode.to_owned();
        thread::spawn(move || answer(&mode, stream));
    }
}

fn answer(mode: &str, mut stream: TcpStream) -> io::Result<()> {
    match mode {
        "echo" => {
            let mut buffer = vec![0; 1 << 20];
            loop {
                match stream.read(&mut buffer)? {
                    0 => return Ok(()),
                    length => stream.write_all(&buffer[..length])?,
                }
            }
        }
        "count" => {
            let count = io::copy(&mut stream, &mut io::sink())?;
            writeln!(stream, "{count} bytes")
        }
        "half" => {
            writeln!(stream, "no more")?;
            stream.shutdown(Shutdown::Write)?;
            let mut file = fs::File::create("received")?;
            io::copy(&mut stream, &mut file).map(drop)
        }
        "exit" => {
            writeln!(stream, "the end")?;
            process::exit(0)
        }
        "pid" => writeln!(stream, "{}", process::id()),
        other => panic!("unknown mode {other}"),
    }
}

/// A GiB of bytes of all values comes back unchanged, although neither side reads and writes at the same time.
#[test]
fn connect_copies_a_gigabyte_in_both_directions() {
    const BLOCKS: u32 = 1024;
    let sandbox = Sandbox::new();
    let mut child = connect(&sandbox, &by_port("echo"));
    let block = |number: u32| {
        let mut block: Vec<u8> = (0..=u8::MAX).cycle().take(1 << 20).collect();
        block[..4].copy_from_slice(&number.to_le_bytes());
        block
    };
    let mut input = child.stdin.take().expect("a pipe");
    let writer = thread::spawn(move || {
        let mut block = block(0);
        for number in 0..BLOCKS {
            block[..4].copy_from_slice(&number.to_le_bytes());
            input.write_all(&block).expect("write");
        }
    });
    let mut output = child.stdout.take().expect("a pipe");
    let (mut expected, mut received) = (block(0), vec![0; 1 << 20]);
    for number in 0..BLOCKS {
        output.read_exact(&mut received).expect("read");
        expected[..4].copy_from_slice(&number.to_le_bytes());
        assert!(received == expected, "block {number}");
    }
    assert_eq!(output.read(&mut received).expect("read"), 0);
    writer.join().expect("write everything");
    assert_eq!(child.wait().expect("wait").code(), Some(0));
}

#[test]
fn connect_reads_the_answer_after_the_end_of_its_input() {
    let sandbox = Sandbox::new();
    let mut child = connect(&sandbox, &by_port("count"));
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(&[0, 255, b'\n', 0]).expect("write");
    drop(input);
    assert_eq!(output_of(&mut child), "4 bytes\n");
    assert_eq!(child.wait().expect("wait").code(), Some(0));
}

#[test]
fn connect_sends_after_the_end_of_the_answer() {
    let sandbox = Sandbox::new();
    let mut child = connect(&sandbox, &by_port("half"));
    // The end of the answer arrives while the input is open.
    assert_eq!(output_of(&mut child), "no more\n");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(b"later\n").expect("write");
    let received = sandbox.path("here").join("received");
    procref_testkit::deadline::until_true("the service has the text", || {
        fs::read_to_string(&received).is_ok_and(|text| text == "later\n")
    });
    drop(input);
    assert_eq!(child.wait().expect("wait").code(), Some(0));
}

#[test]
fn connect_ends_with_the_service_while_its_input_is_open() {
    let sandbox = Sandbox::new();
    let mut child = connect(&sandbox, &by_port("exit"));
    let _input = child.stdin.take().expect("a pipe");
    assert_eq!(output_of(&mut child), "the end\n");
    assert_eq!(child.wait().expect("wait").code(), Some(0));
}

#[test]
fn connect_uses_the_socket_of_ready_or_the_named_one() {
    let sandbox = Sandbox::new();
    for (options, named) in [
        (service("unix", "{dir}/a.sock", "unix:{dir}/a.sock"), None),
        (
            service("unix", "{dir}/b.sock", "log:Ready"),
            Some("{dir}/b.sock"),
        ),
    ] {
        let mut options = options;
        options.extend(
            named
                .into_iter()
                .flat_map(|path| ["--socket".to_owned(), path.to_owned()]),
        );
        let mut child = connect(&sandbox, &options);
        drop(child.stdin.take());
        assert_eq!(output_of(&mut child), "by socket\n");
        assert_eq!(child.wait().expect("wait").code(), Some(0));
        for socket in ["a.sock", "b.sock"] {
            let _ = fs::remove_file(sandbox.runtime_dir().join(socket));
        }
    }
}

#[test]
fn connect_errors_name_the_service_and_the_address() {
    let sandbox = Sandbox::new();
    let start = ["--start", "sleep 600", "--ready", "started"];
    for (option, code, parts) in [
        (
            None,
            2,
            &["service `db` has no port", "--socket {dir}/NAME"][..],
        ),
        (
            Some("/no such/socket"),
            1,
            &[
                "could not connect to service `db` at /no such/socket",
                "No such file",
            ],
        ),
    ] {
        let mut command = sandbox.procref("db");
        command.args(["connect", "db"]).args(start);
        if let Some(socket) = option {
            command.args(["--socket", socket]);
        }
        let done = support::sandbox::finish(&mut command);
        assert_eq!(done.code, Some(code), "{done:?}");
        for part in parts {
            assert!(done.err.contains(part), "{part:?} is not in {done:?}");
        }
    }
}

#[test]
fn g3_connect_shares_the_service_and_its_death_releases_it() {
    let sandbox = Sandbox::new();
    let holder_options = by_port("echo");
    let mut holder = connect(&sandbox, &holder_options);
    let mut input = holder.stdin.take().expect("a pipe");
    input.write_all(b"x").expect("write");
    let mut byte = [0];
    let output = holder.stdout.as_mut().expect("a pipe");
    output.read_exact(&mut byte).expect("read");
    let status = sandbox.json("db", &["status", "db", "--json"]);
    let pid = status["pid"].as_u64().expect("a pid");
    let joined = Command::new(support::PROCREF)
        .args(["connect", "db"])
        .env("PROCREF_RUNTIME_DIR", sandbox.runtime_dir())
        .current_dir(sandbox.path("here"))
        .stdin(Stdio::null())
        .output()
        .expect("run procref");
    assert!(joined.status.success(), "{joined:?}");
    let service = procref_testkit::observe::Identity::of(u32::try_from(pid).expect("a pid"));
    let service = service.expect("the service is alive");
    holder.kill().expect("kill procref");
    holder.wait().expect("wait for procref");
    service.wait_exit();
    sandbox.wait_stopped("db");
}

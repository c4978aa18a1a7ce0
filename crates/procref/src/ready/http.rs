//! As much HTTP as it takes to ask whether somebody is well.

use std::net::SocketAddr;

use super::connection::{connect_tcp, receive, send};
use super::wait::{Found, Watch};

/// The longest status line that is read, in bytes.
pub(super) const LONGEST: usize = 4096;

/// The beginning of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Status(u16),
    /// It may become one.
    Incomplete,
    /// It is not HTTP.
    Garbage,
}

/// `HTTP/1.x SP CODE [SP REASON] LF`, as far as it has come.
pub(super) fn parse_answer(bytes: &[u8]) -> Answer {
    const BEGIN: &[u8] = b"HTTP/1.";
    let common = bytes.len().min(BEGIN.len());
    if bytes[..common] != BEGIN[..common] {
        return Answer::Garbage;
    }
    let Some(end) = bytes.iter().take(LONGEST).position(|&byte| byte == b'\n') else {
        return if bytes.len() < LONGEST {
            Answer::Incomplete
        } else {
            Answer::Garbage
        };
    };
    let mut words = bytes[..end].trim_ascii_end().split(|&byte| byte == b' ');
    // The version; what matters of it is known already.
    words.next();
    match words.next() {
        Some(&[a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9']) => {
            let digit = |byte: u8| u16::from(byte - b'0');
            Answer::Status(digit(a) * 100 + digit(b) * 10 + digit(c))
        }
        _ => Answer::Garbage,
    }
}

/// Asks once.
pub(super) fn look(address: SocketAddr, path: &str, watch: &Watch<'_>) -> Found {
    match exchange(address, path, watch) {
        Ok(200..=399) => Found::Ready,
        Ok(status) => Found::NotYet(format!("HTTP {status}")),
        Err(found) => found,
    }
}

fn exchange(address: SocketAddr, path: &str, watch: &Watch<'_>) -> Result<u16, Found> {
    let socket = connect_tcp(address, watch)?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: procref\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n"
    );
    send(&socket, request.as_bytes(), watch)?;
    let mut answer = Vec::new();
    loop {
        let mut buffer = [0; 1024];
        match receive(&socket, &mut buffer, watch)? {
            0 => return not_yet("it closed the connection without an answer"),
            length => answer.extend_from_slice(&buffer[..length]),
        }
        match parse_answer(&answer) {
            Answer::Status(status) => return Ok(status),
            Answer::Incomplete => {}
            Answer::Garbage => return not_yet("what it answers is not HTTP"),
        }
    }
}

fn not_yet<T>(why: &str) -> Result<T, Found> {
    Err(Found::NotYet(why.to_owned()))
}

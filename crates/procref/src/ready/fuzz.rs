//! Properties of a service's answers, output and messages.

use super::http::{self, Answer, parse_answer};
use super::lines::{self, split_lines};
use super::notify;
use crate::fuzzing::Input;

/// The verdict about an answer does not depend on how the network splits the answer. It is final, and comes
/// before 4 KiB.
pub fn ready_http(data: &[u8]) {
    let whole = parse_answer(data);
    // Splits a short answer everywhere, and a long one at some places.
    for end in (0..data.len()).step_by(1 + data.len() / 64) {
        let part = parse_answer(&data[..end]);
        assert!(part == Answer::Incomplete || part == whole, "at {end}");
    }
    if whole == Answer::Incomplete {
        assert!(data.len() < http::LONGEST);
    }
    if let Answer::Status(status) = whole {
        assert!((100..=999).contains(&status));
    }
}

/// Lines do not depend on how reads split them. An endless line uses no more memory than the longest allowed
/// line.
pub fn ready_lines(data: &[u8]) {
    let mut input = Input::new(data);
    let (mut text, mut pieces) = (Vec::new(), Vec::new());
    let (mut partial, mut lines) = (Vec::new(), Vec::new());
    while !input.is_empty() {
        // A long input of repeated bytes.
        let [times, length] = input.bytes();
        let piece: [u8; 4] = input.bytes();
        let piece = &piece[..usize::from(length % 4) + 1];
        let piece = piece.repeat(usize::from(times) * 8 + 1);
        lines.extend(split_lines(&mut partial, &piece));
        assert!(partial.len() < lines::LONGEST);
        text.extend_from_slice(&piece);
        pieces.push(piece);
    }
    let is_short = |line: &[u8]| line.len() < lines::LONGEST;
    if text.split_inclusive(|&byte| byte == b'\n').all(is_short) {
        let mut expected: Vec<Vec<u8>> = text
            .split(|&byte| byte == b'\n')
            .map(|line| line.trim_ascii_end().to_vec())
            .collect();
        expected.pop();
        assert_eq!(lines, expected);
    }
    // Only white space is lost.
    let visible = |bytes: &[u8]| {
        let bytes = bytes.iter().filter(|byte| !byte.is_ascii_whitespace());
        bytes.copied().collect::<Vec<u8>>()
    };
    lines.push(partial);
    assert_eq!(visible(&lines.concat()), visible(&text));
}

/// Messages for `NOTIFY_SOCKET`: ready if a line is `READY=1`, and the last status counts.
pub fn ready_notify(data: &[u8]) {
    let message = notify::parse(data);
    let mut lines = data.split(|&byte| byte == b'\n');
    assert_eq!(message.ready, lines.any(|line| line == b"READY=1"));
    // A concatenation of two messages has the content of both.
    let twice = notify::parse(&[data, b"READY=1\nSTATUS=up", data].join(&b'\n'));
    assert!(twice.ready);
    let status = message.status.unwrap_or_else(|| "up".to_owned());
    assert_eq!(twice.status, Some(status));
}

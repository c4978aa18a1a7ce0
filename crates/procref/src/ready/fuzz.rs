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

/// Messages for `NOTIFY_SOCKET`: ready if a line is `READY=1`, the last status counts, and values that are not
/// refused come from the lines that contain them.
pub fn ready_notify(data: &[u8]) {
    let lines = || data.split(|&byte| byte == b'\n');
    let values = |name: &str| -> Vec<&[u8]> {
        let found = lines().filter_map(|line| line.strip_prefix(name.as_bytes()));
        found.collect()
    };
    let Ok(message) = notify::parse(data) else {
        assert!(lines().any(|line| line.starts_with(b"PROCREF_")));
        return;
    };
    assert_eq!(message.ready, lines().any(|line| line == b"READY=1"));
    let port = message.values.port.map(|port| port.to_string());
    let sent = values("PROCREF_PORT=").into_iter().map(|sent| {
        let digits = sent.iter().skip_while(|&&digit| digit == b'0');
        String::from_utf8(digits.copied().collect()).expect("digits")
    });
    assert!(port.into_iter().eq(sent));
    for (key, text) in &message.values.metadata {
        assert_eq!(values(&format!("PROCREF_META_{key}=")), [text.as_bytes()]);
    }
    let metadata = values("PROCREF_META_").into_iter();
    let metadata = metadata.filter(|line| line.contains(&b'='));
    assert_eq!(message.values.metadata.len(), metadata.count());
    // A message with more lines has the content of both.
    let more =
        notify::parse(&[data, b"READY=1\nSTATUS=up"].join(&b'\n')).expect("no invalid value");
    assert!(more.ready);
    assert_eq!(more.status, Some("up".to_owned()));
    assert_eq!(more.values, message.values);
    // A repetition of a value is refused, unless it is in another message.
    let twice = notify::parse(&[data, data].join(&b'\n'));
    assert_eq!(twice.is_ok(), message.values.is_empty());
    let mut merged = message.values.clone();
    let merges = merged.merge(message.values.clone());
    assert!(merges.is_err() || merged == message.values);
}

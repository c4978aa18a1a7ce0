//! Fuzz properties of the messages from a supervisor, and of the memory that it unmaps.

use procref_supervisor::channel::{ExecFailure, Message};
use procref_supervisor::prepared::{PAGE, Range};

use super::maps::dispensable;
use crate::fuzzing::Input;

/// Checks that bytes from the pipes decode to no message, or to a message that encodes to the same kind.
pub fn supervisor_message(data: &[u8]) {
    let mut input = Input::new(data);
    let bytes: [u8; Message::SIZE] = input.bytes();
    if let Some(message) = Message::decode(bytes) {
        assert_eq!(Message::decode(message.encode()), Some(message));
        assert_eq!(message.encode()[..4], bytes[..4], "another kind or port");
    }
    let exec_failure = ExecFailure::decode(input.bytes());
    assert_eq!(ExecFailure::decode(exec_failure.encode()), exec_failure);
}

/// Checks that no memory is unmapped that is kept, shared, or backed by a file.
pub fn proc_maps(data: &[u8]) {
    let mut input = Input::new(data);
    let keep = [(); 3].map(|()| {
        // The numbers are small, so that they overlap the ranges.
        let [address, size] = [(); 2].map(|()| u32::from_le_bytes(input.bytes()) as usize);
        let range = Range::around(address, size, PAGE);
        assert!(range.start <= address && range.end >= address + size);
        assert!(range.start % PAGE == 0 && range.end % PAGE == 0);
        range
    });
    let maps = String::from_utf8_lossy(input.rest());
    let found = dispensable(&maps, &keep);
    // Each result is a piece of the range of a line, and each kept range adds at most one piece.
    assert!(found.len() <= maps.lines().count() * (keep.len() + 1));
    let lines: Vec<_> = maps.lines().filter_map(private).collect();
    for range in &found {
        assert!(range.start < range.end, "{range:?}");
        assert!(!keep.iter().any(|kept| overlap(kept, range)), "{range:?}");
        let inside = |line: &Range| line.start <= range.start && range.end <= line.end;
        assert!(lines.iter().any(inside), "{range:?}");
    }
}

fn overlap(one: &Range, other: &Range) -> bool {
    one.start < other.end && other.start < one.end
}

/// Returns the range of a line, if it is private memory that is not backed by a file.
fn private(line: &str) -> Option<Range> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (start, end) = words.first()?.split_once('-')?;
    let (start, end) = (
        usize::from_str_radix(start, 16).ok()?,
        usize::from_str_radix(end, 16).ok()?,
    );
    let is_file = words.get(5).is_some_and(|name| name.starts_with('/'));
    (words.get(1)?.ends_with('p') && !is_file).then_some(Range { start, end })
}

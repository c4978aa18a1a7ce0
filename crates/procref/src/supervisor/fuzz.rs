//! What must hold for whatever a supervisor says, and whatever memory its starter has.

use super::maps::dispensable;
use crate::fuzzing::Input;
use procref_supervisor::channel::{ExecFailure, Message};
use procref_supervisor::prepared::{PAGE, Range};

/// What comes out of the pipes is a message that could have been sent, or none.
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

/// `/proc/self/maps`: nothing is given back that is to be kept, or is shared, or is somewhere in a file.
pub fn proc_maps(data: &[u8]) {
    let mut input = Input::new(data);
    let keep = [(); 3].map(|()| {
        // Small numbers, so that they meet the ranges.
        let [address, size] = [(); 2].map(|()| u32::from_le_bytes(input.bytes()) as usize);
        let range = Range::around(address, size, PAGE);
        assert!(range.start <= address && range.end >= address + size);
        assert!(range.start % PAGE == 0 && range.end % PAGE == 0);
        range
    });
    let maps = String::from_utf8_lossy(input.rest());
    let found = dispensable(&maps, &keep);
    // Each is a piece of a line's range; each kept range can cut one more off it.
    assert!(found.len() <= maps.lines().count() * (keep.len() + 1));
    let lines: Vec<_> = maps.lines().filter_map(private).collect();
    for range in &found {
        assert!(range.start < range.end, "{range:?}");
        assert!(!keep.iter().any(|kept| meet(kept, range)), "{range:?}");
        let inside = |line: &Range| line.start <= range.start && range.end <= line.end;
        assert!(lines.iter().any(inside), "{range:?}");
    }
}

fn meet(one: &Range, other: &Range) -> bool {
    one.start < other.end && other.start < one.end
}

/// The range of a line, if that is private memory of no file.
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

//! Fuzz properties of the messages from a supervisor, and of the memory that it unmaps.

use procref_supervisor::channel::{ExecFailure, Message};
use procref_supervisor::prepared::{PAGE, Range};

use super::maps::dispensable;
use super::objects::Needed;
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

/// Checks that no memory is unmapped that is kept, shared, or backed by a file that is needed.
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
    let code = [(); 4].map(|()| u32::from_le_bytes(input.bytes()) as usize);
    let needed = Needed {
        objects: [code[0], code[1], code[2]],
        functions: code.to_vec(),
    };
    let maps = String::from_utf8_lossy(input.rest());
    let with_files = dispensable(&maps, &keep, Some(&needed));
    let lines: Vec<_> = maps.lines().filter_map(private).collect();
    // Ranges may span gaps, but each mapping that they touch is private.
    let touched = |range: &Range| {
        let all = maps.lines().filter_map(range_of);
        let touched = all.filter(|line| overlap(line, range)).count();
        let private: Vec<_> = lines.iter().filter(|(it, _)| overlap(it, range)).collect();
        assert!(touched > 0 && touched == private.len(), "{range:?}");
        private
    };
    for range in &with_files {
        for (line, is_file) in touched(range) {
            let contains = |it: &Range, address: usize| it.start <= address && address < it.end;
            let needs = |&address: &usize| contains(range, address) && contains(line, address);
            assert!(!is_file || !code.iter().any(needs), "{range:?}");
        }
    }
    let found = dispensable(&maps, &keep, None);
    // Each result is a piece of the range of a line, and each kept range adds at most one piece.
    assert!(found.len() <= maps.lines().count() * (keep.len() + 1));
    for range in &found {
        assert!(range.start < range.end, "{range:?}");
        assert!(!keep.iter().any(|kept| overlap(kept, range)), "{range:?}");
        assert!(
            touched(range).iter().all(|(_, is_file)| !is_file),
            "{range:?}"
        );
    }
}

fn overlap(one: &Range, other: &Range) -> bool {
    one.start < other.end && other.start < one.end
}

/// Returns the range of a line, if it is private memory, and `true` if a file backs it.
fn private(line: &str) -> Option<(Range, bool)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let is_file = words.get(5).is_some_and(|name| name.starts_with('/'));
    let is_private = words.get(1)?.ends_with('p');
    is_private.then_some((range_of(line)?, is_file))
}

fn range_of(line: &str) -> Option<Range> {
    let (start, end) = line.split_whitespace().next()?.split_once('-')?;
    Some(Range {
        start: usize::from_str_radix(start, 16).ok()?,
        end: usize::from_str_radix(end, 16).ok()?,
    })
}

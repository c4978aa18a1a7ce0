//! Properties of everything that `/proc` may show of a process.

use procref_supervisor::process::Stat;

use super::on_one_line;
use super::proc_info::{age, started_at};
use crate::fuzzing::Input;

/// `/proc/PID/stat`: the start time and the fork flag are read correctly for any name of the program.
pub fn proc_stat(data: &[u8]) {
    if let Some(stat) = Stat::parse(data) {
        let _ = (age(stat.start), started_at(stat.start));
    }
    let mut input = Input::new(data);
    let start = u64::from_le_bytes(input.bytes());
    let state = b"RSDZTtXxI"[usize::from(input.byte()) % 9];
    let mut line = b"4711 (".to_vec();
    line.extend_from_slice(input.rest());
    line.extend_from_slice(b") ");
    line.push(state);
    let executed = start % 2 == 0;
    let exiting = start % 3 == 0;
    let flags = 4_194_560 + if executed { 0 } else { 0x40 } + if exiting { 0x4 } else { 0 };
    line.extend_from_slice(format!(" 1 2 3 0 -1 {flags} 5 6 7 8 9 10 11 12 20 0 1 0 ").as_bytes());
    let blocked = u32::from(state) << 16;
    let rest = format!("{start} 2703360 231 0 0 0 0 0 0 0 {blocked} 0 0\n");
    line.extend_from_slice(rest.as_bytes());
    let expected = Stat {
        state,
        start,
        executed,
        exiting,
        blocked,
    };
    assert_eq!(Stat::parse(&line), Some(expected));
}

/// `/proc/PID/cmdline`: the text for people is one line without control characters.
pub fn proc_cmdline(data: &[u8]) {
    match on_one_line(data) {
        Some(line) => {
            assert!(!line.is_empty());
            assert!(!line.contains(char::is_control), "{line:?}");
            // A byte that is no UTF-8 is shown as a character of three bytes.
            assert!(line.len() <= 3 * data.len());
        }
        None => assert!(data.iter().all(|&byte| byte == 0)),
    }
}

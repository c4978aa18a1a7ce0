//! Output to the standard output.

use std::io::{self, Write as _};

/// The standard output.
#[derive(Default)]
pub struct Output;

impl Output {
    pub fn write_line(&mut self, line: &[u8]) {
        let mut out = io::stdout();
        // An error means that the test has exited, so this process exits soon, too.
        let _ = out.write_all(line).and_then(|()| out.flush());
    }
}

//! An actor where nobody forks.

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use crate::End;
use crate::stage::Stage;

/// Standard output.
#[derive(Default)]
pub struct Mouth;

impl Mouth {
    pub fn say(&mut self, line: &[u8]) {
        let mut out = io::stdout();
        // Whoever does not listen any more has ended, and so will this process.
        let _ = out.write_all(line).and_then(|()| out.flush());
    }
}

pub fn set_umask(_: &str) {
    panic!("what Windows creates has no mask");
}

pub fn fork(_: &Arc<Stage>, _: u64, _: &Path) -> Option<End> {
    panic!("no process forks on Windows");
}

pub fn exec(_: &Stage) -> ! {
    panic!("no process executes another program in its place on Windows");
}

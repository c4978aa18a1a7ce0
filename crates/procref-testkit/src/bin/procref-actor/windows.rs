//! The commands that do not exist on Windows.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use crate::state::ActorState;

pub fn set_umask(_: &str) {
    panic!("Windows has no file mode creation mask");
}

pub fn fork(_: &Arc<ActorState>, _: u64, _: &Path) -> Option<Box<dyn Read>> {
    panic!("Windows has no fork");
}

pub fn exec(_: &ActorState) -> ! {
    panic!("Windows cannot replace the program of a process");
}

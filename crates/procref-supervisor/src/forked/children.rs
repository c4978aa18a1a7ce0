//! The list of a process's children.

use rustix::fs::{Mode, OFlags};

/// Calls `call` for each child, in the order of the kernel's list. Returns `None` if the list cannot be read.
///
/// The list of a thread has the children that this thread has forked and those that were reparented to it
/// ([proc_tid_children(5)](https://man7.org/linux/man-pages/man5/proc_tid_children.5.html)), and a supervisor
/// has one thread. A process group is not sufficient, because any process may leave its group. But every
/// process that loses its parent is reparented to the subreaper.
pub(super) fn for_each_child(call: &mut dyn FnMut(i32)) -> Option<()> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let list = rustix::fs::open(c"/proc/thread-self/children", flags, Mode::empty()).ok()?;
    let mut buffer = [0_u8; 512];
    let mut number = 0_i32;
    while let Ok(length @ 1..) = rustix::io::read(&list, &mut buffer) {
        for &byte in buffer.iter().take(length) {
            match byte {
                b'0'..=b'9' => {
                    number = number.wrapping_mul(10).wrapping_add(i32::from(byte - b'0'));
                }
                _ if number > 1 => {
                    call(number);
                    number = 0;
                }
                _ => number = 0,
            }
        }
    }
    Some(())
}

//! Threads: their ids, and the size of thread-local data on a new thread's stack.

/// Returns 0: on Windows, thread-local data is not on the stack.
pub(super) fn thread_data_size() -> usize {
    0
}

/// Returns 0: no process is forked, so no code waits for the exit of a thread.
pub(super) fn thread_id() -> u32 {
    0
}

/// Returns `false`: see [`thread_id`].
pub(super) fn is_thread_alive(_id: u32) -> bool {
    false
}

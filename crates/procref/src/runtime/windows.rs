//! The size of thread-local data on a new thread's stack.

/// Returns 0: on Windows, thread-local data is not on the stack.
pub(super) fn thread_data_size() -> usize {
    0
}

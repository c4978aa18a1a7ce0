//! How much of a new thread's stack its thread-local data takes.

/// Returns 0: Windows keeps thread-local data elsewhere.
pub(super) fn thread_data_size() -> usize {
    0
}
